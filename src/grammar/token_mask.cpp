#include "grammar/token_mask.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace fathom::grammar {

TokenTable::TokenTable(std::span<const std::string_view> pieces) : vocab_size_(pieces.size()) {
  std::vector<std::int32_t> order;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    if (!pieces[id].empty() && pieces[id].size() <= kLongest) {
      order.push_back(static_cast<std::int32_t>(id));
    }
  }
  const auto piece = [&](std::int32_t id) { return pieces[static_cast<std::size_t>(id)]; };
  std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) {
    return std::pair(piece(a), a) < std::pair(piece(b), b);
  });
  begin_.assign(257, 0);
  entry_of_.assign(pieces.size(), kNone);
  std::string_view before;
  for (const std::int32_t id : order) {
    const std::string_view bytes = piece(id);
    const auto shared = std::ranges::mismatch(before, bytes).in1 - before.begin();
    entry_of_[static_cast<std::size_t>(id)] = static_cast<std::uint32_t>(entries_.size());
    entries_.push_back({id, static_cast<std::uint32_t>(text_.size()),
                        static_cast<std::uint8_t>(bytes.size()),
                        static_cast<std::uint8_t>(shared)});
    text_ += bytes;
    longest_ = std::max(longest_, static_cast<std::uint32_t>(bytes.size()));
    ++begin_[static_cast<unsigned char>(bytes[0]) + 1];
    before = bytes;
  }
  std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
}

std::string_view TokenTable::bytes(TokenId id) const {
  const auto index = static_cast<std::size_t>(value(id));
  if (index >= vocab_size_ || entry_of_[index] == kNone) return {};
  const Entry& entry = entries_[entry_of_[index]];
  return std::string_view(text_).substr(entry.offset, entry.length);
}

TokenMasks::TokenMasks(std::shared_ptr<const Grammar> grammar,
                       std::shared_ptr<const TokenTable> tokens)
    : tokens_(std::move(tokens)), automaton_(std::move(grammar), tokens_->longest()) {}

const TokenMask& TokenMasks::mask(Automaton::State state) {
  automaton_.begin_work();
  const Automaton::State far = automaton_.far_of(state);
  if (const auto found = where_.find(far); found != where_.end()) {
    kept_.splice(kept_.begin(), kept_, found->second);
    return kept_.front().second;
  }
  if (automaton_.worn()) worn_ = true;
  TokenMask made;
  if (kept_.size() == kKept) {
    where_.erase(kept_.back().first);
    made = std::move(kept_.back().second);
    kept_.pop_back();
  }
  compute(far, made);
  kept_.emplace_front(far, std::move(made));
  where_[far] = kept_.begin();
  return kept_.front().second;
}

void TokenMasks::compute(Automaton::State state, TokenMask& mask) {
  mask.assign((tokens_->vocab_size() + 63) / 64, 0);
  std::array<Automaton::State, TokenTable::kLongest + 1> reached;
  const std::string& text = tokens_->text_;
  for (unsigned first = 0; first < 256; ++first) {
    const std::uint32_t end = tokens_->begin_[first + 1];
    if (tokens_->begin_[first] == end) continue;
    reached[1] = automaton_.next(state, static_cast<std::uint8_t>(first));
    if (reached[1] == Automaton::kDead) continue;
    std::size_t dead = TokenTable::kLongest + 1;  // the byte that leads nowhere
    for (std::uint32_t e = tokens_->begin_[first]; e < end; ++e) {
      const TokenTable::Entry& entry = tokens_->entries_[e];
      // What shares that byte goes nowhere either.
      std::size_t known = std::max<std::size_t>(entry.shared, 1);
      if (e == tokens_->begin_[first]) known = 1;
      if (known > dead) continue;
      dead = TokenTable::kLongest + 1;
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data()) + entry.offset;
      std::size_t k = known;
      for (; k < entry.length; ++k) {
        reached[k + 1] = automaton_.next(reached[k], bytes[k]);
        if (reached[k + 1] == Automaton::kDead) break;
      }
      if (k < entry.length) {
        dead = k;
      } else {
        const auto id = static_cast<std::size_t>(entry.id);
        mask[id / 64] |= std::uint64_t{1} << (id % 64);
      }
    }
  }
}

Automaton::State TokenMasks::accept(Automaton::State state, TokenId token) {
  automaton_.begin_work();
  const std::string_view bytes = tokens_->bytes(token);
  if (bytes.empty()) return Automaton::kDead;
  for (const char c : bytes) {
    if (state == Automaton::kDead) break;
    state = automaton_.next(state, static_cast<std::uint8_t>(c));
  }
  return state;
}

}  // namespace fathom::grammar
