#!/usr/bin/env python3
"""Makes strings.bin, <tokenizer>.hash, .split and runs.json: what the oracle gives for 25,000 strings.

    python3 make_golden.py ASSETS VOCABULARIES [TOKENIZER...]

ASSETS is .cache/assets (scripts/fetch_test_assets); VOCABULARIES a folder with llama.cpp's
deepseek-llm.gguf, deepseek-coder.gguf, gpt-2.gguf and llama-spm.gguf. With names, only these
tokenizers' hashes are made anew. See README.md for versions.
"""
import json
import pathlib
import random
import struct
import sys
import unicodedata

import oracle

HERE = pathlib.Path(__file__).parent
SENTENCES = (HERE / "sentences.txt").read_text().splitlines()
CODE = (HERE / "code.txt").read_text().splitlines()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and c != 0xFFFC]
ASSIGNED = [c for c in POINTS if unicodedata.category(chr(c)) not in ("Cn", "Co")]
MARKS = [chr(c) for c in ASSIGNED if unicodedata.category(chr(c)) == "Mn"]
LETTERS = [chr(c) for c in ASSIGNED if unicodedata.category(chr(c))[0] == "L"]
NUMBERS = [chr(c) for c in ASSIGNED if unicodedata.category(chr(c))[0] == "N"]
DECOMPOSABLE = [chr(c) for c in ASSIGNED if unicodedata.normalize("NFD", chr(c)) != chr(c)]
EMOJI = [chr(c) for r in ((0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x2B00, 0x2BFF))
         for c in range(*r) if unicodedata.category(chr(c)) == "So"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\u00a0", "\u3000", "\u2028",
          "\u2009", "\x0b", "\x0c", "\x85", "\u200b", "\ufeff"]
SEPARATORS = [" ", " ", " ", "\n", "\t", "  ", "\r\n", ", ", "… ", "\u00a0", "", "-", "'", "/", "_",
              " — ", "。", "!\n\n", "   \n"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "<think>",
           "</think>", "<|begin_of_text|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>", "<｜User｜>",
           "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<tool_call>", "<|im_", "<|", "|>", "<s",
           "<0x41>", "<｜", "▁", "<|EOT|>", "[PAD100015]", "<repo_name>", "Ġ", "Ċ"]
CASES = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'VE", "'m", "'M", "'ll", "'LL", "'lL",
         "'d", "'D", "'ſ", "’s", "''", "'x", "I", "don", "We", "you", " ", "X", "1", "é", "'"]


def words(rng, text, most):
    parts = text.split(" ")
    start = rng.randrange(len(parts))
    return " ".join(parts[start:start + rng.randint(1, most)])


def slice_of(rng, text, most):
    start = rng.randrange(len(text))
    return text[start:start + rng.randint(1, most)]


def natural(rng):
    text = rng.choice(SENTENCES)
    return words(rng, text, 6) if " " in text else slice_of(rng, text, 20)


def mixed(rng):
    return rng.choice(SEPARATORS).join(natural(rng) for _ in range(rng.randint(2, 3)))


def code(rng):
    start = rng.randrange(len(CODE))
    text = "\n".join(CODE[start:start + rng.choice([1, 1, 1, 2, 3])])
    return text if rng.random() < 0.4 else slice_of(rng, text, 40)


def random_unicode(rng):
    pool = rng.choice([ASSIGNED, ASSIGNED, POINTS, [rng.choice(ASSIGNED) & ~0xFF | i
                                                   for i in range(256)]])
    chars = [rng.choice(pool) for _ in range(rng.randint(1, 12))]
    return "".join(chr(c) for c in chars if not 0xD800 <= c <= 0xDFFF and c != 0xFFFC)


def emoji(rng):
    out = ""
    for _ in range(rng.randint(1, 5)):
        out += rng.choice(EMOJI) + rng.choice(["", "", "\ufe0f", "\u200d" + rng.choice(EMOJI),
                                                chr(rng.randint(0x1F3FB, 0x1F3FF)), " ", "!"])
    return out


def numbers(rng):
    out = ""
    for _ in range(rng.randint(1, 4)):
        zero = rng.choice([0x30, 0x30, 0x30, 0x660, 0x966, 0xFF10, 0x1D7D8])
        out += "".join(chr(zero + rng.randrange(10)) for _ in range(rng.randint(1, 8)))
        out += rng.choice(["", ".", ",", " ", "-", "%", "e", "x", rng.choice(NUMBERS), "/", ":"])
    return out


def spaces(rng):
    pick = [rng.choice(SPACES) for _ in range(rng.randint(1, 5))]
    text = [rng.choice(["", "", "a", "Zeit", "。", "7", "{", "नमस्ते", "!"]) for _ in pick]
    return "".join(a + b for a, b in zip(pick, text))


def specials(rng):
    return "".join(rng.choice(SPECIAL) + rng.choice(["", " ", "\n", "a", " the", "  "])
                   for _ in range(rng.randint(1, 4)))


def marks(rng):
    out = ""
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(4)
        if kind == 0:
            out += rng.choice(LETTERS[:600]) + "".join(rng.choice(MARKS)
                                                       for _ in range(rng.randint(0, 4)))
        elif kind == 1:
            out += unicodedata.normalize("NFD", rng.choice(DECOMPOSABLE)) + rng.choice(["", " "])
        elif kind == 2:
            out += rng.choice(DECOMPOSABLE)
        else:
            out += chr(rng.randint(0x1100, 0x1112)) + chr(rng.randint(0x1161, 0x1175)) + \
                rng.choice(["", chr(rng.randint(0x11A7, 0x11C2))])
    return out


def cases(rng):
    return "".join(rng.choice(CASES) for _ in range(rng.randint(2, 6)))


def run(rng):
    unit = rng.choice([" ", "a", "\n", "-", "=", "0", "ab", "é", "あ", "字", "🦙", "\t", "!", "ha", ". ",
                       "\u0301", "ʼ", "\x00", "가", "क्", "\r\n", "  \n", "A"])
    return unit * int(2 ** rng.uniform(1, 7.5)) + rng.choice(["", "", "b", " x", "\n"])


def broken(rng):
    if rng.random() < 0.3:
        return bytes(rng.randrange(256) for _ in range(rng.randint(1, 16)))
    data = bytearray(mixed(rng).encode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data)) if data else 0
        change = rng.randrange(4)
        if change == 0:
            data[at:at + 1] = b""
        elif change == 1:
            data[at:at] = bytes([rng.randrange(0x80, 0x100)])
        elif change == 2:
            data[at:] = b""
        else:
            data[at:at] = rng.choice([b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80",
                                      b"\xf0\x9f\x98", b"\xff\xfe", b"\xe2\x82"])
    return bytes(data)


KINDS = [(natural, 7000), (mixed, 3000), (code, 3000), (random_unicode, 3000), (emoji, 1200),
         (numbers, 1000), (spaces, 1300), (specials, 800), (marks, 1300), (cases, 600), (run, 600),
         (broken, 2100)]
RUNS = [("a", 200000), (" ", 200000), ("\n", 100000), ("é", 60000), ("字", 60000), ("0", 100000),
        ("ab", 60000), ("\u0301", 60000), ("<", 100000), ("hello", 30000), ("\t ", 60000)]


def fnv1a(ids):
    h = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return h


def main():
    assets, vocabularies = map(pathlib.Path, sys.argv[1:3])
    rng = random.Random(20240607)
    strings = [s.encode() for s in SENTENCES + CODE] + [b""]
    for make, count in KINDS:
        for _ in range(count):
            s = make(rng)
            s = s if isinstance(s, bytes) else s.encode()
            if oracle.CARRIER.encode() not in s:
                strings.append(s)
    with open(HERE / "strings.bin", "wb") as file:
        for s in strings:
            file.write(struct.pack("<H", len(s)) + s)
    print(len(strings), "strings,", sum(map(len, strings)), "bytes")

    sources = {name: assets / "tokenizers" / name / "tokenizer.json"
               for name in ("deepseek_v3", "llama2", "llama3", "qwen3")}
    sources["smollm2"] = assets / "SmolLM2-135M-Instruct.Q4_1.gguf"
    for name in ("deepseek-llm", "deepseek-coder", "gpt-2", "llama-spm"):
        sources[name] = vocabularies / f"{name}.gguf"
    runs = [{"unit": unit, "times": times, "hashes": {}} for unit, times in RUNS]
    if sys.argv[3:]:
        runs = json.loads((HERE / "runs.json").read_text())
        sources = {name: sources[name] for name in sys.argv[3:]}
    for name, path in sources.items():
        tokenizer = oracle.load(path)
        hashes = [fnv1a(tokenizer.expected_ids(s)) for s in strings]
        (HERE / f"{name}.hash").write_bytes(struct.pack(f"<{len(hashes)}I", *hashes))
        if name in ("deepseek-llm", "deepseek-coder"):  # for machines without their vocabularies
            splits = [fnv1a(tokenizer.word_lengths(s)) for s in strings]
            (HERE / f"{name}.split").write_bytes(struct.pack(f"<{len(splits)}I", *splits))
        for entry in runs:
            text = entry["unit"] * entry["times"]
            entry["hashes"][name] = fnv1a(tokenizer.expected_ids(text.encode()))
        print(name)
    (HERE / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")


main()
