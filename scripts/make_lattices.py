#!/usr/bin/env python3
"""Writes src/tensor/lattice_bits.h: which points of {0..base-1}^n belong to the IQ types' lattices.

usage: make_lattices.py | clang-format > src/tensor/lattice_bits.h     (needs gguf 0.19 and numpy)

A lattice is a set of points, and blocks name its members by their rank. Points are numbered by their
digits, the last being the most significant; bit p of the set tells whether point p is in it. The
script fails if a lattice's members are not in that order, for then ranks would mean something else.
"""
import numpy as np
from gguf import quants

LATTICES = {
    "kIq2XxsBits": (quants.IQ2_XXS, "256 of {0, 1, 2}^8"),
    "kIq2XsBits": (quants.IQ2_XS, "512 of {0, 1, 2}^8"),
    "kIq2SBits": (quants.IQ2_S, "1024 of {0, 1, 2}^8"),
    "kIq1Bits": (quants.IQ1_S, "2048 of {0, 1, 2}^8"),
    "kIq3XxsBits": (quants.IQ3_XXS, "256 of {0..7}^4"),
    "kIq3SBits": (quants.IQ3_S, "512 of {0..7}^4"),
}


def main() -> None:
    print("// Made by scripts/make_lattices.py from the `gguf` package's tables: the lattices of the IQ types as\n"
          "// sets of points. See lattices.h for what the bits mean.\n"
          "#pragma once\n\n#include <array>\n#include <cstdint>\n\nnamespace fathom::lattice {\n")
    for name, (qtype, what) in LATTICES.items():
        qtype.init_grid()
        count, n = qtype.grid_shape
        base = len(qtype.grid_map)
        digits = np.searchsorted(np.array(qtype.grid_map), qtype.grid.reshape(count, n).astype(int))
        points = (digits * base ** np.arange(n)).sum(axis=1)
        assert (np.diff(points) > 0).all(), name
        words = [0] * -(-base ** n // 64)
        for p in points.tolist():
            words[p // 64] |= 1 << (p % 64)
        print(f"// {what}\ninline constexpr std::array<std::uint64_t, {len(words)}> {name}{{")
        print("    " + ",\n    ".join(f"{w:#x}" for w in words) + "};\n")
    print("}  // namespace fathom::lattice")


if __name__ == "__main__":
    main()
