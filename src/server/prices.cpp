#include "server/prices.h"

#include <cmath>

#include "base/error.h"

namespace fathom::server {

std::int64_t Price::cost_nano(std::size_t hit, std::size_t miss, std::size_t written) const {
  const double dollars_per_token = 1e-6;
  const double cost =
      (static_cast<double>(hit) * cache_hit + static_cast<double>(miss) * cache_miss +
       static_cast<double>(written) * output) *
      dollars_per_token;
  return std::llround(cost * 1e9);
}

PriceTable PriceTable::parse(std::string_view text, const std::string& origin) {
  const Json json = Json::parse(text, nullptr, false);
  require(json.is_object(), ErrorCode::InvalidArgument, "{}: the prices are no JSON object",
          origin);
  PriceTable table;
  for (const auto& [model, entry] : json.items()) {
    require(entry.is_object(), ErrorCode::InvalidArgument, "{}: {} is no object of prices", origin,
            model);
    Price price;
    const auto read = [&, &name = model, &of = entry](const char* field, double& to) {
      const auto found = of.find(field);
      require(found != of.end() && found->is_number() && found->template get<double>() >= 0 &&
                  found->template get<double>() < 1e6,
              ErrorCode::InvalidArgument, "{}: {}.{} must be a price in dollars per million tokens",
              origin, name, field);
      to = found->template get<double>();
    };
    read("cache_hit", price.cache_hit);
    read("cache_miss", price.cache_miss);
    read("output", price.output);
    table.prices_[model] = price;
  }
  return table;
}

std::optional<Price> PriceTable::of(const std::string& model) const {
  for (const std::string& name : {model, std::string("default")}) {
    if (const auto found = prices_.find(name); found != prices_.end()) return found->second;
  }
  return std::nullopt;
}

}  // namespace fathom::server
