// The model's memory of what it has read: pages of 64 tokens, shared between sequences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "tensor/dtype.h"

namespace fathom {

struct KvCacheOptions {
  DType dtype = DType::BF16;  // F32, BF16, F16 or Q8_0
  std::size_t capacity_tokens =
      0;  // over all sequences, rounded up to pages; memory is taken as used
};

/// Pages are reference-counted and immutable when full: a fork shares them, and whoever first grows
/// into a shared last page copies it (so that growth may take a page more than tokens alone ask
/// for). For latent attention a page holds [64, kv_lora_rank + qk_rope_head_dim] per layer,
/// never the expanded heads.
///
/// All functions throw Error(InvalidArgument) for a sequence that is not (or no longer) there. Used
/// by one thread at a time. Keeps its model's device alive.
class KvCache {
 public:
  struct Impl;
  explicit KvCache(std::unique_ptr<Impl> impl);
  ~KvCache();
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;

  static constexpr std::size_t kPageTokens = 64;

  /// A new empty sequence.
  SequenceId create();
  /// A new sequence that starts with the first `tokens` of `source` (shared pages).
  /// Error(InvalidArgument) if it holds fewer; so for truncate().
  SequenceId fork(SequenceId source, std::size_t tokens);
  void remove(SequenceId sequence);
  /// Forgets all but the first `tokens`.
  void truncate(SequenceId sequence, std::size_t tokens);
  std::size_t length(SequenceId sequence) const;

  // Pages, to be kept elsewhere: bytes as this model's device lays them out.
  std::size_t page_bytes() const;
  /// Full page number `page` of the sequence, counted from 0, into `out` [page_bytes()].
  void read_page(SequenceId sequence, std::size_t page, std::span<std::byte> out) const;
  /// The sequence, which must end with a full page, gets another. Error(ResourceLimit) when the
  /// cache is full: nothing has changed then.
  void append_page(SequenceId sequence, std::span<const std::byte> bytes);

  std::size_t capacity_tokens() const;
  std::size_t free_tokens() const;  // in whole pages
  std::size_t bytes_used() const;   // shared pages counted once

  Impl& impl() { return *impl_; }
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom
