// Real tokenizers for tests, from .cache/assets (scripts/fetch_test_assets puts them there).
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tokenizer/tokenizer.h"

namespace fathom::test {

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + " is missing: run scripts/setup");
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

inline std::filesystem::path assets() {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / ".cache" / "assets";
}

/// "deepseek_v3", "llama2", "llama3", "llama3_1" or "qwen3"; loaded once a process.
inline const Tokenizer& real_tokenizer(const std::string& name) {
  static std::map<std::string, Tokenizer> loaded;
  const auto known = loaded.find(name);
  if (known != loaded.end()) return known->second;
  const std::filesystem::path folder = assets() / "tokenizers" / name;
  return loaded
      .emplace(name, Tokenizer::from_json(read_file(folder / "tokenizer.json"),
                                          read_file(folder / "tokenizer_config.json"),
                                          name + "/tokenizer.json"))
      .first->second;
}

}  // namespace fathom::test
