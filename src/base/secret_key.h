// What lies on disk and nobody else may read: sealed under a secret that its owner keeps.
//
// XChaCha20-Poly1305 with random nonces, keyed BLAKE2b for names and for keys of further purposes
// (libsodium). Sealed bytes tell their length, and nothing of what they are.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace fathom {

/// Immutable; any number of threads may use it. Copies are wiped like the original.
class SecretKey {
 public:
  static constexpr std::size_t kBytes = 32;

  /// `secret`: 32 bytes at least that nobody can guess.
  explicit SecretKey(std::string_view secret);
  /// The file's contents without white space at its end. Throws Error(Io) if it cannot be read,
  /// Error(InvalidArgument) if others may read it, or it has fewer than 32 bytes or over 4096.
  static SecretKey from_file(const std::filesystem::path& file);
  ~SecretKey();
  SecretKey(const SecretKey&) = default;
  SecretKey& operator=(const SecretKey&) = default;

  /// Another key, from which this one cannot be told.
  SecretKey derive(std::string_view purpose) const;

  /// Encrypts. `bound` is not part of it, but open() must be given the same.
  std::vector<std::byte> seal(std::span<const std::byte> text,
                              std::span<const std::byte> bound) const;
  /// What was sealed; nothing if a bit of it, of `bound`, or the key is another.
  std::optional<std::vector<std::byte>> open(std::span<const std::byte> sealed,
                                             std::span<const std::byte> bound) const;
  /// Bytes that seal() adds.
  static std::size_t overhead();

  /// A name for these bytes that only the key's owner can make.
  std::array<std::byte, 32> name(std::span<const std::byte> bytes) const;

 private:
  SecretKey() = default;
  std::array<unsigned char, kBytes> key_{};
};

}  // namespace fathom
