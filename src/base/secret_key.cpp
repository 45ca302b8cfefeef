#include "base/secret_key.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

namespace fathom {
namespace {

constexpr std::size_t kLeast = 32;
constexpr std::size_t kMost = 4096;
constexpr std::size_t kNonce = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTag = crypto_aead_xchacha20poly1305_ietf_ABYTES;

const unsigned char* bytes_of(const void* data) { return static_cast<const unsigned char*>(data); }

}  // namespace

SecretKey::SecretKey(std::string_view secret) {
  require(sodium_init() >= 0, ErrorCode::Internal, "libsodium cannot start");
  require(secret.size() >= kLeast, ErrorCode::InvalidArgument,
          "a secret of {} bytes can be guessed; {} are the least", secret.size(), kLeast);
  crypto_generichash(key_.data(), key_.size(), bytes_of(secret.data()), secret.size(), nullptr, 0);
}

SecretKey::~SecretKey() { sodium_memzero(key_.data(), key_.size()); }

SecretKey SecretKey::from_file(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  require(fd >= 0, ErrorCode::Io, "{}: cannot open the encryption key: {}", file.string(),
          std::strerror(errno));
  struct stat status{};
  ::fstat(fd, &status);
  std::string secret(kMost + 1, '\0');
  const ssize_t got = ::read(fd, secret.data(), secret.size());
  ::close(fd);
  const struct Wipe {
    std::string& secret;
    ~Wipe() { sodium_memzero(secret.data(), secret.size()); }
  } wipe{secret};
  require(got >= 0, ErrorCode::Io, "{}: cannot read the encryption key", file.string());
  require(
      (status.st_mode & 077) == 0, ErrorCode::InvalidArgument,
      "{}: others may read this encryption key (mode {:03o}); 'chmod 600' keeps it to its owner",
      file.string(), static_cast<unsigned>(status.st_mode & 0777));
  std::string_view text(secret.data(), static_cast<std::size_t>(got));
  text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  require(text.size() >= kLeast && text.size() <= kMost, ErrorCode::InvalidArgument,
          "{}: an encryption key has from {} to {} bytes, this one has {}; 'openssl rand -hex 32' "
          "makes a good one",
          file.string(), kLeast, kMost, text.size());
  return SecretKey(text);
}

SecretKey SecretKey::derive(std::string_view purpose) const {
  SecretKey other;
  crypto_generichash(other.key_.data(), other.key_.size(), bytes_of(purpose.data()), purpose.size(),
                     key_.data(), key_.size());
  return other;
}

std::size_t SecretKey::overhead() { return kNonce + kTag; }

std::vector<std::byte> SecretKey::seal(std::span<const std::byte> text,
                                       std::span<const std::byte> bound) const {
  std::vector<std::byte> sealed(kNonce + text.size() + kTag);
  auto* const nonce = reinterpret_cast<unsigned char*>(sealed.data());
  randombytes_buf(nonce, kNonce);  // 192 bits: drawn by chance, none comes twice
  crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + kNonce, nullptr, bytes_of(text.data()),
                                             text.size(), bytes_of(bound.data()), bound.size(),
                                             nullptr, nonce, key_.data());
  return sealed;
}

std::optional<std::vector<std::byte>> SecretKey::open(std::span<const std::byte> sealed,
                                                      std::span<const std::byte> bound) const {
  if (sealed.size() < overhead()) return std::nullopt;
  std::vector<std::byte> text(sealed.size() - overhead());
  const unsigned char* const nonce = bytes_of(sealed.data());
  const int wrong = crypto_aead_xchacha20poly1305_ietf_decrypt(
      reinterpret_cast<unsigned char*>(text.data()), nullptr, nullptr, nonce + kNonce,
      sealed.size() - kNonce, bytes_of(bound.data()), bound.size(), nonce, key_.data());
  if (wrong != 0) return std::nullopt;
  return text;
}

std::array<std::byte, 32> SecretKey::name(std::span<const std::byte> bytes) const {
  std::array<std::byte, 32> name{};
  crypto_generichash(reinterpret_cast<unsigned char*>(name.data()), name.size(),
                     bytes_of(bytes.data()), bytes.size(), key_.data(), key_.size());
  return name;
}

}  // namespace fathom
