// What the scheduler keeps of ended requests, in memory and on disk, and how new ones find it.
#include <algorithm>
#include <new>
#include <span>
#include <vector>

#include "engine/scheduler.h"

namespace fathom {
namespace {

std::size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto [end, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::size_t>(end - a.begin());
}

/// Tokens that another request is about to have read: fewer are sooner read again.
constexpr std::size_t kWorthWaiting = 16;

}  // namespace

Scheduler::Match Scheduler::find_match(const Job& job) const {
  // At least the last token is computed anew: its logits are what the answer begins with.
  const std::span<const TokenId> reusable(job.tokens.data(), job.tokens.size() - 1);
  Match best;
  const bool records = job.request.record_routing;
  const auto consider = [&](SequenceId sequence, std::span<const TokenId> held,
                            std::uint64_t scope) {
    if (scope != job.request.cache_scope) return;
    const std::size_t common = common_prefix(held, reusable);
    if (common > best.tokens) best = {sequence, common};
  };
  // Whoever wants its tokens' experts told goes on from none whose experts are not known.
  for (const Idle& idle : idle_) {
    if (!records) consider(idle.sequence, idle.tokens, idle.scope);
  }
  for (const auto& other : active_) {
    if (records && !other->request.record_routing) continue;
    consider(*other->sequence, std::span(other->tokens.data(), other->fed),
             other->request.cache_scope);
  }
  return best;
}

void Scheduler::take_routing(Job& job, const Match& match) const {
  if (!job.request.record_routing) return;
  job.routing.clear();
  if (!match.source) return;
  const auto source = std::ranges::find_if(
      active_, [&](const auto& other) { return other->sequence == match.source; });
  const auto& known = (*source)->routing;
  job.routing.assign(known.begin(),
                     known.begin() + static_cast<std::ptrdiff_t>(match.tokens * choices_));
}

bool Scheduler::is_being_read(const Job& job, std::size_t known) const {
  const std::span<const TokenId> reusable(job.tokens.data(), job.tokens.size() - 1);
  return std::ranges::any_of(active_, [&](const auto& other) {
    if (other->writing() || other->request.cache_scope != job.request.cache_scope) return false;
    const std::size_t common = common_prefix(other->tokens, reusable);
    return other->fed < common && common >= known + kWorthWaiting;
  });
}

PageNames& Scheduler::names_of(Job& job) const {
  if (!job.page_names) {
    job.page_names.emplace(options_.context_fingerprint, job.request.cache_scope);
  }
  return *job.page_names;
}

void Scheduler::load_pages(Job& job) {
  if (!options_.context_store) return;
  ContextStore& store = *options_.context_store;
  // At least the last token is computed anew.
  const std::span<const TokenId> reusable(job.tokens.data(), job.tokens.size() - 1);
  const std::span<const PageName> names = names_of(job).of(reusable);
  std::vector<std::byte> bytes;
  for (std::size_t page = job.fed / KvCache::kPageTokens; page < names.size(); ++page) {
    if (!store.has(names[page])) return;
    const std::size_t begin = page * KvCache::kPageTokens;
    bytes.resize(cache_.page_bytes());
    if (!store.load(names[page], reusable.subspan(begin, KvCache::kPageTokens), bytes)) return;
    try {
      // A page that the sequence has begun gives way to the full one.
      if (job.fed > begin) cache_.truncate(*job.sequence, begin);
      job.fed = begin;
      cache_.append_page(*job.sequence, bytes);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::ResourceLimit) return;
      throw;
    }
    job.fed = begin + KvCache::kPageTokens;
  }
}

void Scheduler::save_pages(SequenceId sequence, std::span<const TokenId> tokens,
                           std::uint64_t scope, bool wait) {
  if (!options_.context_store) return;
  ContextStore& store = *options_.context_store;
  try {
    PageNames names(options_.context_fingerprint, scope);
    std::size_t page = 0;
    for (const PageName& name : names.of(tokens)) {
      const std::size_t begin = page * KvCache::kPageTokens;
      if (!store.has(name)) {
        std::vector<std::byte> bytes(cache_.page_bytes());
        cache_.read_page(sequence, page, bytes);
        store.save(name, tokens.subspan(begin, KvCache::kPageTokens), std::move(bytes), wait);
      }
      ++page;
    }
  } catch (const std::bad_alloc&) {
    // Then it is read again one day: what makes room must not fail for want of some.
  }
}

void Scheduler::save_idle() {
  for (const Idle& idle : idle_) save_pages(idle.sequence, idle.tokens, idle.scope, /*wait=*/true);
}

std::size_t Scheduler::forget(std::optional<std::uint64_t> scope) {
  const auto mark = [&](const std::shared_ptr<Job>& job) {
    if (!scope || job->request.cache_scope == *scope) job->leaves_nothing = true;
  };
  std::ranges::for_each(active_, mark);
  std::ranges::for_each(waiting_, mark);
  return std::erase_if(idle_, [&](const Idle& idle) {
    if (scope && idle.scope != *scope) return false;
    cache_.remove(idle.sequence);
    return true;
  });
}

bool Scheduler::evict_idle(std::optional<SequenceId> except) {
  const auto oldest = std::find_if(idle_.begin(), idle_.end(),
                                   [&](const Idle& each) { return each.sequence != except; });
  if (oldest == idle_.end()) return false;
  save_pages(oldest->sequence, oldest->tokens, oldest->scope, /*wait=*/false);
  cache_.remove(oldest->sequence);
  idle_.erase(oldest);
  return true;
}

bool Scheduler::keep_idle(const Job& job) {
  if (job.fed == 0 || options_.max_idle == 0 || job.leaves_nothing) return false;
  try {
    idle_.push_back(
        {*job.sequence,
         {job.tokens.begin(), job.tokens.begin() + static_cast<std::ptrdiff_t>(job.fed)},
         job.request.cache_scope});
  } catch (const std::bad_alloc&) {
    return false;  // a job must be able to end; its prompt is then read again
  }
  if (idle_.size() > options_.max_idle) evict_idle();
  return true;
}

}  // namespace fathom
