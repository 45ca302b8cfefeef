// Reads the fixtures of tests/golden/quant.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace fathom::testing {

/// A fixture's bytes, taken from the front piece by piece.
class Golden {
 public:
  explicit Golden(const std::string& name) {
    const std::string path = std::string(FATHOM_SOURCE_DIR) + "/tests/golden/quant/" + name;
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) throw std::runtime_error("cannot open " + path);
    bytes_.resize(static_cast<std::size_t>(file.tellg()));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  }

  template <typename T>
  std::vector<T> take(std::size_t count) {
    if (count * sizeof(T) > left()) throw std::runtime_error("fixture is too short");
    std::vector<T> out(count);
    std::memcpy(out.data(), bytes_.data() + at_, count * sizeof(T));
    at_ += count * sizeof(T);
    return out;
  }
  template <typename T>
  std::vector<T> rest() {
    return take<T>(left() / sizeof(T));
  }
  std::size_t left() const { return bytes_.size() - at_; }

 private:
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

/// The same bits, any NaN being as good as any other.
inline bool same_float(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

inline void expect_same_floats(std::span<const float> got, std::span<const float> expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(same_float(got[i], expected[i]))
        << "element " << i << ": " << got[i] << ", expected " << expected[i];
  }
}

}  // namespace fathom::testing
