// Writes Hugging Face's tokenizer.json: what a newly trained vocabulary is stored as.
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace fathom {

/// Text of a tokenizer.json that parse_tokenizer_json() and Hugging Face `tokenizers` read back as
/// this byte-level BPE. Throws Error(Unsupported) for SentencePiece, a normaliser or a missing
/// pre-tokenizer.
std::string write_tokenizer_json(const TokenizerSpec& spec);

}  // namespace fathom
