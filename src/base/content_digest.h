// XXH3-128: tells whether bytes are the same, at the speed of memory. No defence against somebody
// who wants two to look the same: that is SHA-256's (base/sha256.h).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/thread_pool.h"

namespace fathom {

/// A digest of bytes that come piece by piece.
class ContentDigest {
 public:
  ContentDigest();
  ~ContentDigest();
  ContentDigest(const ContentDigest&) = delete;
  ContentDigest& operator=(const ContentDigest&) = delete;

  void add(std::span<const std::byte> bytes);
  /// With its length, so that neighbours cannot trade characters.
  void add(std::string_view text);
  void add(std::uint64_t number);
  /// 32 hexadecimal digits.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Of one piece, in parallel over parts of 4 MiB: the digest of their digests if there are several.
std::string content_digest(std::span<const std::byte> bytes, ThreadPool& pool);

}  // namespace fathom
