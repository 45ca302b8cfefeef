// Reading numbers of a configuration with their limits. Internal to config/.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "config/model_config.h"
#include "formats/checkpoint.h"

namespace fathom {

/// Look-ups in one checkpoint under one key prefix ("deepseek2." in GGUF, "" in config.json).
/// Sizes must lie in [1, 2^31): larger ones are a damaged or hostile file.
class ConfigFields {
 public:
  ConfigFields(const Checkpoint& checkpoint, std::string prefix)
      : checkpoint_(checkpoint), prefix_(std::move(prefix)) {}

  const Checkpoint& checkpoint() const { return checkpoint_; }
  std::string path() const { return checkpoint_.path().string(); }
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  bool has(std::string_view name) const { return checkpoint_.metadata(key(name)) != nullptr; }

  std::int64_t need_size(std::string_view name) const {
    return checked_size(name, checkpoint_.need_int(key(name)));
  }
  std::int64_t size_or(std::string_view name, std::int64_t fallback) const {
    const auto found = checkpoint_.get_int(key(name));
    return found ? checked_size(name, *found) : fallback;
  }
  /// As size_or, but 0 is a value too ("no such part").
  std::int64_t count_or(std::string_view name, std::int64_t fallback) const {
    const auto found = checkpoint_.get_int(key(name));
    return !found ? fallback : *found == 0 ? 0 : checked_size(name, *found);
  }
  double need_positive(std::string_view name) const {
    return checked_positive(name, checkpoint_.need_float(key(name)));
  }
  double positive_or(std::string_view name, double fallback) const {
    const auto found = checkpoint_.get_float(key(name));
    return found ? checked_positive(name, *found) : fallback;
  }
  /// Any finite number, e.g. a multiplier that may be 0.
  double number_or(std::string_view name, double fallback) const {
    const auto found = checkpoint_.get_float(key(name));
    require(!found || std::isfinite(*found), ErrorCode::Corrupt, "{}: '{}' is not a finite number",
            path(), key(name));
    return found.value_or(fallback);
  }
  bool flag_or(std::string_view name, bool fallback) const {
    return checkpoint_.get_bool(key(name)).value_or(fallback);
  }
  std::string_view text_or(std::string_view name, std::string_view fallback) const {
    return checkpoint_.get_string(key(name)).value_or(fallback);
  }
  /// Error(Unsupported): "model.gguf: 'llama.logit_scale' = 0.5 is not supported".
  template <typename T>
  [[noreturn]] void unsupported(std::string_view name, const T& value) const {
    fail(ErrorCode::Unsupported, "{}: '{}' = {} is not supported", path(), key(name), value);
  }

 private:
  std::int64_t checked_size(std::string_view name, std::int64_t size) const {
    require(size >= 1 && size < (std::int64_t{1} << 31), ErrorCode::Corrupt,
            "{}: '{}' is {}, but must be from 1 to 2147483647", path(), key(name), size);
    return size;
  }
  double checked_positive(std::string_view name, double number) const {
    require(std::isfinite(number) && number > 0, ErrorCode::Corrupt,
            "{}: '{}' is {}, but must be a positive number", path(), key(name), number);
    return number;
  }

  const Checkpoint& checkpoint_;
  std::string prefix_;
};

ModelConfig read_hf_config(const Checkpoint& checkpoint);
ModelConfig read_gguf_config(const Checkpoint& checkpoint);

}  // namespace fathom
