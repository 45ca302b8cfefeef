// The cache's bookkeeping: which pages each sequence has, and who else holds them. Internal to
// model/.
//
// A page is written by one sequence only: whoever appends to a page that others hold copies it
// first. So full pages are never written again, and a fork costs nothing until it grows.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "model/kv_cache.h"

namespace fathom {

struct KvCache::Impl {
  Impl(std::shared_ptr<Backend> owner, const KvLayout& entry_layout, std::size_t capacity)
      : backend(std::move(owner)), layout(entry_layout), capacity_pages(capacity) {}

  struct Sequence {
    std::vector<std::shared_ptr<KvPage>> pages;  // ceil(tokens / 64), more between reserve and keep
    std::size_t tokens = 0;
  };

  Sequence& find(SequenceId sequence);
  const Sequence& find(SequenceId sequence) const;

  /// Makes room for `tokens` more, in pages that only this sequence holds. On Error(ResourceLimit)
  /// nothing that can be observed has changed.
  void reserve(SequenceId sequence, std::size_t tokens);
  /// The reserved tokens have been written: they count from now on.
  void keep(SequenceId sequence, std::size_t tokens);
  /// Returns what was reserved and not kept.
  void give_back(SequenceId sequence) noexcept;

  std::shared_ptr<KvPage> make_page();

  std::shared_ptr<Backend> backend;
  KvLayout layout;
  std::size_t capacity_pages = 0;
  std::shared_ptr<std::size_t> pages_used = std::make_shared<std::size_t>(0);  // pages' deleter's
  std::unordered_map<std::int32_t, Sequence> sequences;
  std::int32_t next_id = 0;
};

}  // namespace fathom
