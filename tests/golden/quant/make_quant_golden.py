#!/usr/bin/env python3
"""Writes the fixtures of tests/tensor: what the `gguf` package and PyTorch make of fixed inputs.

Run it in this folder; it needs gguf, numpy and torch (versions in README.md). Same seed, same files.
"""
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

HERE = Path(__file__).parent
SEED = 20261121

# Where each type keeps its F16 fields, in bytes from the block's start.
F16_FIELDS = {
    Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
# IQ1_M has no field: the nibbles of its scale stand on top of four words of scales.
IQ_F16_FIELDS = {
    Type.IQ1_S: [0], Type.IQ1_M: [], Type.IQ2_XXS: [0], Type.IQ2_XS: [0], Type.IQ2_S: [0], Type.IQ3_XXS: [0],
    Type.IQ3_S: [0], Type.IQ4_NL: [0], Type.IQ4_XS: [0],
}
# Zeros, subnormals and their borders, the largest finite values, ordinary ones.
EXTREME = [0x0000, 0x8000, 0x0001, 0x8001, 0x0200, 0x03FF, 0x83FF, 0x0400, 0x0401, 0x7BFF, 0xFBFF,
           0x3C00, 0xBC00]
# Infinities, quiet and signalling NaN.
NON_FINITE = [0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7C01, 0xFFFF]


def write(name: str, *arrays: np.ndarray) -> None:
    (HERE / name).write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))


def set_f16(qtype: Type, blocks: np.ndarray, fields: list[int], bits: np.ndarray) -> None:
    if qtype == Type.IQ1_M:
        for k in range(4):
            nibble = (bits[:, 0].astype(np.uint16) >> (4 * k) & 15).astype(np.uint8)
            blocks[:, 49 + 2 * k] = blocks[:, 49 + 2 * k] & 15 | nibble << 4
        return
    for k, field in enumerate(fields):
        blocks[:, field:field + 2] = bits[:, k:k + 1].astype("<u2").view(np.uint8)


def dequantise_fixture(rng: np.random.Generator, qtype: Type) -> None:
    """File: uint32 count, the blocks, their float32 values."""
    elements, size = GGML_QUANT_SIZES[qtype]
    fields = (F16_FIELDS | IQ_F16_FIELDS)[qtype]
    anything = rng.integers(0, 256, (8, size), dtype=np.uint8)  # scales too
    sensible = rng.integers(0, 256, (8, size), dtype=np.uint8)
    scales = rng.normal(0, 0.01, (8, max(1, len(fields)))).astype(np.float16).view(np.uint16)
    set_f16(qtype, sensible, fields, scales)
    special = EXTREME + NON_FINITE
    border = rng.integers(0, 256, (len(special), size), dtype=np.uint8)
    # The second field meets another special value each time, so that inf - inf occurs too.
    pairs = np.array([[v, special[(3 * k + 1) % len(special)]] for k, v in enumerate(special)])
    set_f16(qtype, border, fields, pairs)
    blocks = np.concatenate([anything, sensible, border])
    with np.errstate(all="ignore"):
        values = dequantize(blocks, qtype)
    assert values.shape == (len(blocks), elements) and values.dtype == np.float32
    write(f"{qtype.name}.dequantise.bin", np.array([len(blocks)], dtype="<u4"), blocks, values)


def rows_to_quantise(rng: np.random.Generator) -> np.ndarray:
    """[48, 32]: ordinary, heavy-tailed, constant, one-sided, sparse, tiny and large blocks."""
    gauss = [rng.normal(0, s, (4, 32)) for s in (1, 0.02, 1e-3, 300.0)]
    heavy = rng.standard_t(2, (8, 32)) * 0.05
    outlier = rng.normal(0, 0.01, (4, 32))
    outlier[np.arange(4), [0, 15, 16, 31]] = [9.0, -9.0, 30.0, -0.5]
    one_sided = np.abs(rng.normal(0, 1, (4, 32))) + 2
    # Multiples of the scale: every rounding is a tie or exact.
    ties = rng.integers(-15, 16, (4, 32)) / 2.0
    constant = np.repeat(np.array([[0.0], [-0.0], [0.25], [-3.0]]), 32, axis=1)
    # Scales that are subnormal or zero as F16 (but 1 / scale still finite).
    tiny = rng.normal(0, 1, (4, 32)) * np.array([[1e-5], [1e-6], [1e-7], [1e-20]])
    opposite = np.zeros((4, 32))  # the largest magnitude twice, with both signs: the first one counts
    opposite[:, 3], opposite[:, 20] = [1, -1, 2, -2], [-1, 1, -2, 2]
    rows = np.concatenate(gauss + [heavy, outlier, one_sided, ties, constant, tiny, opposite])
    return rows.astype(np.float32)


def quantise_fixtures(rng: np.random.Generator) -> None:
    rows = rows_to_quantise(rng)
    write("rows.f32.bin", rows)
    for qtype in (Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1):
        write(f"{qtype.name}.quantise.bin", quantize(rows, qtype))


def scalar_fixtures(rng: np.random.Generator) -> None:
    """Files: float32 inputs and the codes they become; 256 values of E4M3."""
    bits = rng.integers(0, 2**32, 1000, dtype=np.uint32)
    ordinary = rng.normal(0, 1, 500).astype(np.float32) * np.exp(rng.uniform(-25, 15, 500))
    borders = np.array([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, 65536, 2**-14,
                        2**-24, 2**-25, 1.0000001 * 2**-25, 3 * 2**-25, 448, 464, 464.00003, 480,
                        2**-6, 2**-9, 2**-10, 1.0000001 * 2**-10, 3 * 2**-10, 3.4e38, -1e-45])
    # Exactly between two codes of each format: ties must go to even.
    f16 = rng.integers(0, 0x7BFF, 100, dtype=np.uint16)
    f16_ties = (f16.view(np.float16).astype(np.float64)
                + (f16 + 1).astype(np.uint16).view(np.float16)) / 2
    bf16_ties = ((rng.integers(0, 0x7F7F, 100, dtype=np.uint32) << 16) | 0x8000).view(np.float32)
    e4m3 = torch.arange(0x7E, dtype=torch.uint8).view(torch.float8_e4m3fn).double().numpy()
    e4m3_ties = (e4m3[:-1] + e4m3[1:]) / 2
    values = np.concatenate([bits.view(np.float32), ordinary.astype(np.float32),
                             borders.astype(np.float32), f16_ties.astype(np.float32), bf16_ties,
                             e4m3_ties.astype(np.float32)])
    # NaN payloads differ between implementations and platforms; the sign and being NaN do not.
    values = np.where(np.isnan(values), np.float32(np.nan), values)
    write("scalars.f32.bin", values)
    with np.errstate(over="ignore"):
        write("scalars.f16.bin", quantize(values, Type.F16))
    write("scalars.bf16.bin", quantize(values, Type.BF16))
    write("scalars.e4m3.bin",
          torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy())
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    write("e4m3_values.f32.bin", codes.float().numpy())


def fp8_fixture(rng: np.random.Generator) -> None:
    """DeepSeek-V3's weight_dequant on a 130 x 150 weight: codes, 2 x 2 scales, values."""
    codes = rng.integers(0, 256, (130, 150), dtype=np.uint8)
    codes[(codes & 0x7F) == 0x7F] = 0x3B  # no NaN, as in a real checkpoint
    scale = np.exp(rng.normal(-8, 1, (2, 2))).astype(np.float32)
    weight = torch.from_numpy(codes).view(torch.float8_e4m3fn).float()
    spread = torch.from_numpy(scale).repeat_interleave(128, 0).repeat_interleave(128, 1)
    write("fp8_blocks.bin", codes, scale, (weight * spread[:130, :150]).numpy())


def main() -> None:
    rng = np.random.default_rng(SEED)
    for qtype in F16_FIELDS:
        dequantise_fixture(rng, qtype)
    quantise_fixtures(rng)
    scalar_fixtures(rng)
    fp8_fixture(rng)
    # A stream of its own, so that the files above stay what they were.
    rng = np.random.default_rng(SEED + 1)
    for qtype in IQ_F16_FIELDS:
        dequantise_fixture(rng, qtype)


if __name__ == "__main__":
    main()
