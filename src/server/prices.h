// What tokens cost, as an operator sets it: DeepSeek's three prices, in dollars per million tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "server/fields.h"

namespace fathom::server {

struct Price {
  double cache_hit = 0;   // dollars per million tokens of a prompt that the cache had,
  double cache_miss = 0;  // that were read,
  double output = 0;      // and that were written, thinking included
  /// In billionths of a dollar, so that sums are exact.
  std::int64_t cost_nano(std::size_t hit, std::size_t miss, std::size_t written) const;
};

/// {"MODEL": {"cache_hit": 0.07, "cache_miss": 0.27, "output": 1.10}, "default": {...}}
class PriceTable {
 public:
  PriceTable() = default;
  /// Throws Error(InvalidArgument) naming `origin` and the entry.
  static PriceTable parse(std::string_view json, const std::string& origin);
  /// The model's entry, else "default", else none.
  std::optional<Price> of(const std::string& model) const;

 private:
  std::map<std::string, Price> prices_;
};

inline double dollars(std::int64_t nano) { return static_cast<double>(nano) / 1e9; }

}  // namespace fathom::server
