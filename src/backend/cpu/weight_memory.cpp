#include "backend/cpu/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/checked.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
/// A block's last huge page may be used in part: blocks of this size waste less than a percent.
constexpr std::size_t kLargestBlock = std::size_t{256} << 20;

}  // namespace

WeightBuffer::WeightBuffer(std::size_t bytes) : size_(bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const std::size_t rounded = checked_align_up(std::max<std::size_t>(bytes, 1), alignment);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)),
              [](std::byte* p) { std::free(p); });
  if (!data_) throw std::bad_alloc();
  // Only advice; a system that refuses has small pages.
  if (alignment == kHugePage) madvise(data_.get(), rounded, MADV_HUGEPAGE);
}

WeightBuffer WeightBuffer::part(std::size_t offset, std::size_t bytes) const {
  WeightBuffer part;
  part.data_ = std::shared_ptr<std::byte>(data_, data_.get() + offset);
  part.size_ = bytes;
  return part;
}

WeightMemory::WeightMemory(ThreadPool& pool, Blocks blocks)
    : pool_(pool), blocks_(blocks), open_(pool.numa().copies()) {
  for (Open& open : open_) open.next_bytes = kHugePage;
}

WeightBuffer WeightMemory::take(std::size_t bytes, std::size_t copy) {
  Open& open = open_[copy];
  if (blocks_ == Blocks::OneEach) {
    WeightBuffer alone(bytes);
    pool_.numa().place({alone.data(), alone.size()}, copy);
    return alone;
  }
  if (open.block.data() == nullptr || bytes > open.block.size() - open.used) {
    open.block = WeightBuffer(std::max(checked_align_up(bytes, kHugePage), open.next_bytes));
    open.used = 0;
    open.next_bytes = std::min(2 * open.next_bytes, kLargestBlock);
    // Before the first write: it is then that a page gets its place.
    pool_.numa().place({open.block.data(), open.block.size()}, copy);
  }
  const WeightBuffer part = open.block.part(open.used, bytes);
  open.used = std::min(open.block.size(), checked_align_up(open.used + bytes, kAlignment));
  return part;
}

}  // namespace fathom::cpu
