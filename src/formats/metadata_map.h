// Metadata that a checkpoint owns itself: from config.json, or put there by a trainer.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"

namespace fathom {

/// Keys in order of insertion; values stay where they are until the map goes.
class MetadataMap {
 public:
  const MetaValue* find(std::string_view key) const;
  std::vector<std::string> keys() const { return order_; }

  /// Replaces what the key had.
  void set(std::string key, MetaValue value);
  void set_string(std::string key, std::string value);
  void set_strings(std::string key, std::vector<std::string> values);
  bool contains(std::string_view key) const { return values_.contains(key); }

  /// Adds the JSON object in `text` under `prefix`, flattened as Checkpoint::metadata() says.
  /// `file` is for messages. Throws Error(Corrupt | ResourceLimit).
  void add_json(std::string_view text, std::string_view prefix, const std::filesystem::path& file);

 private:
  friend class FlattenSax;
  std::map<std::string, MetaValue, std::less<>> values_;
  std::vector<std::string> order_;
  std::deque<std::string> strings_;  // what string_views in values_ view
};

}  // namespace fathom
