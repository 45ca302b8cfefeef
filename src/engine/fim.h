// Filling in the middle: what comes before and after a gap, as a prompt whose answer fills it.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace fathom {

/// The control tokens of the form that models learnt: PREFIX before SUFFIX after MIDDLE ("PSM",
/// arXiv 2207.14255, section 3).
struct FimTokens {
  TokenId prefix, suffix, middle;
};

/// Those of a vocabulary: DeepSeek's, Qwen's, StarCoder's, CodeLlama's, Mistral's names. Nothing if
/// it has none.
std::optional<FimTokens> fim_tokens(const Tokenizer& tokenizer);

/// Both texts are plain: a control token's text in them is text.
std::vector<TokenId> fim_prompt(const Tokenizer& tokenizer, const FimTokens& tokens,
                                std::string_view before, std::string_view after);

}  // namespace fathom
