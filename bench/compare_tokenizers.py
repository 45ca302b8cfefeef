#!/usr/bin/env python3
"""Encoding speed beside Hugging Face `tokenizers`, one thread each, as a table.

    python3 bench/compare_tokenizers.py [--rounds 3] [--text FILE]... [--gguf FILE]...

Runs build/release/bin/tokenizer_bench and bench/tokenizer_oracle.py by turns on the same text, so
that a busy host slows both, and prints the medians (MiB of text a second of CPU time). Needs
tokenizers and gguf; both must give the same number of tokens, or it stops.
"""
import argparse
import collections
import json
import pathlib
import re
import statistics
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=SOURCE / "build/release/bin/tokenizer_bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--gguf", action="append", default=[])
    arguments = parser.parse_args()
    inputs = [word for option in ("text", "gguf") for value in getattr(arguments, option)
              for word in ("--" + option, value)]
    speed = collections.defaultdict(lambda: ([], []))
    tokens = collections.defaultdict(set)
    for _ in range(arguments.rounds):
        ours = subprocess.run([arguments.bench, *inputs, "--benchmark_filter=^encode", "--benchmark_format=json",
                               "--benchmark_min_time=0.3"], check=True, capture_output=True, text=True).stdout
        for row in json.loads(ours)["benchmarks"]:
            speed[row["name"]][0].append(row["bytes_per_second"] / 2**20)
            tokens[row["name"]].add(int(row["tokens"]))
        theirs = subprocess.run([sys.executable, SOURCE / "bench/tokenizer_oracle.py", *inputs],
                                check=True, capture_output=True, text=True).stdout
        for name, rate, count in re.findall(r"(encode/\S+): ([\d.]+) MiB/s, (\d+) tokens", theirs):
            speed[name][1].append(float(rate))
            tokens[name].add(int(count))
    print("| vocabulary | text | Fathom | tokenizers | |\n|---|---|---|---|---|")
    for name, (ours, theirs) in speed.items():
        if len(tokens[name]) != 1:
            sys.exit(f"{name}: {sorted(tokens[name])} tokens: not the same ids")
        _, vocabulary, text = name.split("/", 2)
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"| {vocabulary} | {text} | {a:.1f} | {b:.2f} | {a / b:.1f}x |")


main()
