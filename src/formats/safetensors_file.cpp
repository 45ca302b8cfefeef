#include "formats/safetensors_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/checked.h"
#include "base/json_guard.h"
#include "formats/file_text.h"

namespace fathom {
namespace {

constexpr std::array kTypes{DType::F64,     DType::F32, DType::F16, DType::BF16,
                            DType::F8_E4M3, DType::I64, DType::I32, DType::I16,
                            DType::I8,      DType::U8,  DType::Bool};

/// Follows the header's JSON as it is read, so duplicates are seen and nothing but the result is
/// kept. Throws Error; parse errors of JSON itself reach parse_error().
class HeaderSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderSax(std::string path, std::vector<SafetensorsEntry>& tensors,
            std::vector<std::pair<std::string, std::string>>& metadata)
      : path_(std::move(path)), tensors_(tensors), metadata_(metadata) {}

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return refuse("a number with a fraction or over 64 bits");
  }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::InShape) {
      require(rank_ < Shape::kMaxRank, ErrorCode::Unsupported, "{}: {} has more than {} dimensions",
              path_, current(), Shape::kMaxRank);
      dims_[rank_++] = value;
    } else if (state_ == State::InOffsets) {
      require(offset_count_ < 2, ErrorCode::Corrupt, "{}: {} has more than two data_offsets", path_,
              current());
      offsets_[offset_count_++] = value;
    } else {
      return refuse("a number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::InMetadata) {
      count_text(value.size());
      metadata_.emplace_back(key_, value);
      return true;
    }
    if (state_ != State::AtDtype) return refuse("a string");
    const auto known = std::find_if(kTypes.begin(), kTypes.end(),
                                    [&](DType t) { return safetensors_dtype_name(t) == value; });
    require(known != kTypes.end(), ErrorCode::Unsupported,
            "{}: {} has dtype {}, which Fathom does not read", path_, current(), printable(value));
    dtype_ = *known;
    state_ = State::InTensor;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::Start) {
      state_ = State::InHeader;
    } else if (state_ == State::AtMetadata) {
      state_ = State::InMetadata;
    } else if (state_ == State::AtTensor) {
      state_ = State::InTensor;
      dtype_.reset();
      rank_ = offset_count_ = 0;
      seen_shape_ = seen_offsets_ = false;
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t& key) override {
    if (state_ == State::InHeader) {
      if (key == "__metadata__") {
        require(!seen_metadata_, ErrorCode::Corrupt, "{}: the header has two '__metadata__'",
                path_);
        seen_metadata_ = true;
        state_ = State::AtMetadata;
        return true;
      }
      require(key.size() <= SafetensorsLimits::kNameBytes, ErrorCode::ResourceLimit,
              "{}: the name {} is longer than {} bytes", path_, printable(key),
              SafetensorsLimits::kNameBytes);
      require(tensors_.size() < SafetensorsLimits::kTensors, ErrorCode::ResourceLimit,
              "{}: more than {} tensors", path_, SafetensorsLimits::kTensors);
      count_text(key.size());
      name_ = key;
      state_ = State::AtTensor;
    } else if (state_ == State::InMetadata) {
      count_text(key.size());
      key_ = key;
    } else if (state_ == State::InTensor) {
      open_field(key);
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::InTensor) {
      finish_tensor();
      state_ = State::InHeader;
    } else if (state_ == State::InMetadata) {
      state_ = State::InHeader;
    } else {
      state_ = State::End;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::AtShape) {
      state_ = State::InShape;
    } else if (state_ == State::AtOffsets) {
      state_ = State::InOffsets;
    } else {
      return refuse("an array");
    }
    return true;
  }

  bool end_array() override {
    state_ = State::InTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    fail(ErrorCode::Corrupt, "{}: the header is not JSON at byte {}: {}", path_, position + 8,
         json_complaint(error.what()));
  }

 private:
  enum class State {
    Start,
    InHeader,
    AtMetadata,  // its value is next
    InMetadata,
    AtTensor,
    InTensor,
    AtDtype,
    AtShape,
    InShape,
    AtOffsets,
    InOffsets,
    End,
  };

  std::string current() const {
    switch (state_) {
      case State::Start:
      case State::InHeader:
      case State::End:
        return "the header";
      case State::AtMetadata:
      case State::InMetadata:
        return "__metadata__ (strings to strings)";
      default:
        return "tensor " + printable(name_);
    }
  }

  bool refuse(std::string_view found) const {
    fail(ErrorCode::Corrupt, "{}: {} has {} where the format has none", path_, current(), found);
  }

  void count_text(std::size_t bytes) {
    text_bytes_ += bytes;
    require(text_bytes_ <= SafetensorsLimits::kAllNamesBytes, ErrorCode::ResourceLimit,
            "{}: names and metadata are over {} bytes long", path_,
            SafetensorsLimits::kAllNamesBytes);
  }

  void open_field(const std::string& key) {
    bool twice = false;
    if (key == "dtype") {
      twice = dtype_.has_value();
      state_ = State::AtDtype;
    } else if (key == "shape") {
      twice = std::exchange(seen_shape_, true);
      state_ = State::AtShape;
    } else if (key == "data_offsets") {
      twice = std::exchange(seen_offsets_, true);
      state_ = State::AtOffsets;
    } else {
      fail(ErrorCode::Corrupt, "{}: {} has an unknown field {}", path_, current(), printable(key));
    }
    require(!twice, ErrorCode::Corrupt, "{}: {} has '{}' twice", path_, current(), key);
  }

  void finish_tensor() {
    require(dtype_ && seen_shape_ && seen_offsets_ && offset_count_ == 2, ErrorCode::Corrupt,
            "{}: {} lacks its dtype, shape or two data_offsets", path_, current());
    SafetensorsEntry entry{name_, *dtype_, {}, offsets_[0], 0};
    std::uint64_t bytes = 0;
    try {
      entry.shape = Shape(std::span(dims_.data(), rank_));
      bytes = tensor_bytes(*dtype_, entry.shape);
    } catch (const Error& error) {
      fail(error.code(), "{}: {}: {}", path_, current(), error.what());
    }
    require(offsets_[0] <= offsets_[1], ErrorCode::Corrupt,
            "{}: {} ends at offset {}, before it begins at {}", path_, current(), offsets_[1],
            offsets_[0]);
    entry.bytes = offsets_[1] - offsets_[0];
    require(entry.bytes == bytes, ErrorCode::Corrupt,
            "{}: {} spans {} bytes, but {} elements of {} take {}", path_, current(), entry.bytes,
            entry.shape.elements(), to_string(*dtype_), bytes);
    tensors_.push_back(std::move(entry));
  }

  std::string path_;
  std::vector<SafetensorsEntry>& tensors_;
  std::vector<std::pair<std::string, std::string>>& metadata_;
  State state_ = State::Start;
  bool seen_metadata_ = false;
  std::size_t text_bytes_ = 0;
  std::string key_;
  // The tensor being read.
  std::string name_;
  std::optional<DType> dtype_;
  std::array<std::uint64_t, Shape::kMaxRank> dims_{};
  std::size_t rank_ = 0;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
  bool seen_shape_ = false;
  bool seen_offsets_ = false;
};

}  // namespace

std::string_view safetensors_dtype_name(DType dtype) {
  require(std::find(kTypes.begin(), kTypes.end(), dtype) != kTypes.end(), ErrorCode::Unsupported,
          "safetensors has no type {}", to_string(dtype));
  return to_string(dtype);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : map_(path) {
  const std::string file = path.string();
  require(map_.size() >= 8, ErrorCode::Corrupt,
          "{}: {} bytes are too few for a safetensors file; the download is probably incomplete",
          file, map_.size());
  std::uint64_t length = 0;
  std::memcpy(&length, map_.bytes().data(), 8);
  require(length <= SafetensorsLimits::kHeaderBytes, ErrorCode::Corrupt,
          "{}: claims a header of {} bytes, at most {} are allowed; this is probably not a "
          "safetensors file",
          file, length, SafetensorsLimits::kHeaderBytes);
  require(length <= map_.size() - 8, ErrorCode::Corrupt,
          "{}: claims a header of {} bytes, but the file has {}; the download is probably "
          "incomplete",
          file, length, map_.size());
  const std::uint64_t begin = 8 + length;
  const std::string_view header(reinterpret_cast<const char*>(map_.bytes().data()) + 8, length);
  require(header.starts_with('{'), ErrorCode::Corrupt,
          "{}: the header does not begin with '{{'; this is probably not a safetensors file", file);

  guard_json(map_, 8, begin, {.depth = 8, .string_bytes = SafetensorsLimits::kStringBytes});
  HeaderSax sax(file, tensors_, metadata_);
  nlohmann::json::sax_parse(DroppingIterator(&map_, 8), DroppingIterator(&map_, begin), &sax);

  std::sort(tensors_.begin(), tensors_.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
            });
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : tensors_) {
    require(entry.offset == end, ErrorCode::Corrupt,
            "{}: tensor {} begins at offset {}, expected {}: tensors {}", file,
            printable(entry.name), entry.offset, end,
            entry.offset < end ? "overlap" : "leave a hole");
    end = checked_add(end, entry.bytes, "tensor's end");
  }
  require(end == map_.size() - begin, ErrorCode::Corrupt,
          "{}: the tensors end at byte {}, but the file has {} bytes; {}", file, begin + end,
          map_.size(),
          begin + end > map_.size() ? "the download is probably incomplete"
                                    : "something was appended to it");
  for (SafetensorsEntry& entry : tensors_) entry.offset += begin;

  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return tensors_[a].name < tensors_[b].name; });
  for (std::size_t i = 1; i < by_name_.size(); ++i) {
    const std::string& name = tensors_[by_name_[i]].name;
    require(tensors_[by_name_[i - 1]].name != name, ErrorCode::Corrupt,
            "{}: tensor {} appears twice", file, printable(name));
  }
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : metadata_) keys.emplace_back(key);
  std::sort(keys.begin(), keys.end());
  const auto twin = std::adjacent_find(keys.begin(), keys.end());
  require(twin == keys.end(), ErrorCode::Corrupt, "{}: __metadata__ has {} twice", file,
          twin == keys.end() ? std::string() : printable(*twin));
  map_.verify_unchanged();
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](std::uint32_t index, std::string_view wanted) { return tensors_[index].name < wanted; });
  return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

}  // namespace fathom
