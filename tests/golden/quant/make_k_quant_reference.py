#!/usr/bin/env python3
"""Writes what ggml's own K-quant and IQ encoders make of fixed data, the bar for ours.

usage: make_k_quant_reference.py LIBGGML_BASE_SO   (versions in README.md)

The `gguf` package cannot write K-quants, hence ggml's C library is the oracle. A fixture holds
float32 rows [8, 1024], float32 importance [1024], then (k_quants.*) the rows' blocks as Q2_K, Q3_K, Q4_K,
Q5_K, Q6_K without importance, then as the same five with it; or (iq.*) as those of IQ_BYTES that can do
without, then as all of IQ_BYTES with it.
"""
import ctypes
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 20261122
ROWS, COLUMNS = 8, 1024
BLOCK_BYTES = {"q2_K": 84, "q3_K": 110, "q4_K": 144, "q5_K": 176, "q6_K": 210}

# Bytes of 256 elements, and the type's number in ggml, which wants its tables made first.
IQ_BYTES = {"iq1_s": (50, 19), "iq1_m": (56, 29), "iq2_xxs": (66, 16), "iq2_xs": (74, 17), "iq2_s": (82, 22),
            "iq3_xxs": (98, 18), "iq3_s": (110, 21), "iq4_xs": (136, 23), "iq4_nl": (144, 20)}
NEED_IMPORTANCE = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs")


def encode(library, name: str, size: int, rows: np.ndarray, importance: np.ndarray | None) -> bytes:
    function = getattr(library, f"quantize_{name}")
    function.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(rows.size // 256 * size)
    weights = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
    written = function(rows.ctypes.data_as(ctypes.c_void_p), out, ctypes.c_int64(ROWS),
                       ctypes.c_int64(COLUMNS), weights)
    assert written == len(out)
    return out.raw


def main() -> None:
    library = ctypes.CDLL(sys.argv[1])
    for _, number in IQ_BYTES.values():
        library.ggml_quantize_init(number)
    rng = np.random.default_rng(SEED)
    importance = np.exp(rng.normal(0, 1.5, COLUMNS)).astype(np.float32)
    data = {
        "gauss": rng.normal(0, 0.02, (ROWS, COLUMNS)),
        "heavy": 0.02 * rng.standard_t(3, (ROWS, COLUMNS)),
    }
    for name, values in data.items():
        rows = np.ascontiguousarray(values, dtype=np.float32)
        pieces = [rows.tobytes(), importance.tobytes()]
        for weights in (None, importance):
            pieces += [encode(library, qtype, size, rows, weights) for qtype, size in BLOCK_BYTES.items()]
        (HERE / f"k_quants.{name}.bin").write_bytes(b"".join(pieces))
        pieces = [rows.tobytes(), importance.tobytes()]
        for weights in (None, importance):
            pieces += [encode(library, qtype, size, rows, weights) for qtype, (size, _) in IQ_BYTES.items()
                       if weights is not None or qtype not in NEED_IMPORTANCE]
        (HERE / f"iq.{name}.bin").write_bytes(b"".join(pieces))


if __name__ == "__main__":
    main()
