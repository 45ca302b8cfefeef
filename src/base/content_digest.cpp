#include "base/content_digest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace fathom {
namespace {

std::string to_hex(XXH128_hash_t digest) {
  return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

}  // namespace

struct ContentDigest::State {
  struct Free {
    void operator()(XXH3_state_t* p) const { XXH3_freeState(p); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh{XXH3_createState()};
};

ContentDigest::ContentDigest() : state_(std::make_unique<State>()) {
  if (!state_->xxh) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh.get());
}
ContentDigest::~ContentDigest() = default;

void ContentDigest::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size());
}
void ContentDigest::add(std::string_view text) {
  add(std::uint64_t{text.size()});
  add(std::as_bytes(std::span(text.data(), text.size())));
}
void ContentDigest::add(std::uint64_t number) { add(std::as_bytes(std::span(&number, 1))); }

std::string ContentDigest::hex() const { return to_hex(XXH3_128bits_digest(state_->xxh.get())); }

std::string content_digest(std::span<const std::byte> bytes, ThreadPool& pool) {
  constexpr std::size_t kPart = std::size_t{4} << 20;
  if (bytes.size() <= kPart) return to_hex(XXH3_128bits(bytes.data(), bytes.size()));
  std::vector<XXH128_canonical_t> parts((bytes.size() + kPart - 1) / kPart);
  pool.for_ranges(parts.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const auto part = bytes.subspan(i * kPart, std::min(kPart, bytes.size() - i * kPart));
      XXH128_canonicalFromHash(&parts[i], XXH3_128bits(part.data(), part.size()));
    }
  });
  return to_hex(XXH3_128bits(parts.data(), parts.size() * sizeof parts[0]));
}

}  // namespace fathom
