#include "formats/gguf_writer.h"

#include <bit>
#include <cstring>
#include <limits>
#include <set>

#include "base/checked.h"
#include "formats/file_text.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are written as they lie in memory");

template <typename T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void put_string(std::string& to, std::string_view text) {
  put<std::uint64_t>(to, text.size());
  to += text;
}

template <typename T>
std::string scalar(T value) {
  std::string bytes;
  put(bytes, value);
  return bytes;
}

std::string array_head(GgufType element, std::size_t count) {
  std::string bytes;
  put(bytes, static_cast<std::uint32_t>(element));
  put<std::uint64_t>(bytes, count);
  return bytes;
}

template <typename T>
std::string array_of(GgufType element, std::span<const T> values) {
  std::string bytes = array_head(element, values.size());
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return bytes;
}

}  // namespace

void GgufMetadata::set(std::string_view key, GgufType type, std::string bytes) {
  require(!key.empty() && key.size() <= GgufLimits::kKeyBytes, ErrorCode::InvalidArgument,
          "a GGUF key is from 1 to {} bytes long, not {}", GgufLimits::kKeyBytes, key.size());
  const auto [at, fresh] = index_.emplace(key, entries_.size());
  if (fresh) {
    entries_.push_back({std::string(key), type, std::move(bytes)});
  } else {
    entries_[at->second].type = type;
    entries_[at->second].bytes = std::move(bytes);
  }
}

void GgufMetadata::u32(std::string_view key, std::uint64_t value) {
  require(std::in_range<std::uint32_t>(value), ErrorCode::InvalidArgument,
          "{}: {} does not fit 32 bits", key, value);
  set(key, GgufType::U32, scalar(static_cast<std::uint32_t>(value)));
}
void GgufMetadata::u64(std::string_view key, std::uint64_t value) {
  set(key, GgufType::U64, scalar(value));
}
void GgufMetadata::i32(std::string_view key, std::int32_t value) {
  set(key, GgufType::I32, scalar(value));
}
void GgufMetadata::f32(std::string_view key, double value) {
  set(key, GgufType::F32, scalar(static_cast<float>(value)));
}
void GgufMetadata::boolean(std::string_view key, bool value) {
  set(key, GgufType::Bool, scalar<std::uint8_t>(value ? 1 : 0));
}
void GgufMetadata::string(std::string_view key, std::string_view value) {
  std::string bytes;
  put_string(bytes, value);
  set(key, GgufType::String, std::move(bytes));
}
void GgufMetadata::strings(std::string_view key, std::span<const std::string> values) {
  std::string bytes = array_head(GgufType::String, values.size());
  for (const std::string& value : values) put_string(bytes, value);
  set(key, GgufType::Array, std::move(bytes));
}
void GgufMetadata::i32s(std::string_view key, std::span<const std::int32_t> values) {
  set(key, GgufType::Array, array_of(GgufType::I32, values));
}
void GgufMetadata::f32s(std::string_view key, std::span<const float> values) {
  set(key, GgufType::Array, array_of(GgufType::F32, values));
}
void GgufMetadata::copy(const GgufKey& key) {
  set(key.key, key.type,
      std::string(reinterpret_cast<const char*>(key.value.data()), key.value.size()));
}

const GgufMetadata::Entry* GgufMetadata::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
                       std::vector<TensorPlan> tensors)
    : file_(path), tensors_(std::move(tensors)) {
  const std::string file = path.string();
  if (const auto* entry = metadata.find("general.alignment")) {
    std::uint32_t alignment = 0;
    if (entry->type == GgufType::U32) std::memcpy(&alignment, entry->bytes.data(), 4);
    require(std::has_single_bit(alignment) && alignment <= GgufLimits::kAlignment,
            ErrorCode::InvalidArgument,
            "{}: general.alignment is {}, expected a power of two up to {}", file, alignment,
            GgufLimits::kAlignment);
    alignment_ = alignment;
  }
  std::string header("GGUF");
  put<std::uint32_t>(header, 3);
  put<std::uint64_t>(header, tensors_.size());
  put<std::uint64_t>(header, metadata.entries().size());
  for (const GgufMetadata::Entry& entry : metadata.entries()) {
    put_string(header, entry.key);
    put(header, static_cast<std::uint32_t>(entry.type));
    header += entry.bytes;
  }
  std::set<std::string_view> names;
  for (const TensorPlan& tensor : tensors_) {
    require(!tensor.name.empty() && tensor.name.size() <= kMaxName, ErrorCode::InvalidArgument,
            "{}: tensor name {} is not from 1 to {} bytes long", file, printable(tensor.name),
            kMaxName);
    require(names.insert(tensor.name).second, ErrorCode::InvalidArgument,
            "{}: tensor {} would be written twice", file, printable(tensor.name));
    require(tensor.shape.elements() > 0, ErrorCode::InvalidArgument,
            "{}: tensor {} of shape {} is empty, which GGUF does not hold", file,
            printable(tensor.name), tensor.shape.to_string());
    put_string(header, tensor.name);
    // A scalar is written as one element of one dimension: not every reader takes none.
    const std::size_t rank = tensor.shape.rank();
    put(header, static_cast<std::uint32_t>(rank == 0 ? 1 : rank));
    if (rank == 0) put<std::uint64_t>(header, 1);
    for (std::size_t i = rank; i-- > 0;) put(header, tensor.shape[i]);  // innermost first
    put(header, gguf_dtype_number(tensor.dtype));
    put(header, data_bytes_);
    const std::uint64_t end =
        checked_add<std::uint64_t>(data_bytes_, tensor_bytes(tensor.dtype, tensor.shape));
    data_bytes_ = checked_align_up(end, alignment_);
  }
  file_.write(header);
  pad(header.size());
}

void GgufWriter::pad(std::uint64_t bytes) {
  const std::string zeros(checked_align_up(bytes, alignment_) - bytes, '\0');
  file_.write(zeros);
}

void GgufWriter::append(std::span<const std::byte> bytes) {
  require(current_ < tensors_.size(), ErrorCode::Internal, "bytes after the last tensor");
  const TensorPlan& tensor = tensors_[current_];
  const std::uint64_t total = tensor_bytes(tensor.dtype, tensor.shape);
  require(bytes.size() <= total - current_done_, ErrorCode::Internal,
          "{} bytes for tensor {}, which lacks only {}", bytes.size(), printable(tensor.name),
          total - current_done_);
  file_.write(bytes);
  current_done_ += bytes.size();
  if (current_done_ == total) {
    pad(total);
    ++current_;
    current_done_ = 0;
  }
}

void GgufWriter::commit() {
  require(current_ == tensors_.size(), ErrorCode::Internal, "only {} of {} tensors were written",
          current_, tensors_.size());
  file_.commit();
}

}  // namespace fathom
