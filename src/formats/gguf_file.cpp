#include "formats/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "formats/file_text.h"

namespace fathom {

static_assert(std::endian::native == std::endian::little, "files are little-endian, as read here");

namespace {

struct TypeNumber {
  std::uint32_t number;
  DType dtype;
};
constexpr std::array kTypeNumbers{
    TypeNumber{0, DType::F32},      TypeNumber{1, DType::F16},     TypeNumber{2, DType::Q4_0},
    TypeNumber{3, DType::Q4_1},     TypeNumber{6, DType::Q5_0},    TypeNumber{7, DType::Q5_1},
    TypeNumber{8, DType::Q8_0},     TypeNumber{10, DType::Q2_K},   TypeNumber{11, DType::Q3_K},
    TypeNumber{12, DType::Q4_K},    TypeNumber{13, DType::Q5_K},   TypeNumber{14, DType::Q6_K},
    TypeNumber{24, DType::I8},      TypeNumber{25, DType::I16},    TypeNumber{26, DType::I32},
    TypeNumber{27, DType::I64},     TypeNumber{28, DType::F64},    TypeNumber{30, DType::BF16},
    TypeNumber{16, DType::IQ2_XXS}, TypeNumber{17, DType::IQ2_XS}, TypeNumber{18, DType::IQ3_XXS},
    TypeNumber{19, DType::IQ1_S},   TypeNumber{20, DType::IQ4_NL}, TypeNumber{21, DType::IQ3_S},
    TypeNumber{22, DType::IQ2_S},   TypeNumber{23, DType::IQ4_XS}, TypeNumber{29, DType::IQ1_M},
};

/// Names of the types that GGUF has and Fathom does not, for the message; "retired" ones too.
std::string_view foreign_type_name(std::uint32_t number) {
  constexpr std::array<std::string_view, 42> kNames{"",
                                                    "",
                                                    "",
                                                    "",
                                                    "Q4_2 (retired)",
                                                    "Q4_3 (retired)",
                                                    "",
                                                    "",
                                                    "",
                                                    "Q8_1",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "Q8_K",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "",
                                                    "Q4_0_4_4 (retired)",
                                                    "Q4_0_4_8 (retired)",
                                                    "Q4_0_8_8 (retired)",
                                                    "TQ1_0",
                                                    "TQ2_0",
                                                    "IQ4_NL_4_4 (retired)",
                                                    "IQ4_NL_4_8 (retired)",
                                                    "IQ4_NL_8_8 (retired)",
                                                    "MXFP4",
                                                    "NVFP4",
                                                    ""};
  return number < kNames.size() ? kNames[number] : std::string_view();
}

/// Bytes of a fixed-size value, 0 for strings, arrays and unknown types.
constexpr std::size_t fixed_bytes(GgufType type) {
  switch (type) {
    case GgufType::U8:
    case GgufType::I8:
    case GgufType::Bool:
      return 1;
    case GgufType::U16:
    case GgufType::I16:
      return 2;
    case GgufType::U32:
    case GgufType::I32:
    case GgufType::F32:
      return 4;
    case GgufType::U64:
    case GgufType::I64:
    case GgufType::F64:
      return 8;
    case GgufType::String:
    case GgufType::Array:
      return 0;
  }
  return 0;
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace

std::uint32_t gguf_dtype_number(DType dtype) {
  for (const TypeNumber& entry : kTypeNumbers) {
    if (entry.dtype == dtype) return entry.number;
  }
  fail(ErrorCode::Unsupported, "GGUF has no type {}", to_string(dtype));
}

/// Walks the header once. Everything it stores views the mapping; it checks each count against the
/// bytes that are left before it believes it.
class GgufFile::Parser {
 public:
  explicit Parser(GgufFile& file)
      : file_(file), bytes_(file.map_.bytes()), path_(file.map_.path().string()) {}

  void parse() {
    parse_prologue();
    for (std::uint64_t i = 0; i < key_count_; ++i) parse_key(i);
    index_keys();
    read_alignment();
    for (std::uint64_t i = 0; i < tensor_count_; ++i) parse_tensor(i);
    place_tensors();
  }

 private:
  void need(std::uint64_t bytes, std::string_view what) {
    require(bytes <= bytes_.size() - at_, ErrorCode::Corrupt,
            "{}: {} at byte {} takes {} bytes, but the file has {}; the download is probably "
            "incomplete",
            path_, what, at_, bytes, bytes_.size());
    require(at_ + bytes <= GgufLimits::kHeaderBytes, ErrorCode::ResourceLimit,
            "{}: the header goes on past {} bytes", path_, GgufLimits::kHeaderBytes);
  }

  template <typename T>
  T read(std::string_view what) {
    need(sizeof(T), what);
    const T value = load<T>(bytes_.data() + at_);
    at_ += sizeof(T);
    return value;
  }

  std::string_view read_string(std::string_view what, std::uint64_t limit) {
    const auto length = read<std::uint64_t>(what);
    require(length <= limit, length > bytes_.size() ? ErrorCode::Corrupt : ErrorCode::ResourceLimit,
            "{}: {} at byte {} claims {} bytes, at most {} are allowed", path_, what, at_ - 8,
            length, limit);
    need(length, what);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + at_), length);
    at_ += length;
    drop_pages();
    return text;
  }

  /// A long header is validated without keeping it resident.
  void drop_pages() {
    constexpr std::uint64_t kWindow = 8u << 20;
    if (at_ - dropped_ < kWindow) return;
    file_.map_.dont_need(dropped_, at_ - dropped_);
    dropped_ = at_;
  }

  void parse_prologue() {
    require(bytes_.size() >= 4 && std::memcmp(bytes_.data(), "GGUF", 4) == 0, ErrorCode::Corrupt,
            "{}: not a GGUF file (it does not begin with 'GGUF')", path_);
    at_ = 4;
    const auto version = read<std::uint32_t>("version");
    require(version == 0 || (version & 0xFFFF) != 0, ErrorCode::Unsupported,
            "{}: a big-endian GGUF file; convert it to little-endian (gguf-convert-endian)", path_);
    require(version != 1, ErrorCode::Unsupported,
            "{}: GGUF version 1, retired in 2023; convert the model again", path_);
    require(version == 2 || version == 3, ErrorCode::Unsupported,
            "{}: GGUF version {}; versions 2 and 3 are known", path_, version);
    file_.version_ = version;
    tensor_count_ = read<std::uint64_t>("tensor count");
    key_count_ = read<std::uint64_t>("key count");
    // The least a key takes is its length, one byte, its type and a one-byte value.
    check_count(key_count_, 8 + 1 + 4 + 1, GgufLimits::kKeys, "keys");
    check_count(tensor_count_, 8 + 1 + 4 + 4 + 8, GgufLimits::kTensors, "tensors");
  }

  void check_count(std::uint64_t count, std::uint64_t least_bytes, std::uint64_t limit,
                   std::string_view what) {
    require(count <= (bytes_.size() - at_) / least_bytes, ErrorCode::Corrupt,
            "{}: claims {} {}, but only {} bytes are left after byte {}", path_, count, what,
            bytes_.size() - at_, at_);
    require(count <= limit, ErrorCode::ResourceLimit, "{}: {} {}, at most {} are allowed", path_,
            count, what, limit);
  }

  void parse_key(std::uint64_t index) {
    const std::string_view key = read_string(fmt::format("key {}", index), GgufLimits::kKeyBytes);
    require(!key.empty(), ErrorCode::Corrupt, "{}: key {} has an empty name", path_, index);
    const std::string what = "value of key " + printable(key);
    const GgufType type = read_type(what);
    const std::uint64_t begin = at_;
    GgufType element = type;
    std::uint64_t count = 1;
    if (type == GgufType::Array) {
      element = read_type(what);
      require(element != GgufType::Array, ErrorCode::Unsupported,
              "{}: key {} is an array of arrays, which no known model has", path_, printable(key));
      count = read<std::uint64_t>(what);
      const std::size_t fixed = fixed_bytes(element);
      check_count(count, fixed == 0 ? 8 : fixed, GgufLimits::kArrayItems,
                  "items in " + printable(key));
    }
    skip_items(element, count, what);
    file_.keys_.push_back({key, type, element, count, bytes_.subspan(begin, at_ - begin)});
  }

  GgufType read_type(std::string_view what) {
    const auto number = read<std::uint32_t>(what);
    require(number <= static_cast<std::uint32_t>(GgufType::F64), ErrorCode::Corrupt,
            "{}: {} has type {}, but types go from 0 to 12", path_, what, number);
    return static_cast<GgufType>(number);
  }

  void skip_items(GgufType element, std::uint64_t count, const std::string& what) {
    if (element == GgufType::String) {
      for (std::uint64_t i = 0; i < count; ++i) read_string(what, GgufLimits::kStringBytes);
      return;
    }
    const std::uint64_t total = checked_mul<std::uint64_t>(count, fixed_bytes(element));
    need(total, what);
    const std::byte* data = bytes_.data() + at_;
    if (element == GgufType::Bool) {
      const bool boolean =
          std::all_of(data, data + total, [](std::byte b) { return b <= std::byte{1}; });
      require(boolean, ErrorCode::Corrupt, "{}: {} holds a boolean that is neither 0 nor 1", path_,
              what);
    } else if (element == GgufType::U64) {
      for (std::uint64_t i = 0; i < count; ++i) {
        const auto value = load<std::uint64_t>(data + i * 8);
        require(std::in_range<std::int64_t>(value), ErrorCode::Corrupt,
                "{}: {} is {}, which does not fit a signed 64-bit integer", path_, what, value);
      }
    }
    at_ += total;
    drop_pages();
  }

  void index_keys() {
    std::vector<GgufKey>& keys = file_.keys_;
    std::vector<std::uint32_t>& order = file_.keys_sorted_;
    order.resize(keys.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [&](std::uint32_t a, std::uint32_t b) { return keys[a].key < keys[b].key; });
    const auto twin = std::adjacent_find(
        order.begin(), order.end(),
        [&](std::uint32_t a, std::uint32_t b) { return keys[a].key == keys[b].key; });
    require(twin == order.end(), ErrorCode::Corrupt, "{}: key {} appears twice", path_,
            twin == order.end() ? std::string() : printable(keys[*twin].key));
  }

  void read_alignment() {
    const GgufKey* key = file_.find("general.alignment");
    if (key == nullptr) return;
    require(key->type == GgufType::U32, ErrorCode::Corrupt,
            "{}: general.alignment has type {}, expected an unsigned 32-bit integer (4)", path_,
            static_cast<std::uint32_t>(key->type));
    const auto alignment = load<std::uint32_t>(key->value.data());
    require(std::has_single_bit(alignment) && alignment <= GgufLimits::kAlignment,
            ErrorCode::Corrupt, "{}: general.alignment is {}, expected a power of two from 1 to {}",
            path_, alignment, GgufLimits::kAlignment);
    file_.alignment_ = alignment;
  }

  void parse_tensor(std::uint64_t index) {
    GgufTensor tensor;
    tensor.name = read_string(fmt::format("name of tensor {}", index), GgufLimits::kNameBytes);
    require(!tensor.name.empty(), ErrorCode::Corrupt, "{}: tensor {} has an empty name", path_,
            index);
    const std::string what = "tensor " + printable(tensor.name);
    const auto rank = read<std::uint32_t>(what);
    require(rank <= Shape::kMaxRank, ErrorCode::Corrupt,
            "{}: {} has {} dimensions, at most {} are allowed", path_, what, rank, Shape::kMaxRank);
    std::array<std::uint64_t, Shape::kMaxRank> dims{};
    for (std::uint32_t i = 0; i < rank; ++i) {
      const std::uint64_t dim = read<std::uint64_t>(what);
      require(dim != 0, ErrorCode::Corrupt, "{}: {} has a dimension of 0", path_, what);
      dims[rank - 1 - i] = dim;  // the file lists the innermost first
    }
    const auto type = read<std::uint32_t>(what);
    tensor.offset = read<std::uint64_t>(what);
    const auto known = std::find_if(kTypeNumbers.begin(), kTypeNumbers.end(),
                                    [&](const TypeNumber& t) { return t.number == type; });
    if (known == kTypeNumbers.end()) {
      const std::string_view name = foreign_type_name(type);
      fail(ErrorCode::Unsupported, "{}: {} has type {}{}{}, which Fathom does not read", path_,
           what, type, name.empty() ? "" : ", ", name);
    }
    tensor.dtype = known->dtype;
    try {
      tensor.shape = Shape(std::span(dims.data(), rank));
      tensor.bytes = tensor_bytes(tensor.dtype, tensor.shape);
    } catch (const Error& error) {
      fail(error.code(), "{}: {}: {}", path_, what, error.what());
    }
    file_.tensors_.push_back(tensor);
  }

  /// Turns offsets from the data section's start into offsets from the file's, once that is known.
  void place_tensors() {
    std::vector<GgufTensor>& tensors = file_.tensors_;
    const std::uint64_t data = checked_align_up(at_, file_.alignment_);
    const std::uint64_t room = bytes_.size() - std::min<std::uint64_t>(data, bytes_.size());
    for (GgufTensor& tensor : tensors) {
      require(tensor.offset % file_.alignment_ == 0, ErrorCode::Corrupt,
              "{}: tensor {} lies at offset {}, not a multiple of the alignment {}", path_,
              printable(tensor.name), tensor.offset, file_.alignment_);
      // Compared by subtraction: an offset near 2^64 must not come round to a small sum.
      require(tensor.offset <= room && tensor.bytes <= room - tensor.offset, ErrorCode::Corrupt,
              "{}: tensor {} takes {} bytes from byte {} of the data on, but the file has only {} "
              "there; the download is probably incomplete",
              path_, printable(tensor.name), tensor.bytes, tensor.offset, room);
      tensor.offset += data;
    }
    std::vector<std::uint32_t> order(tensors.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return tensors[a].offset < tensors[b].offset;
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      const GgufTensor& before = tensors[order[i - 1]];
      const GgufTensor& after = tensors[order[i]];
      require(before.offset + before.bytes <= after.offset, ErrorCode::Corrupt,
              "{}: tensors {} and {} overlap at byte {}", path_, printable(before.name),
              printable(after.name), after.offset);
    }
    std::sort(order.begin(), order.end(),
              [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name < tensors[b].name; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      require(tensors[order[i - 1]].name != tensors[order[i]].name, ErrorCode::Corrupt,
              "{}: tensor {} appears twice", path_, printable(tensors[order[i]].name));
    }
  }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  std::string path_;
  std::uint64_t at_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t key_count_ = 0;
};

GgufFile::GgufFile(const std::filesystem::path& path) : map_(path) {
  Parser(*this).parse();
  map_.verify_unchanged();
}

const GgufKey* GgufFile::find(std::string_view key) const {
  const auto at = std::lower_bound(
      keys_sorted_.begin(), keys_sorted_.end(), key,
      [&](std::uint32_t index, std::string_view wanted) { return keys_[index].key < wanted; });
  return at != keys_sorted_.end() && keys_[*at].key == key ? &keys_[*at] : nullptr;
}

namespace {

template <typename Stored, typename Vector>
MetaValue decode_array(const std::byte* data, std::uint64_t count) {
  Vector values;
  values.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    values.push_back(
        static_cast<typename Vector::value_type>(load<Stored>(data + i * sizeof(Stored))));
  }
  return values;
}

std::string_view string_at(const std::byte* data) {
  return {reinterpret_cast<const char*>(data + 8), load<std::uint64_t>(data)};
}

MetaValue decode_scalar(GgufType type, const std::byte* data) {
  switch (type) {
    case GgufType::U8:
      return std::int64_t{load<std::uint8_t>(data)};
    case GgufType::I8:
      return std::int64_t{load<std::int8_t>(data)};
    case GgufType::U16:
      return std::int64_t{load<std::uint16_t>(data)};
    case GgufType::I16:
      return std::int64_t{load<std::int16_t>(data)};
    case GgufType::U32:
      return std::int64_t{load<std::uint32_t>(data)};
    case GgufType::I32:
      return std::int64_t{load<std::int32_t>(data)};
    case GgufType::U64:
    case GgufType::I64:
      return load<std::int64_t>(data);
    case GgufType::F32:
      return double{load<float>(data)};
    case GgufType::F64:
      return load<double>(data);
    case GgufType::Bool:
      return load<std::uint8_t>(data) != 0;
    case GgufType::String:
      return string_at(data);
    case GgufType::Array:
      break;
  }
  return {};
}

}  // namespace

MetaValue GgufFile::decode(const GgufKey& key) const {
  const std::byte* data = key.value.data();
  if (key.type != GgufType::Array) return decode_scalar(key.type, data);
  data += 4 + 8;  // the element type and the count
  switch (key.element) {
    case GgufType::U8:
      return decode_array<std::uint8_t, MetaInts>(data, key.count);
    case GgufType::I8:
      return decode_array<std::int8_t, MetaInts>(data, key.count);
    case GgufType::U16:
      return decode_array<std::uint16_t, MetaInts>(data, key.count);
    case GgufType::I16:
      return decode_array<std::int16_t, MetaInts>(data, key.count);
    case GgufType::U32:
      return decode_array<std::uint32_t, MetaInts>(data, key.count);
    case GgufType::I32:
      return decode_array<std::int32_t, MetaInts>(data, key.count);
    case GgufType::U64:
    case GgufType::I64:
      return decode_array<std::int64_t, MetaInts>(data, key.count);
    case GgufType::F32:
      return decode_array<float, MetaFloats>(data, key.count);
    case GgufType::F64:
      return decode_array<double, MetaFloats>(data, key.count);
    case GgufType::Bool:
      return decode_array<std::uint8_t, MetaBools>(data, key.count);
    case GgufType::String: {
      MetaStrings strings;
      strings.reserve(key.count);
      for (std::uint64_t i = 0; i < key.count; ++i) {
        strings.push_back(string_at(data));
        data += 8 + strings.back().size();
      }
      return strings;
    }
    case GgufType::Array:
      break;
  }
  return {};
}

}  // namespace fathom
