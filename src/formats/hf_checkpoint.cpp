#include "formats/hf_checkpoint.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "formats/file_text.h"
#include "formats/json_guard.h"

namespace fathom {
namespace {

constexpr std::size_t kConfigBytes = 4u << 20;
constexpr std::size_t kIndexBytes = 16u << 20;  // DeepSeek-V3's is 9 MB, for 92,000 tensors
constexpr std::size_t kIndexTensors = 256u << 10;
constexpr std::size_t kMaxShards = 10'000;

/// Reads "weight_map" of an index: tensor name -> file name. Everything else is passed over.
class IndexSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexSax(std::string path) : path_(std::move(path)) {}

  /// File -> the tensors it should hold.
  std::map<std::string, std::vector<std::string>> files;
  bool seen = false;

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool string(string_t& value) override {
    if (!in_map()) return other();
    require(++count_ <= kIndexTensors, ErrorCode::ResourceLimit, "{}: more than {} tensors", path_,
            kIndexTensors);
    require(files.size() <= kMaxShards, ErrorCode::ResourceLimit, "{}: more than {} files", path_,
            kMaxShards);
    files[value].push_back(key_);
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 1 && at_map_) {
      require(!seen, ErrorCode::Corrupt, "{}: has two 'weight_map'", path_);
      seen = true;
    } else if (depth_ >= 1) {
      other();
    }
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    other();
    require(depth_ > 0, ErrorCode::Corrupt, "{}: holds an array, expected an object", path_);
    ++depth_;
    return true;
  }
  bool end_array() override { return end_object(); }
  bool key(string_t& key) override {
    if (depth_ == 1) at_map_ = key == "weight_map";
    if (in_map()) key_ = key;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    fail(ErrorCode::Corrupt, "{}: not JSON at byte {}: {}", path_, position,
         json_complaint(error.what()));
  }

 private:
  bool in_map() const { return at_map_ && depth_ == 2; }
  bool other() const {
    require(!at_map_, ErrorCode::Corrupt,
            "{}: weight_map holds something that is not a file's name", path_);
    return true;
  }

  std::string path_;
  std::string key_;
  std::size_t depth_ = 0;
  std::size_t count_ = 0;
  bool at_map_ = false;
};

}  // namespace

HfCheckpoint::HfCheckpoint(const std::filesystem::path& path) : path_(path) {
  if (std::filesystem::is_directory(path)) {
    open_folder();
  } else {
    open_single(path);
  }
}

void HfCheckpoint::open_folder() {
  const auto present = [&](const char* name) { return std::filesystem::exists(path_ / name); };
  require(present("config.json"), ErrorCode::NotFound,
          "{}: has no config.json, so it is not a Hugging Face model folder", path_.string());
  const auto add_config = [&](const char* name, std::string_view prefix) {
    const auto file = resolve_inside(path_, name, path_);
    metadata_.add_json(read_text_file(file, kConfigBytes), prefix, file);
  };
  add_config("config.json", "");
  if (present("generation_config.json")) add_config("generation_config.json", "generation_config.");

  if (present("model.safetensors.index.json")) {
    return open_index(resolve_inside(path_, "model.safetensors.index.json", path_));
  }
  if (present("model.safetensors")) {
    return open_single(resolve_inside(path_, "model.safetensors", path_));
  }
  std::vector<std::string> candidates;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    if (entry.path().extension() == ".safetensors") {
      candidates.push_back(entry.path().filename().string());
    }
  }
  require(!candidates.empty(), ErrorCode::NotFound,
          "{}: has no .safetensors file; PyTorch's pickled .bin files are not read, because they "
          "can run code",
          path_.string());
  require(candidates.size() == 1, ErrorCode::Corrupt,
          "{}: has {} .safetensors files but no model.safetensors.index.json that says what they "
          "hold; the download is probably incomplete",
          path_.string(), candidates.size());
  open_single(resolve_inside(path_, candidates.front(), path_));
}

void HfCheckpoint::open_index(const std::filesystem::path& index) {
  std::map<std::string, std::vector<std::string>> expected;
  {
    const std::string text = read_text_file(index, kIndexBytes);
    guard_json(text, {.depth = 16, .string_bytes = 4096}, index);
    IndexSax sax(index.string());
    nlohmann::json::sax_parse(text, &sax);
    require(sax.seen, ErrorCode::Corrupt, "{}: has no 'weight_map'", index.string());
    expected = std::move(sax.files);
  }
  for (auto& [file_name, names] : expected) {
    require(file_name.ends_with(".safetensors"), ErrorCode::Corrupt,
            "{}: names {}, which is not a .safetensors file", index.string(), printable(file_name));
    const SafetensorsFile& file = files_.emplace_back(resolve_inside(path_, file_name, index));
    std::sort(names.begin(), names.end());
    for (std::size_t i = 0; i < names.size(); ++i) {
      require(i == 0 || names[i - 1] != names[i], ErrorCode::Corrupt, "{}: lists {} twice",
              index.string(), printable(names[i]));
      require(file.find(names[i]) != nullptr, ErrorCode::Corrupt,
              "{}: says that {} holds {}, but it does not; files of two models may be mixed up",
              index.string(), printable(file_name), printable(names[i]));
    }
    for (const SafetensorsEntry& entry : file.tensors()) {
      if (std::binary_search(names.begin(), names.end(), entry.name)) add_tensor(file, entry);
    }
  }
}

void HfCheckpoint::open_single(const std::filesystem::path& file_path) {
  const SafetensorsFile& file = files_.emplace_back(file_path);
  for (const auto& [key, value] : file.metadata()) {
    metadata_.set_string("__metadata__." + key, value);
  }
  for (const SafetensorsEntry& entry : file.tensors()) add_tensor(file, entry);
}

void HfCheckpoint::add_tensor(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  const bool fresh = tensors_.emplace(entry.name, file.view(entry)).second;
  require(fresh, ErrorCode::Corrupt, "{}: tensor {} is in two of the model's files", path_.string(),
          printable(entry.name));
  names_.push_back(entry.name);
  weight_bytes_ = checked_add(weight_bytes_, entry.bytes, "bytes of all tensors");
}

std::optional<TensorView> HfCheckpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return std::nullopt;
  return found->second;
}

void HfCheckpoint::not_needed(std::span<const std::byte> bytes) const noexcept {
  for (const auto& file : files_) file.map().dont_need(bytes);
}

void HfCheckpoint::verify_unchanged() const {
  for (const SafetensorsFile& file : files_) file.map().verify_unchanged();
}

}  // namespace fathom
