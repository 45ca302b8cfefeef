#include "train/torch/optimizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "base/error.h"

namespace fathom::train {
namespace {

/// Muon is for matrices of the layers: the embedding and the head are tables, one row a word.
bool is_hidden_matrix(const TorchModel::Parameter& parameter) {
  return parameter.value.dim() >= 2 && parameter.name.find(".layers.") != std::string::npos &&
         !parameter.name.ends_with("mlp.gate.weight");
}

/// A weight, or what is as large, as matrices with no more rows than columns.
struct Matrices {
  Tensor all;   // [matrices, rows, columns]
  bool turned;  // rows and columns changed places
};
Matrices matrices_of(const TorchModel::Parameter& parameter, const Tensor& tensor) {
  Tensor all = tensor.dim() == 2 ? tensor.unsqueeze(0) : tensor;
  // Gate and up are two matrices that lie together.
  if (parameter.name.ends_with("experts.gate_up_proj")) {
    all = all.unflatten(1, {2, -1}).flatten(0, 1);
  }
  const bool turned = all.size(1) > all.size(2);
  return {turned ? all.transpose(1, 2) : all, turned};
}

}  // namespace

OptimizerKind optimizer_kind(std::string_view name) {
  if (name == "adamw") return OptimizerKind::AdamW;
  if (name == "muon") return OptimizerKind::Muon;
  fail(ErrorCode::InvalidArgument, "no optimiser is called '{}'; there are adamw and muon", name);
}

Optimizer::Optimizer(TorchModel& model, const OptimizerOptions& options, Ranks ranks)
    : options_(options), ranks_(std::move(ranks)) {
  const at::NoGradGuard no_gradient;
  for (TorchModel::Parameter& parameter : model.parameters()) {
    if (!parameter.trained) continue;
    Slot slot{&parameter, parameter.value.dim() >= 2, false, {}, {}};
    slot.orthogonal = options.kind == OptimizerKind::Muon && is_hidden_matrix(parameter);
    slots_.push_back(std::move(slot));
  }
  if (!ranks_.alone()) deal_out();
  for (Slot& slot : slots_) {
    if (!mine(slot)) continue;
    slot.first = at::zeros_like(slot.parameter->value);
    if (!slot.orthogonal) slot.second = at::zeros_like(slot.parameter->value);
  }
}

/// The largest first, each to the rank that has least.
void Optimizer::deal_out() {
  std::vector<Slot*> order;
  for (Slot& slot : slots_) {
    if (slot.parameter->first_expert < 0) order.push_back(&slot);
  }
  std::ranges::stable_sort(order, std::greater(),
                           [](const Slot* slot) { return slot->parameter->value.numel(); });
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(ranks_.size()));
  for (Slot* slot : order) {
    const auto least = std::ranges::min_element(sizes);
    slot->owner = static_cast<int>(least - sizes.begin());
    slot->place = *least;
    *least += slot->parameter->value.numel();
  }
  part_size_ = std::ranges::max(sizes);
}

Tensor Optimizer::parts() const { return at::zeros({ranks_.size(), part_size_}, plain_options()); }

at::TensorOptions Optimizer::plain_options() const {
  return slots_.front().parameter->value.options().requires_grad(false);
}

Tensor Optimizer::part_of(const Slot& slot, const Tensor& parts, int part) const {
  const Tensor& value = slot.parameter->value;
  return parts[part].narrow(0, slot.place, value.numel()).view(value.sizes());
}

void Optimizer::reduce_gradients() {
  if (ranks_.alone()) return;
  const at::NoGradGuard no_gradient;
  const Tensor all = parts();
  for (const Slot& slot : slots_) {
    const Tensor& gradient = slot.parameter->value.grad();
    if (slot.owner >= 0 && gradient.defined()) part_of(slot, all, slot.owner).copy_(gradient);
  }
  Tensor own = at::empty({part_size_}, plain_options());
  ranks_.sum_parts(own, all);
  // A rank that had nothing to learn from has no gradients, but its weights may have others'.
  std::vector<double> there;
  for (const Slot& slot : slots_) there.push_back(slot.parameter->value.grad().defined() ? 1 : 0);
  ranks_.sum(there);
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.owner < 0) continue;
    slot.parameter->value.mutable_grad() =
        mine(slot) && there[i] > 0 ? part_of(slot, own.unsqueeze(0), 0) : Tensor();
  }
}

double Optimizer::gradient_norm() const {
  const at::NoGradGuard no_gradient;
  std::vector<Tensor> norms;
  for (const Slot& slot : slots_) {
    const Tensor& gradient = slot.parameter->value.grad();
    if (gradient.defined()) norms.push_back(at::linalg_vector_norm(gradient));
  }
  double squares = 0;
  if (!norms.empty()) {
    // A device that works by itself is waited for once.
    const Tensor all = at::stack(norms).to(at::kCPU);
    for (std::int64_t i = 0; i < all.size(0); ++i) {
      const double norm = all.const_data_ptr<float>()[i];
      squares += norm * norm;
    }
  }
  return std::sqrt(ranks_.sum(squares));
}

void Optimizer::step(double rate, double scale) {
  const at::NoGradGuard no_gradient;
  ++steps_;
  std::map<std::vector<std::int64_t>, std::vector<Slot*>> alike;  // by the shape of their matrices
  for (Slot& slot : slots_) {
    if (!slot.parameter->value.grad().defined()) continue;
    if (slot.orthogonal) {
      alike[matrices_of(*slot.parameter, slot.first).all.sizes().slice(1).vec()].push_back(&slot);
    } else {
      adam(slot, rate, scale);
    }
  }
  for (auto& [shape, slots] : alike) muon(slots, rate, scale);
  if (ranks_.alone()) return;
  Tensor all = parts();
  const Tensor own = at::zeros({part_size_}, plain_options());
  for (const Slot& slot : slots_) {
    if (slot.owner == ranks_.rank()) {
      part_of(slot, own.unsqueeze(0), 0).copy_(slot.parameter->value);
    }
  }
  ranks_.gather(all, own);
  for (const Slot& slot : slots_) {
    if (!mine(slot)) slot.parameter->value.copy_(part_of(slot, all, slot.owner));
  }
}

void Optimizer::adam(Slot& slot, double rate, double scale) {
  Tensor& weight = slot.parameter->value;
  Tensor gradient = weight.grad();
  if (scale != 1) gradient.mul_(scale);
  const Tensor step = at::scalar_tensor(static_cast<double>(steps_), plain_options());
  at::_fused_adamw_({weight}, {gradient}, {slot.first}, {slot.second}, {}, {step}, rate,
                    options_.beta1, options_.beta2, slot.decays ? options_.weight_decay : 0.0,
                    options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
}

/// Matrices of one shape go through the iteration together: small products cost more to begin than
/// to make.
void Optimizer::muon(const std::vector<Slot*>& slots, double rate, double scale) {
  std::vector<Tensor> ahead;
  for (Slot* slot : slots) {
    // Nesterov's look ahead: the moment as it is now, and the gradient once more.
    const Tensor gradient = slot->parameter->value.grad() * scale;
    slot->first.mul_(options_.muon_momentum).add_(gradient);
    ahead.push_back(
        matrices_of(*slot->parameter, gradient + slot->first * options_.muon_momentum).all);
  }
  const Tensor all = orthogonalised(at::cat(ahead));
  // An update whose size is AdamW's: 0.2 a weight on average.
  const double size = 0.2 * std::sqrt(static_cast<double>(all.size(2)));
  std::int64_t at = 0;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Tensor& weight = slots[i]->parameter->value;
    const Tensor own = all.narrow(0, at, ahead[i].size(0));
    at += own.size(0);
    const bool turned = matrices_of(*slots[i]->parameter, weight).turned;
    weight.mul_(1 - rate * options_.weight_decay);
    weight.add_((turned ? own.transpose(1, 2) : own).reshape(weight.sizes()), -rate * size);
  }
}

void Optimizer::zero_gradients() {
  for (Slot& slot : slots_) slot.parameter->value.mutable_grad() = Tensor();
}

void Optimizer::each_state(
    const std::function<void(const std::string&, Tensor&, RowRange)>& visit) {
  for (Slot& slot : slots_) {
    if (!mine(slot)) continue;
    const std::int64_t rows = slot.parameter->value.size(0), expert = slot.parameter->first_expert;
    const RowRange range = expert < 0 ? RowRange{0, rows} : RowRange{expert, rows * ranks_.size()};
    visit(slot.parameter->name + ".first", slot.first, range);
    if (slot.second.defined()) visit(slot.parameter->name + ".second", slot.second, range);
  }
}

Tensor orthogonalised(const Tensor& matrices) {
  // The quintic of Jordan's Muon, whose slope at 0 is as steep as five steps allow.
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
  const bool tall = matrices.size(-2) > matrices.size(-1);
  Tensor x = tall ? matrices.transpose(-2, -1) : matrices;
  x = x / (at::linalg_matrix_norm(x, "fro", {-2, -1}, true) + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const Tensor square = at::matmul(x, x.transpose(-2, -1));
    x = a * x + at::matmul(b * square + c * at::matmul(square, square), x);
  }
  return tall ? x.transpose(-2, -1) : x;
}

}  // namespace fathom::train
