"""Writes mixed.safetensors and values of it with the safetensors package.

tests/formats/safetensors_writer_test.cpp writes the same with Fathom's writer and compares bytes.
"""
import pathlib
import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
tensors = {
    "z.f32": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a.bf16": torch.arange(4).to(torch.bfloat16),
    "b.f16": torch.arange(3).to(torch.float16),
    "fp8": torch.tensor([[1.0, -2.0, 448.0]]).to(torch.float8_e4m3fn),
    "scalar": torch.tensor(7.5),
    "empty": torch.zeros(0, 4),
    "i64": torch.tensor([1, -1]),
    "i32": torch.tensor([1, -1], dtype=torch.int32),
    "i16": torch.tensor([1, -1], dtype=torch.int16),
    "i8": torch.tensor([1, -1], dtype=torch.int8),
    "u8": torch.tensor([1, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "f64": torch.tensor([0.1], dtype=torch.float64),
    'quo"ted\\ \u00fc': torch.tensor([1.0]),
}
save_file(tensors, here / "mixed.safetensors", metadata={"format": "pt"})
