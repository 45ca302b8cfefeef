// What a model's forward passes must at least read and compute: the denominator of `fathom bench`'s
// percentages. Counted, not guessed: a router's choices decide how many experts a batch touches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/limits.h"
#include "config/model_config.h"
#include "formats/checkpoint.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/observer.h"

namespace fathom {

/// Work of some matrices: a multiply and an add are two operations.
struct MatrixWork {
  double operations = 0;  // for each token that passes through
  double bytes = 0;       // read once, however many tokens a pass has
};

/// A model's matrices by how often they are at work.
struct ModelWork {
  MatrixWork body;                 // every token
  MatrixWork head;                 // tokens whose logits are wanted
  std::vector<MatrixWork> expert;  // [layers]: one routed expert; nothing where a layer is dense
  double experts_per_token = 0;    // of each routed layer
  double kv_bytes = 0;             // a token's keys and values, all layers

  /// Of one token alone, with its logits.
  MatrixWork token() const;
};
ModelWork model_work(const Checkpoint& checkpoint, const ModelConfig& config, DType kv_dtype);

/// Adds up forward passes. An Observer, so that it learns which experts were chosen.
class WorkCounter final : public Observer {
 public:
  explicit WorkCounter(const ModelWork& model) : model_(model) {}

  /// Before each pass. `cached`: tokens whose keys and values it has to read, those that several
  /// sequences share counted once, as a cache could serve them all.
  void pass(const Batch& batch, std::size_t cached);
  void routing(std::int64_t layer, std::span<const std::int32_t> ids,
               std::span<const float> weights) override;

  double operations() const { return operations_; }
  double bytes() const { return bytes_; }

 private:
  const ModelWork& model_;
  double operations_ = 0;
  double bytes_ = 0;
  std::vector<bool> seen_;  // experts, in one layer of one pass
};

/// The least time that counted work takes on this machine, by what takes it.
struct LeastTime {
  double reading = 0;    // seconds to read the bytes from memory
  double computing = 0;  // seconds for the products, at the peak rate of the precision

  double seconds() const { return reading > computing ? reading : computing; }
  const char* bound_by() const { return reading > computing ? "reads" : "arithmetic"; }
};
/// Attention's own arithmetic, norms and routers' softmax are left out: the limit is not reached
/// at great depths, but never too low.
LeastTime least_time(const WorkCounter& work, const cpu::MachineLimits& limits,
                     ActivationPrecision precision);

}  // namespace fathom
