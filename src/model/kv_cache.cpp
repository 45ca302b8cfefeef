#include "model/kv_cache.h"

#include <limits>
#include <new>

#include "base/error.h"
#include "model/kv_cache_impl.h"

namespace fathom {
namespace {

std::size_t pages_for(std::size_t tokens) {
  return (tokens + KvCache::kPageTokens - 1) / KvCache::kPageTokens;
}

}  // namespace

KvCache::Impl::Sequence& KvCache::Impl::find(SequenceId sequence) {
  const auto found = sequences.find(value(sequence));
  require(found != sequences.end(), ErrorCode::InvalidArgument,
          "the KV cache has no sequence {} (never made, or removed)", value(sequence));
  return found->second;
}

const KvCache::Impl::Sequence& KvCache::Impl::find(SequenceId sequence) const {
  return const_cast<Impl*>(this)->find(sequence);  // NOLINT: the other overload changes nothing
}

std::shared_ptr<KvPage> KvCache::Impl::make_page() {
  require(*pages_used < capacity_pages, ErrorCode::ResourceLimit,
          "the KV cache is full: all {} pages of {} tokens are in use", capacity_pages,
          kPageTokens);
  std::unique_ptr<KvPage> page;
  try {
    page = backend->make_page(layout);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::ResourceLimit,
         "no memory for another page of the KV cache ({} bytes, {} in use)", layout.page_bytes(),
         *pages_used * layout.page_bytes());
  }
  std::shared_ptr<KvPage> counted(page.release(), [count = pages_used](KvPage* last) {
    delete last;
    --*count;
  });
  ++*pages_used;
  return counted;
}

void KvCache::Impl::reserve(SequenceId id, std::size_t tokens) {
  Sequence& sequence = find(id);
  try {
    const std::size_t open = sequence.tokens % kPageTokens;
    if (open != 0 && sequence.pages.back().use_count() > 1) {
      auto own = make_page();
      backend->copy_page(layout, *sequence.pages.back(), *own, open);
      sequence.pages.back() = std::move(own);
    }
    const std::size_t needed = pages_for(sequence.tokens + tokens);
    sequence.pages.reserve(needed);
    while (sequence.pages.size() < needed) sequence.pages.push_back(make_page());
  } catch (...) {
    give_back(id);
    throw;
  }
}

void KvCache::Impl::keep(SequenceId id, std::size_t tokens) { find(id).tokens += tokens; }

void KvCache::Impl::give_back(SequenceId id) noexcept {
  const auto found = sequences.find(value(id));
  if (found != sequences.end()) found->second.pages.resize(pages_for(found->second.tokens));
}

KvCache::KvCache(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KvCache::~KvCache() = default;
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;

SequenceId KvCache::create() {
  require(impl_->next_id < std::numeric_limits<std::int32_t>::max(), ErrorCode::ResourceLimit,
          "the KV cache has used up its sequence ids");
  const std::int32_t id = impl_->next_id++;
  impl_->sequences.emplace(id, Impl::Sequence{});
  return SequenceId{id};
}

SequenceId KvCache::fork(SequenceId source, std::size_t tokens) {
  const Impl::Sequence& from = impl_->find(source);
  require(tokens <= from.tokens, ErrorCode::InvalidArgument,
          "sequence {} holds {} tokens, but a fork of {} was asked for", value(source), from.tokens,
          tokens);
  Impl::Sequence shared;
  shared.tokens = tokens;
  shared.pages.assign(from.pages.begin(),
                      from.pages.begin() + static_cast<std::ptrdiff_t>(pages_for(tokens)));
  const SequenceId id = create();
  impl_->find(id) = std::move(shared);
  return id;
}

void KvCache::remove(SequenceId sequence) {
  impl_->find(sequence);
  impl_->sequences.erase(value(sequence));
}

void KvCache::truncate(SequenceId id, std::size_t tokens) {
  Impl::Sequence& sequence = impl_->find(id);
  require(tokens <= sequence.tokens, ErrorCode::InvalidArgument,
          "sequence {} holds {} tokens and cannot be cut to {}", value(id), sequence.tokens,
          tokens);
  sequence.tokens = tokens;
  impl_->give_back(id);
}

std::size_t KvCache::page_bytes() const { return impl_->layout.page_bytes(); }

void KvCache::read_page(SequenceId id, std::size_t page, std::span<std::byte> out) const {
  const Impl::Sequence& sequence = impl_->find(id);
  require((page + 1) * kPageTokens <= sequence.tokens, ErrorCode::InvalidArgument,
          "sequence {} holds {} tokens, so that page {} is not full", value(id), sequence.tokens,
          page);
  impl_->backend->read_page(impl_->layout, *sequence.pages[page], out);
}

void KvCache::append_page(SequenceId id, std::span<const std::byte> bytes) {
  Impl::Sequence& sequence = impl_->find(id);
  require(sequence.tokens % kPageTokens == 0, ErrorCode::InvalidArgument,
          "sequence {} ends within a page", value(id));
  auto page = impl_->make_page();
  impl_->backend->write_page(impl_->layout, bytes, *page);
  sequence.pages.push_back(std::move(page));
  sequence.tokens += kPageTokens;
}

std::size_t KvCache::length(SequenceId sequence) const { return impl_->find(sequence).tokens; }
std::size_t KvCache::capacity_tokens() const { return impl_->capacity_pages * kPageTokens; }
std::size_t KvCache::free_tokens() const {
  return (impl_->capacity_pages - *impl_->pages_used) * kPageTokens;
}
std::size_t KvCache::bytes_used() const { return *impl_->pages_used * impl_->layout.page_bytes(); }

}  // namespace fathom
