// AdamW and Muon, and what they keep.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/torch/torch_model.h"

namespace fathom::train {

enum class OptimizerKind { AdamW, Muon };
/// "adamw", "muon". Throws Error(InvalidArgument).
OptimizerKind optimizer_kind(std::string_view name);

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::AdamW;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;  // of matrices: norms and biases have none
  double muon_momentum = 0.95;
};

/// AdamW (arXiv 1711.05101), or Muon (Jordan et al. 2024; scaled as in arXiv 2502.16982, 2.2) for
/// the matrices between embedding and head, with AdamW for all else. Weights and what it keeps are
/// F32, on the weights' device.
class Optimizer {
 public:
  /// `model` outlives it.
  Optimizer(TorchModel& model, const OptimizerOptions& options);

  /// The square root of the sum of all gradients' squares. Weights without one count as 0.
  double gradient_norm() const;
  /// One update, with gradients times `scale` (1, or what brings them under the clip).
  void step(double rate, double scale);
  void zero_gradients();

  std::int64_t steps() const { return steps_; }
  /// What must be kept to go on: tensors by name, to be read or written in place.
  void each_state(const std::function<void(const std::string&, Tensor&)>& visit);
  void set_steps(std::int64_t steps) { steps_ = steps; }

 private:
  struct Slot {
    TorchModel::Parameter* parameter;
    bool decays;
    bool orthogonal;       // Muon's
    Tensor first, second;  // moments; Muon has the first alone
  };
  void adam(Slot& slot, double rate, double scale);
  void muon(const std::vector<Slot*>& slots, double rate, double scale);  // of one shape

  OptimizerOptions options_;
  std::vector<Slot> slots_;
  std::int64_t steps_ = 0;
};

/// The nearest matrix with orthonormal rows or columns, roughly: five Newton-Schulz steps, after
/// which singular values lie between 0.7 and 1.2. [..., rows, columns]: each matrix by itself.
Tensor orthogonalised(const Tensor& matrices);

}  // namespace fathom::train
