// Helpers of the format tests: a scratch folder, and GGUF and safetensors files made byte by byte,
// independently of Fathom's own writers, so that wrong ones can be made too.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace fathom::testing {

/// A folder that goes when the test ends.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "fathom-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A file of tests/golden/.
inline std::filesystem::path golden(std::string_view name) {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / "tests" / "golden" / name;
}

/// Little-endian bytes, appended one value after another.
class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    text_.append(raw, sizeof(T));
    return *this;
  }
  Bytes& raw(std::string_view bytes) {
    text_ += bytes;
    return *this;
  }
  /// A GGUF string: length and bytes.
  Bytes& string(std::string_view text) { return put<std::uint64_t>(text.size()).raw(text); }
  Bytes& pad_to(std::size_t alignment) {
    text_.resize((text_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::size_t size() const { return text_.size(); }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

/// A GGUF file from its parts; the counts can be overridden with lies.
struct GgufBytes {
  std::uint32_t version = 3;
  std::uint64_t key_count = 0;
  std::uint64_t tensor_count = 0;
  Bytes keys = {};
  Bytes tensors = {};
  std::string data = {};
  std::size_t alignment = 32;

  GgufBytes& key(std::string_view name, std::uint32_t type) {
    ++key_count;
    keys.string(name).put(type);
    return *this;
  }
  GgufBytes& u32(std::string_view name, std::uint32_t value) {
    key(name, 4).keys.put(value);
    return *this;
  }
  GgufBytes& text(std::string_view name, std::string_view value) {
    key(name, 8).keys.string(value);
    return *this;
  }
  /// `dims` as in the file: innermost first.
  GgufBytes& tensor(std::string_view name, std::initializer_list<std::uint64_t> dims,
                    std::uint32_t type, std::uint64_t offset) {
    ++tensor_count;
    tensors.string(name).put(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) tensors.put(dim);
    tensors.put(type).put(offset);
    return *this;
  }
  std::string header() const {
    Bytes bytes;
    bytes.raw("GGUF").put(version).put(tensor_count).put(key_count);
    bytes.raw(keys.str()).raw(tensors.str());
    return bytes.str();
  }
  std::string str() const {
    Bytes bytes;
    bytes.raw(header()).pad_to(alignment).raw(data);
    return bytes.str();
  }
};

/// Bytes of floats.
inline std::string floats(std::initializer_list<float> values) {
  Bytes bytes;
  for (const float value : values) bytes.put(value);
  return bytes.str();
}

/// A safetensors file: the header's JSON, its length before it, and the data.
inline std::string safetensors_bytes(std::string_view json, std::string_view data) {
  return Bytes().put<std::uint64_t>(json.size()).raw(json).raw(data).str();
}

/// The message and code of the Error that `action` throws; fails the test when it throws none.
struct Caught {
  ErrorCode code = ErrorCode::Internal;
  std::string message;
};
template <typename Action>
Caught error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

}  // namespace fathom::testing
