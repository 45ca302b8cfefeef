#!/usr/bin/env python3
"""Merges that Hugging Face `tokenizers` learns from ../tokenizers/sentences.txt and code.txt.

    python make.py DEEPSEEK_V3_TOKENIZER_JSON     # needs tokenizers; see README.md
"""

import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
TEXTS = [(HERE.parent / "tokenizers" / name).read_text() for name in ("sentences.txt", "code.txt")]
SPECIAL = ["<|begin|>", "<|end|>", "<think>"]

byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
CASES = {
    "gpt-2": (byte_level, 0, 1300),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]), 0, 700),
    "deepseek-v3": (Tokenizer.from_file(sys.argv[1]).pre_tokenizer, 0, 5000),  # more than the text has
    "deepseek-v3-frequent": (Tokenizer.from_file(sys.argv[1]).pre_tokenizer, 4, 5000),
}

golden = {}
for name, (pre, frequency, size) in CASES.items():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=size, min_frequency=frequency, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    golden[name] = dict(merges=[" ".join(m) for m in model["merges"]], pieces=pieces[-5:], size=len(pieces),
                        sample=tokenizer.encode("The 1234 quick brown foxes <think>").ids)
    print(f"{name}: {len(model['merges'])} merges, {len(pieces)} pieces")
(HERE / "merges.json").write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")
print("tokenizers", tokenizers.__version__)
