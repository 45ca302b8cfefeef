// Choosing the files of a model among those of a repository.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "formats/file_text.h"
#include "formats/shard_index.h"
#include "store/hub.h"
#include "store/split_name.h"

namespace fathom {
namespace {

constexpr std::string_view kPreferred = "q4_k_m";
/// What a Hugging Face folder needs beside its weights; each is optional here, and the loader says
/// which it misses.
constexpr std::array<std::string_view, 14> kCompanions{
    "config.json",        "generation_config.json",
    "tokenizer.json",     "tokenizer_config.json",
    "tokenizer.model",    "special_tokens_map.json",
    "added_tokens.json",  "vocab.json",
    "merges.txt",         "chat_template.jinja",
    "chat_template.json", "LICENSE",
    "LICENSE.txt",        "LICENSE.md"};

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// One thing to choose: a file, or all parts of a split one. The key is the path without the part
/// number and without the ending.
using Choices = std::map<std::string, std::vector<HubFile>>;

bool is_side_file(const std::string& path) {
  const std::string name = lower(path.substr(path.rfind('/') + 1));
  return name.find("mmproj") != std::string::npos || name.find("imatrix") != std::string::npos;
}

Choices gguf_choices(const std::vector<HubFile>& files) {
  Choices choices;
  for (const HubFile& file : files) {
    if (!lower(file.path).ends_with(".gguf") || is_side_file(file.path)) continue;
    const auto split = parse_split_name(file.path);
    choices[split ? split->stem : file.path.substr(0, file.path.size() - 5)].push_back(file);
  }
  for (auto& [stem, parts] : choices) {
    std::sort(parts.begin(), parts.end(),
              [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  }
  return choices;
}

/// Error(NotFound) if a part of a split set is missing.
std::vector<HubFile> whole_set(const std::vector<HubFile>& parts, const std::string& repository) {
  const auto first = parse_split_name(parts.front().path);
  require(!first || parts.size() == first->count, ErrorCode::NotFound,
          "{}: has {} of the {} parts of {}", repository, parts.size(), first ? first->count : 1,
          first ? first->stem : parts.front().path);
  return parts;
}

std::string size_of(const std::vector<HubFile>& parts) {
  std::uint64_t bytes = 0;
  for (const HubFile& part : parts) {
    if (!part.size || __builtin_add_overflow(bytes, *part.size, &bytes)) return "size unknown";
  }
  return format_bytes(bytes);
}

[[noreturn]] void fail_with_choices(const Choices& choices, const std::string& repository,
                                    const std::string& why) {
  std::string list;
  for (const auto& [stem, parts] : choices) {
    list += fmt::format("{} hf:{}:{} ({})", list.empty() ? "" : ",", repository, parts.front().path,
                        size_of(parts));
  }
  fail(ErrorCode::InvalidArgument, "{}: {}; choose one of{}", repository, why, list);
}

/// "...-Q4_K_M" and "...Q4_K_M" end in the word; "IQ4_K_M" does not.
bool ends_in_word(const std::string& stem, const std::string& word) {
  if (!stem.ends_with(word)) return false;
  return stem.size() == word.size() ||
         std::isalnum(static_cast<unsigned char>(stem[stem.size() - word.size() - 1])) == 0;
}

std::optional<std::vector<HubFile>> by_word(const Choices& choices, std::string_view word) {
  std::vector<const std::vector<HubFile>*> matches;
  for (const auto& [stem, parts] : choices) {
    if (ends_in_word(lower(stem), lower(word))) matches.push_back(&parts);
  }
  if (matches.size() != 1) return std::nullopt;
  return *matches.front();
}

std::vector<HubFile> safetensors_folder(const std::vector<HubFile>& files) {
  std::vector<HubFile> folder;
  std::vector<HubFile> shards;
  const HubFile* single = nullptr;
  bool has_index = false;
  for (const HubFile& file : files) {
    if (std::find(kCompanions.begin(), kCompanions.end(), file.path) != kCompanions.end()) {
      folder.push_back(file);
    } else if (file.path == "model.safetensors") {
      single = &file;
    } else if (file.path == kShardIndexName) {
      has_index = true;
      shards.push_back(file);
    } else if (file.path.starts_with("model-") && file.path.ends_with(".safetensors") &&
               file.path.find('/') == std::string::npos) {
      shards.push_back(file);
    }
  }
  if (single != nullptr) {
    folder.push_back(*single);
  } else if (has_index && shards.size() > 1) {
    folder.insert(folder.end(), shards.begin(), shards.end());
  } else {
    return {};
  }
  return folder;
}

}  // namespace

std::vector<HubFile> choose_hub_files(const std::vector<HubFile>& files, const std::string& file,
                                      const std::string& repository,
                                      const std::function<void(const std::string&)>& notice) {
  const Choices ggufs = gguf_choices(files);
  if (!file.empty()) {
    const auto exact = std::find_if(files.begin(), files.end(),
                                    [&](const HubFile& entry) { return entry.path == file; });
    if (exact != files.end()) {
      const auto split = parse_split_name(file);
      const auto set = split ? ggufs.find(split->stem) : ggufs.end();
      return set != ggufs.end() ? whole_set(set->second, repository) : std::vector<HubFile>{*exact};
    }
    if (const auto match = by_word(ggufs, file)) return whole_set(*match, repository);
    if (ggufs.empty()) fail(ErrorCode::NotFound, "{}: has no file '{}'", repository, file);
    fail_with_choices(ggufs, repository, fmt::format("has no file '{}'", file));
  }
  if (ggufs.size() == 1) return whole_set(ggufs.begin()->second, repository);
  if (ggufs.empty()) {
    std::vector<HubFile> folder = safetensors_folder(files);
    require(!folder.empty(), ErrorCode::NotFound,
            "{}: holds neither a GGUF file nor model.safetensors; it may be another kind of model",
            repository);
    return folder;
  }
  if (const auto preferred = by_word(ggufs, kPreferred)) {
    if (notice) {
      notice(fmt::format("{} holds {} GGUF files; taking {} (write hf:{}:FILE for another)",
                         repository, ggufs.size(), preferred->front().path, repository));
    }
    return whole_set(*preferred, repository);
  }
  fail_with_choices(ggufs, repository, fmt::format("holds {} GGUF files", ggufs.size()));
}

std::vector<HubFile> keep_indexed_shards(const std::vector<HubFile>& chosen,
                                         const std::filesystem::path& index,
                                         const std::string& repository,
                                         const std::function<void(const std::string&)>& notice) {
  ShardIndex wanted = read_shard_index(index, fmt::format("{}/{}", repository, kShardIndexName));
  require(!wanted.empty(), ErrorCode::Corrupt, "{}/{}: names no shards", repository,
          kShardIndexName);
  std::vector<HubFile> kept;
  for (const HubFile& file : chosen) {
    const bool shard = file.path.ends_with(".safetensors");
    if (shard && wanted.erase(file.path) == 0) {
      notice(fmt::format("{} leaves out {}: {} does not name it", repository, file.path,
                         kShardIndexName));
    } else {
      kept.push_back(file);
    }
  }
  require(
      wanted.empty(), ErrorCode::NotFound,
      "{}: has not the shard {}, which {} names; {} of its shards are missing, and the upload is "
      "probably not complete",
      repository, wanted.empty() ? "" : printable(wanted.begin()->first), kShardIndexName,
      wanted.size());
  return kept;
}

}  // namespace fathom
