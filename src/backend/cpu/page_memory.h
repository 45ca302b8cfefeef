// Memory for pages of the KV cache: slots of equal size in large blocks of huge pages, since what
// reads a context meets another page every few microseconds, and each small page costs a look-up.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace fathom::cpu {

/// Not for several threads at a time, nor are its slots.
class PageMemory {
 public:
  /// A slot, 64-byte aligned, given back when this ends. It may outlive the PageMemory.
  class Slot {
   public:
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    Slot(Slot&& other) noexcept;
    Slot& operator=(Slot&&) = delete;
    ~Slot();
    std::byte* data() const { return data_; }

   private:
    friend class PageMemory;
    struct Block;
    Slot(std::shared_ptr<Block> block, std::byte* data) : block_(std::move(block)), data_(data) {}
    std::shared_ptr<Block> block_;
    std::byte* data_;
  };

  PageMemory();
  ~PageMemory();

  /// Uninitialised. Blocks grow with what is taken; one of which no slot is in use is given back to
  /// the system, but for one that is kept. Throws std::bad_alloc and changes nothing.
  Slot take(std::size_t bytes);
  /// Of all blocks, whether their slots are in use or not.
  std::size_t bytes_reserved() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace fathom::cpu
