#!/usr/bin/env python3
"""Makes added_tokens.json: a small tokenizer whose added tokens use every option, and the oracle's ids
for 400 strings, with special tokens found in text and taken for text.

    python3 make_added.py
"""
import json
import pathlib
import random

from tokenizers import Tokenizer

from oracle import ALPHABET

TOKENS = [  # content, lstrip, rstrip, normalized, single_word, special
    ("<l>", True, False, False, False, True),
    ("<r>", False, True, False, False, True),
    ("<lr>", True, True, False, False, False),
    ("<lr>x", False, False, False, False, False),
    ("word", False, False, False, True, False),
    ("<n>", False, False, True, False, False),
    ("caf\u00e9", False, False, True, False, False),  # composed; the text may have it decomposed
    ("\u3000sp", False, False, False, False, True),
    ("<l", False, False, True, False, False),
]
PARTS = [t[0] for t in TOKENS] * 2 + [" ", "  ", "\n", "\u00a0", "\u3000", "a", "_", "9", "é", "cafe\u0301",
                                      "<", ">", "x", ".", "wor", "\u0301", "words"]


def main():
    vocab = {c: i for i, c in enumerate(ALPHABET.values())}
    added = [dict(id=len(vocab) + i, content=c, lstrip=l, rstrip=r, normalized=n, single_word=w, special=s)
             for i, (c, l, r, n, w, s) in enumerate(TOKENS)]
    definition = {
        "version": "1.0", "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": False,
                                            "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}}
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    rng = random.Random(7)
    cases = []
    for _ in range(400):
        text = "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 7)))
        tokenizer.encode_special_tokens = False
        parsed = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = True
        cases.append([text, parsed, tokenizer.encode(text).ids])
    path = pathlib.Path(__file__).with_name("added_tokens.json")
    lines = ",\n".join(json.dumps(c) for c in cases)
    path.write_text('{"tokenizer": %s,\n"cases": [\n%s\n]}\n' % (json.dumps(definition), lines))


main()
