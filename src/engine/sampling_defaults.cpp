#include "engine/sampling_defaults.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <string_view>

#include "base/error.h"

namespace fathom {
namespace {

/// What the makers recommend on their model cards. Matched against the model's name, all words of
/// `words` in any order; the first match counts, so special cases stand before their families.
struct Family {
  std::string_view words[2];
  float temperature;
  float top_p;
  std::int32_t top_k;
  float repetition_penalty;
};
constexpr Family kFamilies[] = {
    {{"deepseek", "r1"}, 0.6F, 0.95F, 0, 1},  // deepseek-ai/DeepSeek-R1, "Usage Recommendations"
    {{"deepseek", "v3"}, 0.3F, 0.95F, 0, 1},  // deepseek-ai/DeepSeek-V3-0324: 1.0 of the API is 0.3
    {{"deepseek", "v2"}, 0.3F, 0.95F, 0, 1},  // generation_config.json of DeepSeek-V2-Chat
    {{"deepseek", ""}, 0.7F, 0.95F, 0, 1},    // generation_config.json of deepseek-llm-7b-chat
    {{"smollm2", ""}, 0.2F, 0.9F, 0, 1},      // HuggingFaceTB/SmolLM2-135M-Instruct, "How to use"
    {{"qwen3", ""}, 0.6F, 0.95F, 20, 1},      // Qwen/Qwen3-8B, "Best Practices", thinking mode
    {{"qwen2.5", ""}, 0.7F, 0.8F, 20, 1.05F},  // generation_config.json of Qwen2.5-7B-Instruct
    {{"llama", "3"}, 0.6F, 0.9F, 0, 1},        // generation_config.json of Llama-3.1-8B-Instruct
};

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

struct Keys {
  const char* temperature;
  const char* top_k;
  const char* top_p;
  const char* min_p;
  const char* repetition_penalty;
  const char* source;
};
constexpr Keys kGgufKeys{"general.sampling.temp",           "general.sampling.top_k",
                         "general.sampling.top_p",          "general.sampling.min_p",
                         "general.sampling.penalty_repeat", "the file's general.sampling.* keys"};
constexpr Keys kHubKeys{"generation_config.temperature",
                        "generation_config.top_k",
                        "generation_config.top_p",
                        "generation_config.min_p",
                        "generation_config.repetition_penalty",
                        "generation_config.json"};

/// Takes what the file says; false if it says nothing.
bool read_keys(const Checkpoint& checkpoint, const Keys& keys, SamplingParams& params) {
  bool found = false;
  const auto read = [&](const char* key, float& into) {
    if (const auto number = checkpoint.get_float(key)) {
      into = static_cast<float>(*number);
      found = true;
    }
  };
  read(keys.temperature, params.temperature);
  read(keys.top_p, params.top_p);
  read(keys.min_p, params.min_p);
  read(keys.repetition_penalty, params.repetition_penalty);
  if (const auto k = checkpoint.get_int(keys.top_k)) {
    // Some files turn top-k off with -1.
    params.top_k = static_cast<std::int32_t>(
        std::clamp<std::int64_t>(*k, 0, std::numeric_limits<std::int32_t>::max()));
    found = true;
  }
  return found;
}

std::string model_name(const Checkpoint& checkpoint) {
  std::string name;
  for (const char* key : {"general.name", "general.basename", "_name_or_path"}) {
    if (const auto text = checkpoint.get_string(key)) name += lower(*text) + " ";
  }
  return name + lower(checkpoint.path().filename().string());
}

}  // namespace

SamplingDefaults default_sampling(const Checkpoint& checkpoint) {
  SamplingDefaults defaults;
  for (const Keys& keys : {kGgufKeys, kHubKeys}) {
    if (!read_keys(checkpoint, keys, defaults.params)) continue;
    defaults.source = keys.source;
    try {
      check_sampling(defaults.params, 0);
    } catch (const Error& error) {
      fail(ErrorCode::Corrupt, "{}: {}: {}", checkpoint.path().string(), keys.source, error.what());
    }
    return defaults;
  }
  const std::string name = model_name(checkpoint);
  for (const Family& family : kFamilies) {
    if (name.find(family.words[0]) == std::string::npos) continue;
    if (name.find(family.words[1]) == std::string::npos) continue;
    defaults.params.temperature = family.temperature;
    defaults.params.top_p = family.top_p;
    defaults.params.top_k = family.top_k;
    defaults.params.repetition_penalty = family.repetition_penalty;
    defaults.source = "its makers' recommendation";
    return defaults;
  }
  defaults.params.temperature = 0.7F;
  defaults.params.top_p = 0.95F;
  defaults.source = "Fathom's defaults";
  return defaults;
}

}  // namespace fathom
