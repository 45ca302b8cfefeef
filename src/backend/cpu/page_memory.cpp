#include "backend/cpu/page_memory.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/weight_memory.h"
#include "base/checked.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kSmallestBlock = std::size_t{2} << 20;  // a huge page
constexpr std::size_t kLargestBlock = std::size_t{64} << 20;

}  // namespace

struct PageMemory::Slot::Block {
  Block(std::size_t slot, std::size_t bytes) : slot_bytes(slot), memory(bytes) {
    count = memory.size() / slot_bytes;
    free.reserve(count);  // so that giving back cannot fail
    for (std::size_t i = count; i > 0; --i) free.push_back(memory.data() + (i - 1) * slot_bytes);
  }
  std::size_t slot_bytes;
  WeightBuffer memory;
  std::size_t count;
  std::vector<std::byte*> free;
  std::weak_ptr<State> owner;
};

struct PageMemory::State {
  using Block = Slot::Block;
  std::vector<std::shared_ptr<Block>> blocks;
  std::size_t next_bytes = kSmallestBlock;

  void release_unused() {
    const auto unused = [](const auto& block) { return block->free.size() == block->count; };
    const auto kept = std::find_if(blocks.begin(), blocks.end(), unused);
    if (kept == blocks.end()) return;
    blocks.erase(std::remove_if(kept + 1, blocks.end(), unused), blocks.end());
  }
};

PageMemory::Slot::Slot(Slot&& other) noexcept
    : block_(std::move(other.block_)), data_(std::exchange(other.data_, nullptr)) {}

PageMemory::Slot::~Slot() {
  if (data_ == nullptr) return;
  block_->free.push_back(data_);
  if (block_->free.size() < block_->count) return;
  if (const auto state = block_->owner.lock()) state->release_unused();
}

PageMemory::PageMemory() : state_(std::make_shared<State>()) {}
PageMemory::~PageMemory() = default;

PageMemory::Slot PageMemory::take(std::size_t bytes) {
  const std::size_t slot = checked_align_up(std::max<std::size_t>(bytes, 1), std::size_t{64});
  for (const auto& block : state_->blocks) {
    if (block->slot_bytes != slot || block->free.empty()) continue;
    std::byte* data = block->free.back();
    block->free.pop_back();
    return {block, data};
  }
  // Whole huge pages, so that the last slots of a block do not waste most of one.
  const std::size_t size = checked_align_up(std::max(slot, state_->next_bytes), kSmallestBlock);
  auto block = std::make_shared<Slot::Block>(slot, size);
  block->owner = state_;
  state_->blocks.push_back(block);
  state_->next_bytes = std::min(2 * state_->next_bytes, kLargestBlock);
  std::byte* data = block->free.back();
  block->free.pop_back();
  return {std::move(block), data};
}

std::size_t PageMemory::bytes_reserved() const {
  std::size_t bytes = 0;
  for (const auto& block : state_->blocks) bytes += block->memory.size();
  return bytes;
}

}  // namespace fathom::cpu
