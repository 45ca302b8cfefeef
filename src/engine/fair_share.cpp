#include "engine/fair_share.h"

#include <algorithm>
#include <limits>

namespace fathom {

std::uint64_t FairShare::least() const {
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  bool any = false;
  for (const auto& [id, account] : accounts_) {
    if (account.requests == 0) continue;
    least = std::min(least, account.paid);
    any = true;
  }
  return any ? least : 0;
}

void FairShare::enter(std::uint64_t account) {
  const std::uint64_t level = least();
  Account& entering = accounts_[account];
  if (entering.requests++ == 0) entering.paid = std::max(entering.paid, level);
}

void FairShare::leave(std::uint64_t account) {
  --accounts_[account].requests;
  // Whoever is not ahead of the others would start level with them again: nothing to remember.
  const bool busy =
      std::ranges::any_of(accounts_, [](const auto& entry) { return entry.second.requests > 0; });
  const std::uint64_t level = least();
  std::erase_if(accounts_, [&](const auto& entry) {
    return entry.second.requests == 0 && (!busy || entry.second.paid <= level);
  });
}

std::uint64_t FairShare::paid(std::uint64_t account) const {
  const auto found = accounts_.find(account);
  return found == accounts_.end() ? 0 : found->second.paid;
}

}  // namespace fathom
