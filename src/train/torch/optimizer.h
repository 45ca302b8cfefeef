// AdamW and Muon, and what they keep.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/torch/ranks.h"
#include "train/torch/tensor_list.h"
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
///
/// Among several ranks each weight has one owner, which alone keeps its moments and updates it
/// (ZeRO's first stage, arXiv 1910.02054, 5.1; whole weights, since Muon wants whole matrices).
/// Experts that are spread over the ranks are their rank's own.
class Optimizer {
 public:
  /// `model` outlives it.
  Optimizer(TorchModel& model, const OptimizerOptions& options, Ranks ranks = {});

  /// Sums gradients over the ranks: to be called once they are whole on this one, before those
  /// below. Each rank is left with those of its own weights.
  void reduce_gradients();
  /// The square root of the sum of all gradients' squares. Weights without one count as 0.
  double gradient_norm() const;
  /// One update, with gradients times `scale` (1, or what brings them under the clip).
  void step(double rate, double scale);
  void zero_gradients();

  std::int64_t steps() const { return steps_; }
  /// What this rank must keep to go on: tensors by name, to be read or written in place, and which
  /// rows of the whole they are.
  void each_state(const std::function<void(const std::string&, Tensor&, RowRange)>& visit);
  void set_steps(std::int64_t steps) { steps_ = steps; }

 private:
  struct Slot {
    TorchModel::Parameter* parameter;
    bool decays;
    bool orthogonal;         // Muon's
    Tensor first, second;    // moments, if they are this rank's to keep; Muon has the first alone
    int owner = -1;          // a rank; -1: every rank has its own
    std::int64_t place = 0;  // of its values among its owner's
  };
  bool mine(const Slot& slot) const { return slot.owner < 0 || slot.owner == ranks_.rank(); }
  void deal_out();
  at::TensorOptions plain_options() const;  // F32 where the weights are
  /// Values of all ranks' weights side by side, those of a rank in one part.
  Tensor parts() const;
  Tensor part_of(const Slot& slot, const Tensor& parts, int part) const;
  void adam(Slot& slot, double rate, double scale);
  void muon(const std::vector<Slot*>& slots, double rate, double scale);  // of one shape

  OptimizerOptions options_;
  Ranks ranks_;
  std::vector<Slot> slots_;
  std::int64_t part_size_ = 0;  // values of the rank that owns most
  std::int64_t steps_ = 0;
};

/// The nearest matrix with orthonormal rows or columns, roughly: five Newton-Schulz steps, after
/// which singular values lie between 0.7 and 1.2. [..., rows, columns]: each matrix by itself.
Tensor orthogonalised(const Tensor& matrices);

}  // namespace fathom::train
