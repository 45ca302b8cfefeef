// Whose turn it is: what each account has had of the model's time.
//
// Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024,
// algorithm 2): an account pays for each token that was computed for it, and the one that has paid
// least goes first. One that comes back after a pause starts level with the others, so that nobody
// can save up turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace fathom {

/// Not thread-safe: part of the Scheduler.
class FairShare {
 public:
  /// A token that is written keeps the model as busy as several that are read together.
  static constexpr std::uint64_t kReadCost = 1;
  static constexpr std::uint64_t kWriteCost = 4;

  /// A request of the account has come; has ended.
  void enter(std::uint64_t account);
  void leave(std::uint64_t account);
  void charge(std::uint64_t account, std::uint64_t cost) { accounts_[account].paid += cost; }
  std::uint64_t paid(std::uint64_t account) const;

 private:
  struct Account {
    std::uint64_t paid = 0;
    std::size_t requests = 0;  // that wait or run
  };
  /// What the account with least has paid, of those that have requests; 0 if none has.
  std::uint64_t least() const;

  std::map<std::uint64_t, Account> accounts_;
};

}  // namespace fathom
