// Implements tokenizer_file.h: one pass over the file with nlohmann's event parser.
#include "tokenizer/tokenizer_file.h"

#include <string>

#include "base/error.h"
#include "base/file_map.h"
#include "base/json_guard.h"

namespace fathom {
namespace {

using Json = nlohmann::json;

using Limits = TokenizerFileLimits;
constexpr JsonLimits kGuard{.depth = 64, .string_bytes = Limits::kStringBytes};

class Sax : public nlohmann::json_sax<Json> {
 public:
  Sax(TokenizerFile& file, std::string_view origin) : file_(file), origin_(origin) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_float(double v, const std::string&) override { return put(v); }
  bool binary(binary_t&) override { return put(nullptr); }
  bool number_integer(std::int64_t v) override {
    return where_ == Where::Vocab ? add_id(v) : put(v);
  }
  bool number_unsigned(std::uint64_t v) override {
    return where_ == Where::Vocab ? add_id(v <= INT32_MAX ? static_cast<std::int64_t>(v) : -1)
                                  : put(v);
  }
  bool string(std::string& v) override {
    if (where_ == Where::Merges) return add_merge(v);
    if (where_ == Where::Merge) return add_side(v);
    count_rest(v.size());
    return put(std::move(v));
  }
  bool key(std::string& v) override {
    if (where_ == Where::Rest) count_rest(v.size());
    key_ = std::move(v);
    return true;
  }

  bool start_object(std::size_t) override {
    if (in_model() && key_ == "vocab") {
      require(!file_.has_vocab, ErrorCode::Corrupt, "{}: has two 'model.vocab'", origin_);
      file_.has_vocab = true;
      where_ = Where::Vocab;
      return true;
    }
    return open(Json::object());
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override {
    if (in_model() && key_ == "merges") {
      require(!file_.has_merges, ErrorCode::Corrupt, "{}: has two 'model.merges'", origin_);
      file_.has_merges = true;
      where_ = Where::Merges;
      return true;
    }
    if (where_ == Where::Merges) {
      where_ = Where::Merge;
      sides_ = 0;
      return true;
    }
    return open(Json::array());
  }
  bool end_array() override {
    if (where_ == Where::Merge) {
      if (sides_ != 2) bad_merge();
      where_ = Where::Merges;
      return true;
    }
    return close();
  }
  bool parse_error(std::size_t position, const std::string&, const Json::exception& e) override {
    fail(ErrorCode::Corrupt, "{}: not JSON at byte {}: {}", origin_, position,
         json_complaint(e.what()));
  }

 private:
  enum class Where { Rest, Vocab, Merges, Merge };

  /// At a key of the top-level "model" object.
  bool in_model() const {
    return where_ == Where::Rest && open_.size() == 2 && model_depth_ == 2 &&
           open_.back()->is_object();
  }

  Json* insert(Json&& value) {
    require(++rest_values_ <= Limits::kRestValues, ErrorCode::ResourceLimit,
            "{}: more than {} values beside the vocabulary and its merges", origin_,
            Limits::kRestValues);
    if (open_.empty()) {
      file_.rest = std::move(value);
      return &file_.rest;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }
  bool put(Json&& value) {
    if (where_ == Where::Vocab) bad_id();
    if (where_ != Where::Rest) bad_merge();
    insert(std::move(value));
    return true;
  }
  bool open(Json&& value) {
    if (where_ == Where::Vocab) bad_id();
    if (where_ != Where::Rest) bad_merge();
    const bool is_model = open_.size() == 1 && open_.back()->is_object() && key_ == "model";
    open_.push_back(insert(std::move(value)));
    if (is_model) model_depth_ = open_.size();
    return true;
  }
  bool close() {
    if (where_ != Where::Rest) {
      where_ = Where::Rest;
      return true;
    }
    if (open_.size() == model_depth_) model_depth_ = 0;
    open_.pop_back();
    return true;
  }

  void count_rest(std::size_t bytes) {
    rest_bytes_ += bytes;
    require(rest_bytes_ <= Limits::kRestBytes, ErrorCode::ResourceLimit,
            "{}: more than {} bytes of text beside the vocabulary and its merges", origin_,
            Limits::kRestBytes);
  }

  bool add_id(std::int64_t id) {
    file_.pieces.push_back(key_);
    require(file_.pieces.size() <= Limits::kTokens && file_.pieces.bytes() <= Limits::kTokenBytes,
            ErrorCode::ResourceLimit,
            "{}: 'model.vocab' has over {} tokens, or they have over {} bytes", origin_,
            Limits::kTokens, Limits::kTokenBytes);
    file_.ids.push_back(id);
    return true;
  }
  bool add_merge(const std::string& merge) {
    const std::size_t space = merge.find(' ');
    if (space == std::string::npos) bad_merge();
    push_side(std::string_view(merge).substr(0, space));
    push_side(std::string_view(merge).substr(space + 1));
    return true;
  }
  bool add_side(const std::string& side) {
    if (++sides_ > 2) bad_merge();
    push_side(side);
    return true;
  }
  void push_side(std::string_view side) {
    StringTable& sides = file_.merge_sides;
    sides.push_back(side);
    require(sides.size() <= 2 * Limits::kMerges && sides.bytes() <= Limits::kMergeBytes,
            ErrorCode::ResourceLimit,
            "{}: 'model.merges' has over {} merges, or they have over {} bytes", origin_,
            Limits::kMerges, Limits::kMergeBytes);
  }
  [[noreturn]] void bad_id() const {
    fail(ErrorCode::Corrupt, "{}: the id of token '{}' is not an integer", origin_, key_);
  }
  [[noreturn]] void bad_merge() const {
    fail(ErrorCode::Corrupt, "{}: merge {} is not two pieces", origin_,
         file_.merge_sides.size() / 2);
  }

  TokenizerFile& file_;
  const std::string origin_;
  std::vector<Json*> open_;      // containers of `rest` that are open; a parent never reallocates
                                 // while its child is open
  std::size_t model_depth_ = 0;  // open_.size() inside the top-level "model", else 0
  Where where_ = Where::Rest;
  int sides_ = 0;
  std::size_t rest_values_ = 0;
  std::size_t rest_bytes_ = 0;
  std::string key_;
};

template <typename Iterator>
TokenizerFile parse(Iterator begin, Iterator end, std::string_view origin) {
  TokenizerFile file;
  Sax sax(file, origin);
  try {
    Json::sax_parse(begin, end, &sax);
  } catch (const Json::exception& e) {
    fail(ErrorCode::Corrupt, "{}: not JSON: {}", origin, json_complaint(e.what()));
  }
  require(file.rest.is_object(), ErrorCode::Corrupt, "{}: not a JSON object", origin);
  return file;
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view content, std::string_view origin) {
  guard_json(content, kGuard, std::string(origin));
  return parse(content.begin(), content.end(), origin);
}

TokenizerFile read_tokenizer_file(const std::filesystem::path& path) {
  const FileMap map(path);
  require(map.size() <= Limits::kFileBytes, ErrorCode::ResourceLimit,
          "{}: {} bytes, at most {} are read", path.string(), map.size(), Limits::kFileBytes);
  guard_json(map, 0, map.size(), kGuard);
  TokenizerFile file =
      parse(DroppingIterator(&map, 0), DroppingIterator(&map, map.size()), path.string());
  map.verify_unchanged();
  return file;
}

std::string read_tokenizer_config(const std::filesystem::path& path) {
  std::string text = read_text_file(path, Limits::kConfigBytes);
  JsonLimits limits = kGuard;
  limits.values = Limits::kRestValues;
  guard_json(text, limits, path);
  return text;
}

}  // namespace fathom
