// SHA-256 of files and streams (libsodium).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace fathom {

/// Feed bytes with update(), read the digest once with hex_digest().
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  /// 64 lower-case hexadecimal digits. Call once, after the last update().
  std::string hex_digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace fathom
