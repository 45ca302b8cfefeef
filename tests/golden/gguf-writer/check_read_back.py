"""Reads files that Fathom wrote with the reference packages and compares them with the originals.

usage: python check_read_back.py ORIGINAL WRITTEN

Both GGUF (the written one quantised or copied from the original), or both safetensors files or
Hugging Face folders. Tensors of one type must be equal in every bit; a tensor of another type is
compared after dequantising, and may differ by 8 % (relative root mean square; Q4 types reach
about 7 %). Exit code 1 on any difference.
"""
import pathlib
import sys

import numpy

original, written = map(pathlib.Path, sys.argv[1:])
failures = []


def check_gguf():
    import gguf
    a, b = gguf.GGUFReader(original), gguf.GGUFReader(written)
    passed_over = ("general.file_type", "general.quantization_version", "split.", "GGUF.")
    for name, field in a.fields.items():
        if name.startswith(passed_over):
            continue
        if name not in b.fields or b.fields[name].contents() != field.contents():
            failures.append(f"key {name}")
    ours = {t.name: t for t in b.tensors}
    if set(ours) != {t.name for t in a.tensors}:
        failures.append("the sets of tensors differ")
        return
    worst = 0.0
    for tensor in a.tensors:
        mine = ours[tensor.name]
        if list(mine.shape) != list(tensor.shape):
            failures.append(f"shape of {tensor.name}")
        elif mine.tensor_type == tensor.tensor_type:
            if not numpy.array_equal(mine.data, tensor.data):
                failures.append(f"bytes of {tensor.name}")
        else:
            x = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float64)
            y = gguf.dequantize(mine.data, mine.tensor_type).astype(numpy.float64)
            error = numpy.sqrt(((x - y) ** 2).mean() / max((x ** 2).mean(), 1e-30))
            worst = max(worst, error)
            if not error < 0.08:
                failures.append(f"{tensor.name}: relative error {error:.4f}")
    print(f"{len(ours)} tensors, worst relative error {worst:.4f}")


def check_safetensors():
    import torch
    from safetensors import safe_open

    def load(path):
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        tensors = {}
        for file in files:
            with safe_open(file, "pt") as opened:
                tensors.update({name: opened.get_tensor(name) for name in opened.keys()})
        return tensors

    a, b = load(original), load(written)
    if set(a) != set(b):
        failures.append("the sets of tensors differ")
        return
    for name, tensor in a.items():
        same = tensor.dtype == b[name].dtype and tensor.shape == b[name].shape
        if not same or not torch.equal(*(t.flatten().view(torch.uint8) for t in (tensor, b[name]))):
            failures.append(name)
    print(f"{len(a)} tensors")


check_gguf() if original.suffix == ".gguf" else check_safetensors()
for failure in failures:
    print("differs:", failure)
sys.exit(bool(failures))
