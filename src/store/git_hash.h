// The id that git, and so the Hub, gives a small file: SHA-1 of "blob <size>\0" and its bytes.
// It tells a damaged transfer, not a forged one: SHA-1 is broken against attackers. Files that
// matter for safety (weights) are checked by SHA-256.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace fathom {

/// Feed bytes with update(), read the digest once.
class Sha1 {
 public:
  void update(std::span<const std::byte> bytes);
  /// 40 lower-case hexadecimal digits. Call once.
  std::string hex_digest();

 private:
  void block(const std::uint8_t* data);
  std::uint32_t state_[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  std::uint8_t buffer_[64] = {};
  std::size_t buffered_ = 0;
  std::uint64_t total_ = 0;
};

/// The git object id of the file as a blob.
std::string git_blob_id(const std::filesystem::path& path);

}  // namespace fathom
