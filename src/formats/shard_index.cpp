#include "formats/shard_index.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_guard.h"
#include "formats/file_text.h"

namespace fathom {
namespace {

constexpr std::size_t kIndexBytes = 16u << 20;  // DeepSeek-V3's is 9 MB, for 92,000 tensors
constexpr std::size_t kIndexTensors = 256u << 10;
constexpr std::size_t kMaxShards = 10'000;

/// Reads "weight_map" of an index: tensor name -> file name. Everything else is passed over.
class IndexSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexSax(std::string path) : path_(std::move(path)) {}

  /// File -> the tensors it should hold.
  ShardIndex files;
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

ShardIndex read_shard_index(const std::filesystem::path& file, const std::string& shown) {
  const std::string name = shown.empty() ? file.string() : shown;
  const std::string text = read_text_file(file, kIndexBytes);
  guard_json(text, {.depth = 16, .string_bytes = 4096}, name);
  IndexSax sax(name);
  nlohmann::json::sax_parse(text, &sax);
  require(sax.seen, ErrorCode::Corrupt, "{}: has no 'weight_map'", name);
  for (const auto& [shard, tensors] : sax.files) {
    require(shard.ends_with(".safetensors"), ErrorCode::Corrupt,
            "{}: names {}, which is not a .safetensors file", name, printable(shard));
  }
  return std::move(sax.files);
}

}  // namespace fathom
