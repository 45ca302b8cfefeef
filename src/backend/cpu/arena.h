// Scratch memory that a call takes in pieces and the next call takes again.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace fathom::cpu {

/// Pieces are 64-byte aligned, uninitialised and valid until reset(). Not thread-safe: each thread
/// has its own.
class Arena {
 public:
  template <typename T>
  T* take(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    return reinterpret_cast<T*>(bytes(count * sizeof(T)));
  }

  /// Gives all pieces back. The memory stays, in one block if it had been several.
  void reset() {
    if (blocks_.size() > 1) {
      std::size_t total = 0;
      for (const Block& block : blocks_) total += block.size;
      blocks_.clear();
      add_block(total);
    }
    used_ = 0;
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  struct Block {
    std::unique_ptr<std::byte, Free> data;
    std::size_t size;
  };

  std::byte* bytes(std::size_t count) {
    count = (count + 63) / 64 * 64;
    if (blocks_.empty() || used_ + count > blocks_.back().size) {
      add_block(count < kSmallest ? kSmallest : count);
      used_ = 0;
    }
    std::byte* piece = blocks_.back().data.get() + used_;
    used_ += count;
    return piece;
  }

  void add_block(std::size_t size) {
    auto* data = static_cast<std::byte*>(std::aligned_alloc(64, size));
    if (data == nullptr) throw std::bad_alloc();
    blocks_.push_back({std::unique_ptr<std::byte, Free>(data), size});
  }

  static constexpr std::size_t kSmallest = std::size_t{1} << 18;
  std::vector<Block> blocks_;
  std::size_t used_ = 0;  // bytes of the last block
};

/// A thread's own arena, emptied when the scope begins and ends. A call's scratch and that of the
/// chunks which the calling thread runs itself are two.
class Scratch {
 public:
  enum class Use { Call, Chunk };
  explicit Scratch(Use use) : arena_(arenas()[static_cast<std::size_t>(use)]) { arena_.reset(); }
  ~Scratch() { arena_.reset(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Arena& arena() { return arena_; }

 private:
  static Arena* arenas() {
    thread_local Arena both[2];
    return both;
  }
  Arena& arena_;
};

}  // namespace fathom::cpu
