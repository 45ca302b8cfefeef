// Where a run's rows come from, and where in it the run is.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "train/row_packer.h"

namespace fathom::train {

class RowSource {
 public:
  virtual ~RowSource() = default;

  /// The next row; there is always one, epoch after epoch.
  virtual Row next() = 0;
  /// Rows for an evaluation: the first ones, whatever next() has given.
  virtual std::vector<Row> first(std::size_t rows) = 0;
  virtual nlohmann::ordered_json place() const = 0;
  /// Goes on from there. Throws Error(InvalidArgument) for a place that it does not have, and the
  /// JSON library's exceptions for what is none.
  virtual void seek(const nlohmann::ordered_json& place) = 0;
  /// What must be the same for a place to mean the same.
  virtual nlohmann::ordered_json identity() const = 0;
  /// Of one epoch's rows.
  virtual double tokens() const = 0;
};

}  // namespace fathom::train
