// Memory for packed weights: large blocks in huge pages, of which matrices take their parts.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/thread_pool.h"

namespace fathom::cpu {

/// 64-byte aligned memory, alone or as part of a block that it keeps alive. In huge pages where the
/// system grants them: streams through gigabytes miss the TLB at every small one.
class WeightBuffer {
 public:
  WeightBuffer() = default;
  /// Memory of its own.
  explicit WeightBuffer(std::size_t bytes);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  /// Bytes [offset, offset + bytes), which keep all of it alive.
  WeightBuffer part(std::size_t offset, std::size_t bytes) const;

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t size_ = 0;
};

/// Where a model's packed weights go, placed as pool.numa() wants them: one copy, or one for each
/// NUMA node. An expert of a mixture is smaller than a huge page, so that matrices share blocks;
/// these grow with what is taken, and their unused ends are never touched.
class WeightMemory {
 public:
  enum class Blocks { Shared, OneEach };
  explicit WeightMemory(ThreadPool& pool, Blocks blocks = Blocks::Shared);

  ThreadPool& pool() const { return pool_; }
  std::size_t copies() const { return open_.size(); }
  /// Uninitialised and placed for copy number `copy`. Throws std::bad_alloc.
  WeightBuffer take(std::size_t bytes, std::size_t copy = 0);

 private:
  struct Open {
    WeightBuffer block;
    std::size_t used = 0;
    std::size_t next_bytes = 0;  // of the block after it
  };
  ThreadPool& pool_;
  Blocks blocks_;
  std::vector<Open> open_;  // by copy
};

}  // namespace fathom::cpu
