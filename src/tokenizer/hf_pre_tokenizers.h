// How Hugging Face's tokenizer.json writes each pre-tokenizer that is known: its steps in turn.
#pragma once

#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace fathom {

// Steps that are no regular expression, as they are named in the list of steps.
inline constexpr std::string_view kDigitsStep = "Digits";
inline constexpr std::string_view kByteLevelStep = "ByteLevel";
inline constexpr std::string_view kByteLevelGpt2Step = "ByteLevel with GPT-2's expression";

struct HfPreTokenizer {
  PreTokenizer kind;
  std::vector<std::string_view> steps;
};

const std::vector<HfPreTokenizer>& hf_pre_tokenizers();

}  // namespace fathom
