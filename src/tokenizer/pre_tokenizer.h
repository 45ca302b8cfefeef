// Cuts text into the words that BPE works on: one hand-written scanner per pre-tokenizer.
//
// Each scanner finds what the model's regular expressions find, looking at a character at most
// three times: no backtracking, so the time is linear whatever the text. The expressions stand
// beside the scanners in pre_tokenizer.cpp.
#pragma once

#include <string_view>

#include "base/function_ref.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

/// Calls word(piece) for every piece of `text` in order; the pieces joined are `text`.
/// PreTokenizer::None gives the text as one piece.
void split_words(PreTokenizer kind, std::string_view text,
                 FunctionRef<void(std::string_view)> word);

/// "deepseek-v3" and so on, for messages and `--json`.
const char* to_string(PreTokenizer kind);

/// The pre-tokenizer that a GGUF file's tokenizer.ggml.pre names ("deepseek-llm", "llama-bpe",
/// ...). Throws Error(Unsupported) naming it when it is not one of ours.
PreTokenizer pre_tokenizer_from_gguf(std::string_view name, std::string_view origin);

}  // namespace fathom
