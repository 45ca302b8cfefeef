#!/usr/bin/env python3
"""Do programs of the llama.cpp family load what `fathom convert` writes, and compute the same?

Every tiny checkpoint of tests/golden/models that GGUF can state is given a tokenizer, converted,
and read by a peer's llama-perplexity and by `fathom eval`. Both give the log-probabilities of the
same tokens at the same positions; the script compares them one by one.

    compare_with_peer.py --fathom build/release/bin/fathom --peer PATH/llama-perplexity [CASE ...]

The peer runs with its caches in F32 and without flash attention unless --peer-options says
otherwise; what is left is the order of sums, and that it stores log-probabilities in 16 bits
(steps of up to 24 / 65535). A model passes when 95 % of its positions agree within the tolerance:
where two experts score alike, rounding may choose the other one, and that position is off by more.
A wrong rope, a wrong expert or a lost bias is off by 0.1 nats and more everywhere.

Needs nothing but Python's own library. docs/compatibility.md has the results.
"""

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "models"
WINDOW = 256  # newer llama.cpp rounds contexts up to this

# case: the ways to convert it. deepseek2 has mscale and mscale_all_dim apart, deepseek-moe-freq a
# MoE layer only every second: GGUF can state neither, and convert refuses them.
CASES = {
    "llama-gqa": [[]],
    "llama-mqa-llama3": [[]],
    "llama-bias-linear": [[]],
    "qwen2": [[]],
    "qwen2-yarn": [[]],
    "qwen3": [[]],
    "deepseek-moe": [[]],
    "deepseek2-lite": [[], ["--split-kv-b"]],
    "deepseek3": [[], ["--split-kv-b"]],
    "deepseek3-plain": [[], ["--split-kv-b"]],
}
# The family knows a deepseek2 without q_lora_rank by its number of layers alone.
LITE_LAYERS = 27


def token(i):
    return f"<{i:03}>"


def write_tokenizer(folder, vocab_size):
    """Every id is an added token of its own, so that a text can name any sequence of ids.

    "a", "b" and "ab" stand in the places of three of them: a BPE without merges would be no model
    that the peers know.
    """
    base = ["a", "b", "ab"]
    added = range(len(base), vocab_size)
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    tokenizer = dict(
        version="1.0",
        added_tokens=[dict(id=i, content=token(i), **flags) for i in added],
        normalizer=None,
        pre_tokenizer=dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True),
        post_processor=None,
        decoder=dict(type="ByteLevel"),
        model=dict(type="BPE", vocab={t: i for i, t in enumerate(base)}, merges=["a b"]),
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        add_bos_token=False, tokenizer_class="PreTrainedTokenizerFast")))


def read_safetensors(path):
    """name: (dtype, shape, bytes)"""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {
        name: (t["dtype"], t["shape"], data[8 + size + t["data_offsets"][0] : 8 + size + t["data_offsets"][1]])
        for name, t in header.items()
    }


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[at, at + len(data)])
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def scaled(tensor, factor):
    dtype, shape, data = tensor
    values = struct.unpack(f"<{len(data) // 4}f", data)
    return dtype, shape, struct.pack(f"<{len(values)}f", *(v * factor for v in values))


def write_checkpoint(source, folder, one_group):
    """The golden checkpoint, changed where a peer could not tell right from wrong by it."""
    config = json.loads((source / "config.json").read_text())
    tensors = read_safetensors(source / "model.safetensors")
    if config.get("tie_word_embeddings"):
        # Logits so wide that all but one token would lie below what a peer's file can hold.
        tensors["model.norm.weight"] = scaled(tensors["model.norm.weight"], 0.1)
    if "kv_lora_rank" in config and not config.get("q_lora_rank"):
        layers, last = config["num_hidden_layers"], config["num_hidden_layers"] - 1
        for name in [n for n in tensors if n.startswith(f"model.layers.{last}.")]:
            for layer in range(layers, LITE_LAYERS):
                tensors[name.replace(f".{last}.", f".{layer}.", 1)] = tensors[name]
        config["num_hidden_layers"] = LITE_LAYERS
    if one_group and "n_group" in config:
        config["n_group"] = config["topk_group"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return config["vocab_size"]


def read_peer(path, ids):
    """Log-probability of each token of the first window's second half, from a base file.

    The format is llama-perplexity's: "_logits_", n_ctx, n_vocab, n_chunk, the tokens, then a row
    for each position: F32 step and lowest log-probability, then 16-bit steps above it.
    """
    data = path.read_bytes()
    assert data[:8] == b"_logits_", f"{path} holds no log-probabilities"
    n_ctx, n_vocab, n_chunk = struct.unpack_from("<Iii", data, 8)
    assert n_ctx == WINDOW, f"the peer took windows of {n_ctx}"
    tokens = struct.unpack_from(f"<{n_ctx * n_chunk}i", data, 20)
    assert list(tokens) == ids[: len(tokens)], "the peer reads other tokens from the text"
    at = 20 + 4 * len(tokens)
    row = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    result = []
    for position in range(n_ctx // 2, n_ctx - 1):
        step, lowest = struct.unpack_from("<ff", data, at)
        (q,) = struct.unpack_from("<H", data, at + 8 + 2 * ids[position + 1])
        result.append((lowest + step * q, lowest))
        at += row
    return result


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        reason = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
        raise RuntimeError(f"{Path(command[0]).name}: exit code {done.returncode}: {reason}")
    return done


def compare(arguments, case, options, work):
    folder = work / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    vocab_size = write_checkpoint(GOLDEN / case, folder, arguments.one_group)
    write_tokenizer(folder, vocab_size)
    rng = random.Random(case)
    ids = [rng.randrange(3, vocab_size) for _ in range(2 * WINDOW + 8)]
    text = work / "text"
    text.write_text("".join(map(token, ids)))

    gguf = work / "model.gguf"
    run([arguments.fathom, "convert", folder, gguf, "--type", arguments.type, *options])
    ours = json.loads(run([
        arguments.fathom, "eval", gguf, "--perplexity", text, "--window", WINDOW, "--limit", 1,
        "--precision", "f32", "--kv-type", "f32", "--per-token", "--json"]).stdout)["perplexity"]["log_probabilities"]
    assert [i for i, _ in ours] == ids[WINDOW // 2 : WINDOW], "Fathom reads other tokens from the text"
    base = work / "base"
    run([arguments.peer, "-m", gguf, "-f", text, "-c", WINDOW, "-b", WINDOW, "--chunks", 1, "-t", 1,
         "--kl-divergence-base", base, *arguments.peer_options.split()])
    theirs = read_peer(base, ids)
    # What is less likely than the lowest that the peer keeps is that to it.
    return [abs(max(a, lowest) - b) for (_, a), (b, lowest) in zip(ours[1:], theirs, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fathom", required=True, type=Path)
    parser.add_argument("--peer", required=True, type=Path, help="the peer's llama-perplexity")
    parser.add_argument("--type", default="F32", help="what to convert to")
    parser.add_argument("--tolerance", type=float, default=2e-4, help="in nats")
    parser.add_argument("--peer-options", default="-ctk f32 -ctv f32 -fa off", metavar="'OPTIONS'",
                        help="default: %(default)s")
    parser.add_argument("--one-group", action="store_true",
                        help="experts in one group, for a peer that knows no groups")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    arguments = parser.parse_args()
    failures = 0
    print(f"{'model':<30}{'positions':>10}{'median':>10}{'95 %':>10}{'largest':>10}  difference in nats")
    arguments.fathom, arguments.peer = arguments.fathom.resolve(), arguments.peer.resolve()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)  # peers leave logs where they run
        for case in arguments.cases or CASES:
            for options in CASES[case]:
                name = " ".join([case, *options])
                try:
                    differences = sorted(compare(arguments, case, options, Path(work)))
                except (RuntimeError, AssertionError) as error:
                    print(f"{name:<30}  FAILED: {error}")
                    failures += 1
                    continue
                count = len(differences)
                most = differences[count * 95 // 100]
                wrong = most > arguments.tolerance
                failures += wrong
                print(f"{name:<30}{count:>10}{differences[count // 2]:>10.1e}{most:>10.1e}"
                      f"{differences[-1]:>10.1e}{'  TOO FAR' if wrong else ''}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
