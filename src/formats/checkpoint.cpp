#include "formats/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "formats/file_text.h"
#include "formats/gguf_checkpoint.h"
#include "formats/hf_checkpoint.h"

namespace fathom {

std::string_view kind_of(const MetaValue& value) {
  struct Kind {
    std::string_view operator()(std::monostate) const { return "nothing"; }
    std::string_view operator()(bool) const { return "a boolean"; }
    std::string_view operator()(std::int64_t) const { return "an integer"; }
    std::string_view operator()(double) const { return "a number with a fraction"; }
    std::string_view operator()(std::string_view) const { return "a string"; }
    std::string_view operator()(const MetaStrings&) const { return "an array of strings"; }
    std::string_view operator()(const MetaInts&) const { return "an array of integers"; }
    std::string_view operator()(const MetaFloats&) const { return "an array of numbers"; }
    std::string_view operator()(const MetaBools&) const { return "an array of booleans"; }
  };
  using Base = std::variant<std::monostate, bool, std::int64_t, double, std::string_view,
                            MetaStrings, MetaInts, MetaFloats, MetaBools>;
  return std::visit(Kind{}, static_cast<const Base&>(value));
}

namespace {

[[noreturn]] void wrong_type(const Checkpoint& checkpoint, std::string_view key,
                             std::string_view expected, const MetaValue& found) {
  fail(ErrorCode::Corrupt, "{}: '{}' is {}, expected {}", checkpoint.path().string(), key,
       kind_of(found), expected);
}

/// The value as T; nullopt when absent.
template <typename T>
std::optional<T> get(const Checkpoint& checkpoint, std::string_view key,
                     std::string_view expected) {
  const MetaValue* value = checkpoint.metadata(key);
  if (value == nullptr) return std::nullopt;
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) wrong_type(checkpoint, key, expected, *value);
  return *typed;
}

template <typename T>
T need(std::optional<T> value, const Checkpoint& checkpoint, std::string_view key) {
  require(value.has_value(), ErrorCode::Corrupt, "{}: has no '{}'", checkpoint.path().string(),
          key);
  return *value;
}

}  // namespace

TensorView Checkpoint::tensor(std::string_view name) const {
  auto found = find(name);
  require(found.has_value(), ErrorCode::NotFound, "{}: has no tensor {}", path().string(),
          printable(name));
  return *found;
}

std::optional<std::int64_t> Checkpoint::get_int(std::string_view key) const {
  return get<std::int64_t>(*this, key, "an integer");
}

std::optional<double> Checkpoint::get_float(std::string_view key) const {
  const MetaValue* value = metadata(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* integer = std::get_if<std::int64_t>(value)) return static_cast<double>(*integer);
  return get<double>(*this, key, "a number");
}

std::optional<bool> Checkpoint::get_bool(std::string_view key) const {
  return get<bool>(*this, key, "a boolean");
}

std::optional<std::string_view> Checkpoint::get_string(std::string_view key) const {
  return get<std::string_view>(*this, key, "a string");
}

std::int64_t Checkpoint::need_int(std::string_view key) const {
  return need(get_int(key), *this, key);
}

double Checkpoint::need_float(std::string_view key) const {
  return need(get_float(key), *this, key);
}

std::string_view Checkpoint::need_string(std::string_view key) const {
  return need(get_string(key), *this, key);
}

std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  require(std::filesystem::exists(status), ErrorCode::NotFound, "{}: no such file or folder",
          path.string());
  if (std::filesystem::is_directory(status)) return std::make_unique<HfCheckpoint>(path);

  std::array<char, 9> head{};
  if (std::filesystem::is_regular_file(status)) {
    std::ifstream file(path, std::ios::binary);
    require(file.is_open(), ErrorCode::Io, "{}: cannot open: {}", path.string(),
            std::strerror(errno));
    file.read(head.data(), head.size());
  }
  if (std::string_view(head.data(), 4) == "GGUF") return std::make_unique<GgufCheckpoint>(path);
  const bool safetensors = head[8] == '{' || path.extension() == ".safetensors";
  if (safetensors) return std::make_unique<HfCheckpoint>(path);
  // The reader's own message says what is wrong with a file that is called .gguf.
  if (path.extension() == ".gguf") return std::make_unique<GgufCheckpoint>(path);
  fail(ErrorCode::Unsupported,
       "{}: neither GGUF nor safetensors nor a folder with config.json; PyTorch's pickled .bin and "
       ".pt files are not read, because they can run code",
       path.string());
}

}  // namespace fathom
