#!/usr/bin/env python3
"""Times Hugging Face `tokenizers` on one thread, on the text of tokenizer_bench.

    python3 bench/tokenizer_oracle.py [--text FILE]... [--gguf FILE]...

Needs tokenizers and gguf. The fastest call is used (encode_batch_fast, without offsets), and the best
of five runs, so that its cache of words is warm.
"""
import argparse
import os
import pathlib
import struct
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
SOURCE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SOURCE / "tests/golden/tokenizers"))
import oracle  # noqa: E402


def golden_text():
    data, at, text = (SOURCE / "tests/golden/tokenizers/strings.bin").read_bytes(), 0, []
    while at < len(data):
        size, = struct.unpack_from("<H", data, at)
        try:
            text.append(data[at + 2:at + 2 + size].decode() + "\n")
        except UnicodeDecodeError:
            pass
        at += 2 + size
    return "".join(text)


def prompts(text):
    """Whole lines, at least 4 KiB together, as in tokenizer_bench.cpp."""
    data, begin = text.encode(), 0
    while begin < len(data):
        end = data.find(b"\n", min(begin + 4096, len(data)))
        end = len(data) if end < 0 else end + 1
        yield data[begin:end].decode()
        begin = end


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--gguf", action="append", default=[])
    arguments = parser.parse_args()
    texts = {pathlib.Path(p).name: pathlib.Path(p).read_text() for p in arguments.text}
    assets = SOURCE / ".cache/assets"
    for name in ("deepseek_v3", "llama3", "qwen3", "llama2", "smollm2", *arguments.gguf):
        path = assets / "tokenizers" / name / "tokenizer.json"
        if name.endswith(".gguf"):
            path = pathlib.Path(name)
            name = path.stem
        if name == "smollm2":
            path = assets / "SmolLM2-135M-Instruct.Q4_1.gguf"
        start = time.perf_counter()
        tokenizer = oracle.load(path).tokenizer
        loaded = time.perf_counter() - start
        for label, text in (texts or {"golden": golden_text()}).items():
            chunks = list(prompts(text))
            best, tokens = 1e9, 0
            for _ in range(5):
                start = time.process_time()
                encoded = tokenizer.encode_batch_fast(chunks, add_special_tokens=False)
                best = min(best, time.process_time() - start)
                tokens = sum(len(e.ids) for e in encoded)
            print(f"encode/{name}/{label}: {len(text.encode()) / best / 2**20:.2f} MiB/s, "
                  f"{tokens} tokens (loaded in {loaded:.2f} s)")


main()
