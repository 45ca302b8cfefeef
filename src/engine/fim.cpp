#include "engine/fim.h"

namespace fathom {

std::optional<FimTokens> fim_tokens(const Tokenizer& tokenizer) {
  constexpr std::string_view kNames[][3] = {
      {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},  // DeepSeek
      {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen
      {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder, Granite
      {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},        // SantaCoder
      {"▁<PRE>", "▁<SUF>", "▁<MID>"}};                         // CodeLlama
  for (const auto& names : kNames) {
    const auto prefix = tokenizer.token_to_id(names[0]);
    const auto suffix = tokenizer.token_to_id(names[1]);
    const auto middle = tokenizer.token_to_id(names[2]);
    if (prefix && suffix && middle) return FimTokens{*prefix, *suffix, *middle};
  }
  return std::nullopt;
}

std::vector<TokenId> fim_prompt(const Tokenizer& tokenizer, const FimTokens& tokens,
                                std::string_view before, std::string_view after) {
  const EncodeOptions plain{.add_special = false, .parse_special = false};
  std::vector<TokenId> prompt;
  const auto add = [&](std::string_view text) {
    const auto ids = tokenizer.encode(text, plain);
    prompt.insert(prompt.end(), ids.begin(), ids.end());
  };
  if (tokenizer.add_bos() && tokenizer.bos()) prompt.push_back(*tokenizer.bos());
  prompt.push_back(tokens.prefix);
  add(before);
  prompt.push_back(tokens.suffix);
  add(after);
  prompt.push_back(tokens.middle);
  return prompt;
}

}  // namespace fathom
