// A Hugging Face folder that the program can chat with: a golden checkpoint of 97 tokens with
// random weights, and a tokenizer and chat template of its own. What it says is noise, but always
// the same.
#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "cli/run_program.h"

namespace fathom::test {

inline nlohmann::ordered_json tiny_tokenizer() {
  nlohmann::ordered_json vocabulary;
  nlohmann::ordered_json added = nlohmann::ordered_json::array();
  int id = 0;
  for (const char* control : {"<|end|>", "<|user|>", "<|assistant|>", "<think>", "</think>"}) {
    vocabulary[control] = id;
    added.push_back({{"id", id++},
                     {"content", control},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  for (char c = 'a'; c <= 'z'; ++c) vocabulary[std::string(1, c)] = id++;
  for (char c = 'A'; c <= 'Z'; ++c) vocabulary[std::string(1, c)] = id++;
  for (char c = '0'; c <= '9'; ++c) vocabulary[std::string(1, c)] = id++;
  for (const char* sign : {"\u0120", "\u010a", ".", ",", "?", "!", ":", "'", "-", "th", "he"}) {
    vocabulary[sign] = id++;
  }
  nlohmann::ordered_json json;
  json["version"] = "1.0";
  json["added_tokens"] = added;
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  json["decoder"] = {{"type", "ByteLevel"}};
  json["model"] = {{"type", "BPE"},
                   {"vocab", vocabulary},
                   {"merges", nlohmann::ordered_json::array({"t h", "h e"})}};
  return json;
}

/// Makes the folder below `parent`; returns it.
inline std::filesystem::path make_tiny_model(const std::filesystem::path& parent,
                                             bool with_template = true) {
  namespace fs = std::filesystem;
  const fs::path golden = FATHOM_SOURCE_DIR "/tests/golden/models/llama-gqa";
  const fs::path folder = parent / "tiny";
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(golden)) {
    const std::string name = entry.path().filename();
    if (name == "config.json" || name.ends_with(".safetensors")) {
      fs::copy_file(entry.path(), folder / name, fs::copy_options::overwrite_existing);
    }
  }
  write_text(folder / "tokenizer.json", tiny_tokenizer().dump());
  nlohmann::ordered_json config{{"tokenizer_class", "GPT2Tokenizer"}, {"eos_token", "<|end|>"}};
  if (with_template) {
    config["chat_template"] =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  }
  write_text(folder / "tokenizer_config.json", config.dump());
  return folder;
}

}  // namespace fathom::test
