// The shapes of published models, as their config.json states them: for benchmarks and for
// planning, where the weights themselves are not at hand.
#pragma once

#include <span>
#include <string_view>

namespace fathom {

struct ModelShape {
  std::string_view name;           // "deepseek-v2-lite"
  std::string_view about;          // one line for a person
  std::string_view pre_tokenizer;  // GGUF's tokenizer.ggml.pre
  std::string_view config;         // config.json's text
};

std::span<const ModelShape> model_shapes();

/// Throws Error(InvalidArgument), listing the names, for another word.
const ModelShape& find_model_shape(std::string_view name);

}  // namespace fathom
