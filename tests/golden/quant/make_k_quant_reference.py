#!/usr/bin/env python3
"""Writes what ggml's own K-quant encoders make of fixed data, the bar for ours.

usage: make_k_quant_reference.py LIBGGML_BASE_SO   (versions in README.md)

The `gguf` package cannot write K-quants, hence ggml's C library is the oracle. A fixture holds
float32 rows [8, 1024], float32 importance [1024], then the rows' blocks as Q2_K, Q3_K, Q4_K, Q5_K,
Q6_K without importance, then as the same five with it.
"""
import ctypes
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 20261122
ROWS, COLUMNS = 8, 1024
BLOCK_BYTES = {"q2_K": 84, "q3_K": 110, "q4_K": 144, "q5_K": 176, "q6_K": 210}


def encode(library, name: str, rows: np.ndarray, importance: np.ndarray | None) -> bytes:
    function = getattr(library, f"quantize_{name}")
    function.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(rows.size // 256 * BLOCK_BYTES[name])
    weights = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
    written = function(rows.ctypes.data_as(ctypes.c_void_p), out, ctypes.c_int64(ROWS),
                       ctypes.c_int64(COLUMNS), weights)
    assert written == len(out)
    return out.raw


def main() -> None:
    library = ctypes.CDLL(sys.argv[1])
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
            pieces += [encode(library, qtype, rows, weights) for qtype in BLOCK_BYTES]
        (HERE / f"k_quants.{name}.bin").write_bytes(b"".join(pieces))


if __name__ == "__main__":
    main()
