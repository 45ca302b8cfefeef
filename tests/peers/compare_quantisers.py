#!/usr/bin/env python3
"""Is a model quantised by `fathom quantize` as good as one quantised by a peer?

Both quantise the same unrounded GGUF to each type. The peer's llama-perplexity then reads both
files, so that nothing but the weights differs, and compares each with the source: perplexity, and
the mean Kullback-Leibler divergence of its predictions from the source's (in nats a token), which
is far finer than perplexity. The last column is `fathom eval` on Fathom's file.

    compare_quantisers.py --fathom build/release/bin/fathom --peer FOLDER \\
        --model source-f32.gguf --text text.txt [--chunks 8] [--imatrix FILE] [TYPE ...]

With --imatrix (of `fathom eval --imatrix`, measured on another text) both use it, and the smallest types
join the list. With --calibrate TEXT each side measures its own on that text, with its own program.

    compare_quantisers.py --paired --calibrate train.txt ... as above

asks only whether the perplexities differ by more than chance: `fathom eval` reads both files, rounding
activations to 15 bits, and each token's log-probability under one is compared with the same token's under the other.
What text and model have in common cancels out in the differences, so their standard error is several
times smaller than a perplexity's. Neighbouring tokens err alike: the error is of the means of windows.

FOLDER holds llama-quantize, llama-perplexity and llama-imatrix. Needs nothing but Python's own library.
docs/compatibility.md has the results.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TYPES = ["Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
         "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "IQ4_XS", "IQ4_NL", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS"]
NEED_IMATRIX = ["IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"{command[0]}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def own_imatrices(arguments, work):
    """Each side's matrix of --calibrate, by its own program: {who: options for quantising}."""
    common = [arguments.model, arguments.calibrate, arguments.calibrate_chunks]
    files = {"fathom": Path(work) / "fathom.imatrix", "peer": Path(work) / "peer.imatrix"}
    run(arguments.fathom, "eval", common[0], "--imatrix", files["fathom"], "--text", common[1], "--window", 512,
        "--limit", common[2], "--threads", arguments.threads)
    run(arguments.peer / "llama-imatrix", "-m", common[0], "-f", common[1], "-c", 512, "--chunks", common[2],
        "-t", arguments.threads, "-o", files["peer"], "--no-ppl")
    return {who: ["--imatrix", file] for who, file in files.items()}


def quantise(arguments, who, weights, name, file):
    if who == "fathom":
        run(arguments.fathom, "quantize", arguments.model, file, "--type", name, "--threads", arguments.threads,
            *weights)
    else:
        requantise = ["--allow-requantize"] if arguments.allow_requantize else []
        run(arguments.peer / "llama-quantize", *requantise, *weights, arguments.model, file, name, arguments.threads)


def log_probabilities(arguments, file):
    said = subprocess.run([str(a) for a in [arguments.fathom, "eval", file, "--perplexity", arguments.text,
                                            "--window", 512, "--limit", arguments.chunks, "--threads",
                                            arguments.threads, "--precision", "fine", "--kv-type", "f32",
                                            "--per-token", "--json"]],
                          check=True, capture_output=True, text=True).stdout
    return [pair[1] for pair in json.loads(said)["perplexity"]["log_probabilities"]]


def error_of(values, window=256):
    """Standard error of the mean of values that err alike within a window."""
    means = [statistics.fmean(values[i:i + window]) for i in range(0, len(values) - window + 1, window)]
    return statistics.stdev(means) / math.sqrt(len(means))


def paired(arguments, types, weights, work):
    source = log_probabilities(arguments, arguments.model)
    print(f"source: perplexity {math.exp(-statistics.fmean(source)):.4f}, {len(source)} tokens scored")
    print(f"{'type':<8}{'bytes':>12}{'':>8}{'PPL Fathom':>11}{'PPL peer':>10}{'Fathom is worse by':>20}", flush=True)
    for name in types:
        scores, sizes = {}, {}
        for who in ("fathom", "peer"):
            file = Path(work) / f"{who}.gguf"
            quantise(arguments, who, weights.get(who, []), name, file)
            scores[who], sizes[who] = log_probabilities(arguments, file), file.stat().st_size
            file.unlink()
        worse = [p - f for f, p in zip(scores["fathom"], scores["peer"])]
        mean, error = statistics.fmean(worse), error_of(worse)
        verdict = "no difference seen" if abs(mean) < 2 * error else "worse" if mean > 0 else "better"
        size = f"{sizes['fathom']}" + ("" if sizes["fathom"] == sizes["peer"]
                                       else f"{sizes['fathom'] - sizes['peer']:+}")
        print(f"{name:<8}{size:>20}{math.exp(-statistics.fmean(scores['fathom'])):>11.4f}"
              f"{math.exp(-statistics.fmean(scores['peer'])):>10.4f}{100 * mean:>11.2f} +- {100 * error:.2f} %"
              f"  {verdict}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fathom", required=True, type=Path)
    parser.add_argument("--peer", required=True, type=Path, help="folder of llama-quantize and llama-perplexity")
    parser.add_argument("--model", required=True, type=Path, help="unrounded GGUF")
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--chunks", type=int, default=8, help="of 512 tokens (with --paired 256 new ones each)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--imatrix", type=Path, help="importance matrix, used by both")
    parser.add_argument("--calibrate", type=Path, metavar="TEXT", help="each side measures a matrix of its own on it")
    parser.add_argument("--calibrate-chunks", type=int, default=32, help="of 512 tokens (32)")
    parser.add_argument("--paired", action="store_true", help="differences of perplexity alone, with their errors")
    parser.add_argument("--allow-requantize", action="store_true", help="take a Q8_0 model as the source")
    parser.add_argument("types", nargs="*", metavar="TYPE", help=" ".join(TYPES))
    arguments = parser.parse_args()
    if arguments.imatrix and arguments.calibrate:
        parser.error("--imatrix is one matrix for both, --calibrate one for each: give one of them")

    types = arguments.types or TYPES + (NEED_IMATRIX if arguments.imatrix or arguments.calibrate else [])
    for name in ("fathom", "peer", "model", "text", "imatrix", "calibrate"):
        if getattr(arguments, name):
            setattr(arguments, name, getattr(arguments, name).resolve())
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)  # peers leave logs where they run
        weights = {who: ["--imatrix", arguments.imatrix] for who in ("fathom", "peer")} if arguments.imatrix else {}
        if arguments.calibrate:
            weights = own_imatrices(arguments, work)
        if arguments.paired:
            paired(arguments, types, weights, work)
            return
        base = Path(work) / "base"
        common = ["-f", arguments.text, "-c", 512, "-b", 512, "--chunks", arguments.chunks, "-t",
                  arguments.threads, "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--kl-divergence-base", base]
        said = run(arguments.peer / "llama-perplexity", "-m", arguments.model, *common)
        print("source: perplexity", re.search(r"PPL[^=]*= *([\d.]+)", said)[1])
        print(f"{'type':<8}{'bytes':>12}{'':>4}{'KL Fathom':>11}{'KL peer':>11}{'PPL Fathom':>12}"
              f"{'PPL peer':>10}{'fathom eval':>13}", flush=True)
        for name in types:
            row = {}
            for who in ("fathom", "peer"):
                file = Path(work) / f"{who}.gguf"
                quantise(arguments, who, weights.get(who, []), name, file)
                if who == "fathom":
                    own = json.loads(subprocess.run(
                        [str(a) for a in [arguments.fathom, "eval", file, "--perplexity", arguments.text,
                                          "--window", 512, "--limit", arguments.chunks, "--threads",
                                          arguments.threads, "--kv-type", "f32", "--json"]],
                        check=True, capture_output=True, text=True).stdout)["perplexity"]["perplexity"]
                said = run(arguments.peer / "llama-perplexity", "-m", file, *common, "--kl-divergence")
                row[who] = (file.stat().st_size, float(re.search(r"Mean +KLD: *([\d.]+)", said)[1]),
                            float(re.search(r"Mean PPL\(Q\) *: *([\d.]+)", said)[1]))
                file.unlink()
            ours, peer = row["fathom"], row["peer"]
            size = f"{ours[0]}" if ours[0] == peer[0] else f"{ours[0]}{ours[0] - peer[0]:+}"
            print(f"{name:<8}{size:>16}{ours[1]:>11.5f}{peer[1]:>11.5f}{ours[2]:>12.3f}{peer[2]:>10.3f}{own:>13.3f}",
                  flush=True)


if __name__ == "__main__":
    main()
