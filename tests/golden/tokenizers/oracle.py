"""The oracle's tokenizers: Hugging Face `tokenizers`, from tokenizer.json or from a GGUF vocabulary.

expected_ids() also says what is expected of bytes that are not UTF-8, which the oracle refuses: the
ill-formed parts stand aside while it cuts the text into words, then its model merges the real bytes.
"""
import codecs
import json
import pathlib
import re

import gguf
from tokenizers import Tokenizer

CARRIER = "\uFFFC"  # stands for an ill-formed part: a symbol like U+FFFD, and in no string of ours

LETTERS = pathlib.Path(__file__).with_name("deepseek_letters.txt").read_text().strip()
SPLITS = {
    "gpt-2": [],
    "smollm": ["Digits"],
    "deepseek-llm": ["[\r\n]", rf"\s?[{LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                     "[一-龥ࠀ-一가-퟿]+", "Digits"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", "Digits"],
}


def byte_alphabet():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in keep}
    for b in range(256):
        table.setdefault(b, chr(256 + len(table) - len(keep)))
    return table


ALPHABET = byte_alphabet()


def mapped(data):
    return "".join(ALPHABET[b] for b in data)


def gguf_fields(path):
    reader = gguf.GGUFReader(path)
    return {name.removeprefix("tokenizer.ggml."): field.contents()
            for name, field in reader.fields.items() if name.startswith("tokenizer.ggml.")}


def added_tokens(fields):
    return [{"id": i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": kind in (2, 3)}
            for i, (piece, kind) in enumerate(zip(fields["tokens"], fields["token_type"]))
            if kind in (2, 3, 4)]


def byte_level_json(fields):
    """tokenizer.json as the model's authors publish it, from what its GGUF file keeps."""
    split = [{"type": "Digits", "individual_digits": True} if s == "Digits" else
             {"type": "Split", "pattern": {"Regex": s}, "behavior": "Isolated", "invert": False}
             for s in SPLITS[fields["pre"]]]
    gpt2 = fields["pre"] in ("gpt-2", "smollm")
    split.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": gpt2})
    # The tokens after the last normal one are added ones, which the model itself does not know.
    last = max(i for i, kind in enumerate(fields["token_type"]) if kind == 1)
    vocab = {piece: i for i, piece in enumerate(fields["tokens"][:last + 1])}
    return {"version": "1.0", "added_tokens": added_tokens(fields), "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": split}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                        "use_regex": False},
            "model": {"type": "BPE", "vocab": vocab, "merges": fields["merges"]}}


def sentence_piece_json(fields):
    """As transformers converts a SentencePiece model: every way to cut a piece in two is a merge,
    ordered by the piece's score."""
    tokens, scores = fields["tokens"], fields["scores"]
    vocab = {piece: i for i, piece in enumerate(tokens)}
    merges = []
    for piece, i in vocab.items():
        if fields["token_type"][i] != 1:
            continue
        cuts = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        cuts = [c for c in cuts if c[0] in vocab and c[1] in vocab]
        merges += [(*c, scores[i]) for c in sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))]
    merges.sort(key=lambda m: m[2], reverse=True)
    return {"version": "1.0", "added_tokens": added_tokens(fields),
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                      "vocab": vocab, "merges": [list(m[:2]) for m in merges]}}


def load(path):
    path = pathlib.Path(path)
    if path.suffix == ".json":
        return Oracle(json.loads(path.read_text()))
    fields = gguf_fields(path)
    make = byte_level_json if fields["model"] == "gpt2" else sentence_piece_json
    return Oracle(make(fields))


def set_aside(data):
    """`data` with a CARRIER for each ill-formed part, and those parts, the first one last."""
    broken = []

    def handler(error):
        broken.append(error.object[error.start:error.end])
        return CARRIER, error.end

    assert CARRIER.encode() not in data
    codecs.register_error("set-aside", handler)
    text = data.decode(errors="set-aside")
    return text, broken[::-1]


class Oracle:
    def __init__(self, definition):
        self.tokenizer = Tokenizer.from_str(json.dumps(definition))
        self.sentence_piece = definition["model"].get("byte_fallback", False)
        contents = sorted((t["content"] for t in definition["added_tokens"]), key=len, reverse=True)
        self.added = re.compile("|".join(map(re.escape, contents)))
        self.vocab = self.tokenizer.get_vocab(True)

    def expected_ids(self, data):
        try:
            return self.tokenizer.encode(data.decode(), add_special_tokens=False).ids
        except UnicodeDecodeError:
            return self.ids_of_bytes(data)

    def word_lengths(self, data):
        """Bytes of each word that the pre-tokenizer cuts `data` into; added tokens are not looked
        for. Byte-level only."""
        text, broken = set_aside(data)
        return [len(word) for word in self.words(text, broken)]

    def ids_of_bytes(self, data):
        text, broken = set_aside(data)
        ids, start = [], 0
        for match in self.added.finditer(text):
            ids += self.plain(text[start:match.start()], broken) + [self.vocab[match.group()]]
            start = match.end()
        return ids + self.plain(text[start:], broken)

    def words(self, text, broken):
        """In the byte alphabet, so that a character is a byte."""
        carrier = mapped(CARRIER.encode())
        for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(text):
            while carrier in word:
                word = word.replace(carrier, mapped(broken.pop()), 1)
            yield word

    def plain(self, text, broken):
        if not text:
            return []
        if self.tokenizer.normalizer is not None:
            text = self.tokenizer.normalizer.normalize_str(text)
        model, ids = self.tokenizer.model, []
        if self.sentence_piece:
            for i, stretch in enumerate(text.split(CARRIER)):
                if i > 0:
                    ids += [self.vocab[f"<0x{b:02X}>"] for b in broken.pop()]
                if stretch:
                    ids += [token.id for token in model.tokenize(stretch)]
            return ids
        return [token.id for word in self.words(text, broken) for token in model.tokenize(word)]
