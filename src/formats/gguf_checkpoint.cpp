#include "formats/gguf_checkpoint.h"

#include <algorithm>
#include <cctype>

#include "base/checked.h"
#include "formats/file_text.h"
#include "formats/gguf_names.h"

namespace fathom {
namespace {

constexpr std::int64_t kMaxShards = 10'000;

std::int64_t key_int(const GgufFile& file, std::string_view key, std::int64_t absent) {
  const GgufKey* found = file.find(key);
  if (found == nullptr) return absent;
  const MetaValue value = file.decode(*found);
  const auto* number = std::get_if<std::int64_t>(&value);
  require(number != nullptr, ErrorCode::Corrupt, "{}: {} is {}, expected an integer",
          file.path().string(), key, kind_of(value));
  return *number;
}

std::string architecture_of(const GgufFile& file) {
  const GgufKey* found = file.find("general.architecture");
  if (found == nullptr) return {};
  const MetaValue value = file.decode(*found);
  const auto* text = std::get_if<std::string_view>(&value);
  require(text != nullptr, ErrorCode::Corrupt, "{}: general.architecture is {}, expected a string",
          file.path().string(), kind_of(value));
  return std::string(*text);
}

/// "-00002-of-00005.gguf"
std::string split_suffix(std::int64_t number, std::int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number, count);
}

}  // namespace

GgufCheckpoint::GgufCheckpoint(const std::filesystem::path& path)
    : path_(path), decoded_(std::make_unique<Decoded>()) {
  files_.emplace_back(path);
  open_split_set();
  collect_tensors();
}

void GgufCheckpoint::open_split_set() {
  const GgufFile& first = files_.front();
  const std::int64_t count = key_int(first, "split.count", 1);
  if (count <= 1) return;
  const std::int64_t number = key_int(first, "split.no", 0);
  require(count <= kMaxShards && number >= 0 && number < count, ErrorCode::Corrupt,
          "{}: says it is file {} of a set of {}", path_.string(), number + 1, count);
  const std::string name = path_.filename().string();
  const std::string suffix = split_suffix(number + 1, count);
  require(name.ends_with(suffix), ErrorCode::Corrupt,
          "{}: is file {} of a split set of {}, but its name does not end in '{}'", path_.string(),
          number + 1, count, suffix);
  const std::string stem = name.substr(0, name.size() - suffix.size());
  require(number == 0, ErrorCode::InvalidArgument,
          "{}: is file {} of a split set of {}; open the first, {}", path_.string(), number + 1,
          count, printable(stem + split_suffix(1, count)));
  const std::string architecture = architecture_of(first);
  for (std::int64_t i = 1; i < count; ++i) {
    const GgufFile& file = files_.emplace_back(
        resolve_inside(path_.parent_path(), stem + split_suffix(i + 1, count), path_));
    const std::int64_t its_number = key_int(file, "split.no", -1);
    const std::int64_t its_count = key_int(file, "split.count", -1);
    require(its_number == i && its_count == count, ErrorCode::Corrupt,
            "{}: says it is file {} of {}, expected {} of {}; files of two models may be mixed up",
            file.path().string(), its_number + 1, its_count, i + 1, count);
    const std::string its_architecture = architecture_of(file);
    require(its_architecture.empty() || its_architecture == architecture, ErrorCode::Corrupt,
            "{}: holds architecture {}, but the set's first file {}; files of two models are mixed "
            "up",
            file.path().string(), printable(its_architecture), printable(architecture));
  }
  std::uint64_t tensors = 0;
  for (const GgufFile& file : files_) tensors += file.tensors().size();
  const std::int64_t expected =
      key_int(first, "split.tensors.count", static_cast<std::int64_t>(tensors));
  require(std::cmp_equal(expected, tensors), ErrorCode::Corrupt,
          "{}: split.tensors.count is {}, but the set's {} files hold {} tensors", path_.string(),
          expected, count, tensors);
}

void GgufCheckpoint::collect_tensors() {
  const std::string architecture = architecture_of(files_.front());
  std::size_t count = 0;
  for (const GgufFile& file : files_) count += file.tensors().size();
  names_.reserve(count);  // tensors_ views its strings: they must not move
  tensors_.reserve(count);
  for (const GgufFile& file : files_) {
    for (const GgufTensor& tensor : file.tensors()) {
      auto mapped = hf_tensor_name(architecture, tensor.name);
      const std::string& name =
          names_.emplace_back(mapped ? std::move(*mapped) : std::string(tensor.name));
      const bool fresh = tensors_.emplace(name, file.view(tensor)).second;
      require(fresh, ErrorCode::Corrupt, "{}: tensor {} ({}) appears twice", file.path().string(),
              printable(tensor.name), printable(name));
      weight_bytes_ = checked_add(weight_bytes_, tensor.bytes, "bytes of all tensors");
    }
  }
}

const MetaValue* GgufCheckpoint::metadata(std::string_view key) const {
  const GgufFile& file = files_.front();
  const GgufKey* found = file.find(key);
  if (found == nullptr) return nullptr;
  const std::lock_guard lock(decoded_->mutex);
  std::unique_ptr<MetaValue>& value = decoded_->values[found];
  if (value == nullptr) value = std::make_unique<MetaValue>(file.decode(*found));
  return value.get();
}

std::vector<std::string> GgufCheckpoint::metadata_keys() const {
  std::vector<std::string> keys;
  for (const GgufKey& key : files_.front().keys()) keys.emplace_back(key.key);
  return keys;
}

std::optional<TensorView> GgufCheckpoint::find(std::string_view name) const {
  if (const auto found = tensors_.find(name); found != tensors_.end()) return found->second;
  const auto expert = stack_of_expert(name);
  if (!expert) return std::nullopt;
  const auto stack = tensors_.find(expert->stack);
  if (stack == tensors_.end()) return std::nullopt;
  const TensorView& view = stack->second;
  if (view.shape.rank() != 3 || expert->expert >= view.shape[0]) return std::nullopt;
  return view.slice(expert->expert);
}

void GgufCheckpoint::not_needed(std::span<const std::byte> bytes) const noexcept {
  for (const auto& file : files_) file.map().dont_need(bytes);
}

void GgufCheckpoint::needed_soon(std::span<const std::byte> bytes) const noexcept {
  for (const auto& file : files_) file.map().will_need(bytes);
}

std::int64_t GgufCheckpoint::modified_ns() const {
  std::int64_t newest = 0;
  for (const auto& file : files_) newest = std::max(newest, file.map().modified_ns());
  return newest;
}

void GgufCheckpoint::verify_unchanged() const {
  for (const GgufFile& file : files_) file.map().verify_unchanged();
}

}  // namespace fathom
