#include "train/torch/experts.h"

#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "train/torch/dispatch.h"
#include "train/torch/fp8.h"
#include "train/torch/fused.h"
#include "train/torch/ops.h"

namespace fathom::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

/// What choosing goes by: scores outside the best groups never win.
Tensor ranking(const Tensor& scores, const Tensor& bias, const MoeConfig& moe) {
  Tensor rank = bias.defined() ? scores + bias : scores;
  if (moe.routing == Routing::Greedy || moe.n_group <= 1) return rank;
  const Tensor groups = rank.unflatten(-1, {moe.n_group, -1});
  const Tensor group_score =
      moe.routing == Routing::NoAuxTc ? std::get<0>(groups.topk(2, -1)).sum(-1) : groups.amax(-1);
  const Tensor best = std::get<1>(group_score.topk(moe.topk_group, -1));
  const Tensor closed = at::ones_like(group_score, at::kBool).scatter(-1, best, false);
  return groups.masked_fill(closed.unsqueeze(-1), -std::numeric_limits<float>::infinity())
      .flatten(-2);
}

/// oneDNN compiles a product for each shape that it meets, and experts' shares are never twice the
/// same: in BF16, which it multiplies, shares are rounded up to so many rows. Those that are added
/// repeat the first token and are never looked at.
constexpr std::int64_t kRowsAtOnce = 64;

/// [tokens, per_token, size]: each token's rows.
Tensor chosen(const Tensor& rows, const Tensor& place) {
  return rows.index_select(0, place.flatten()).view({place.size(0), place.size(1), rows.size(1)});
}

/// Experts' matrices as products take them; `stacked`: matrices that lie one above the other.
Tensor matrices(const Tensor& weights, at::ScalarType type, bool fp8, std::int64_t stacked) {
  if (!fp8) return weights.to(type);
  return round_blocks(weights.unflatten(1, {stacked, -1})).flatten(1, 2);
}

/// Written as one function with its own gradient: autograd over slices would keep a node for every
/// expert and copy whole stacks of weights' gradients for each.
class MixExperts : public torch::autograd::Function<MixExperts> {
 public:
  static Variable forward(AutogradContext* context, const Tensor& x, const Tensor& weights,
                          const Tensor& ids, const Tensor& gate_up, const Tensor& down,
                          std::int64_t experts, bool fp8, const Ranks& ranks) {
    const auto type = fp8 ? at::kFloat : x.scalar_type();
    const auto dispatch =
        c10::make_intrusive<Dispatch>(ids, experts, type == at::kBFloat16 ? kRowsAtOnce : 1, ranks);
    const Tensor wide_up = matrices(gate_up, type, fp8, 2),
                 wide_down = matrices(down, type, fp8, 1);

    const Tensor inputs = dispatch->to_experts(x.index_select(0, dispatch->token()).to(type));
    const Tensor rounded = fp8 ? round_tiles(inputs) : inputs;
    const Tensor both = at::empty({inputs.size(0), gate_up.size(1)}, inputs.options());
    for (std::int64_t e = 0; e < dispatch->experts(); ++e) {
      if (const Rows& rows = dispatch->rows(e); rows.count > 0) {
        Tensor out = rows.of(both);
        at::mm_out(out, rows.of(rounded), wide_up[e].t());
      }
    }
    const bool fuses = fused::fits(both);
    const Tensor hidden = fuses ? fused::swiglu_of_both(both)
                                : plain::swiglu(both.narrow(1, 0, both.size(1) / 2),
                                                both.narrow(1, both.size(1) / 2, both.size(1) / 2));
    const Tensor narrow = fp8 ? round_tiles(hidden) : hidden;
    const Tensor products = at::empty_like(inputs);
    for (std::int64_t e = 0; e < dispatch->experts(); ++e) {
      if (const Rows& rows = dispatch->rows(e); rows.count > 0) {
        Tensor out = rows.of(products);
        at::mm_out(out, rows.of(narrow), wide_down[e].t());
      }
    }
    const Tensor outputs = dispatch->from_experts(products);
    const Tensor mixed = weights.contiguous();
    context->save_for_backward({inputs, both, hidden, outputs, mixed, gate_up, down});
    context->saved_data["fp8"] = fp8;
    context->saved_data["dispatch"] = c10::IValue::make_capsule(dispatch);
    const Tensor sum =
        fuses ? fused::combine(outputs, dispatch->place(), mixed)
              : (chosen(outputs, dispatch->place()) * mixed.to(type).unsqueeze(-1)).sum(1);
    return sum.to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &inputs = saved[0], &both = saved[1], &hidden = saved[2], &outputs = saved[3];
    const Tensor &weights = saved[4], &gate_up = saved[5], &down = saved[6];
    const auto dispatch =
        c10::static_intrusive_pointer_cast<Dispatch>(context->saved_data["dispatch"].toCapsule());
    const Tensor& place = dispatch->place();
    const auto type = inputs.scalar_type();
    const bool fp8 = context->saved_data["fp8"].toBool(), fuses = fused::fits(both);
    const std::int64_t half = hidden.size(1);

    const Tensor coming = gradients[0].to(type).contiguous();
    Tensor to_weights, to_copies;
    if (fuses) {
      std::tie(to_copies, to_weights) = fused::combine_back(coming, outputs, place, weights);
    } else {
      to_weights = (chosen(outputs, place) * coming.unsqueeze(1)).to(at::kFloat).sum(-1);
      to_copies = at::zeros_like(outputs).index_copy(
          0, place.flatten(), (coming.unsqueeze(1) * weights.to(type).unsqueeze(-1)).flatten(0, 1));
    }
    const Tensor to_outputs = dispatch->to_experts(to_copies);
    const Tensor wide_up = matrices(gate_up, type, fp8, 2),
                 wide_down = matrices(down, type, fp8, 1);
    const Tensor to_hidden = at::empty_like(hidden);
    const Tensor to_down = at::zeros_like(down), to_gate_up = at::zeros_like(gate_up);
    const bool same = type == down.scalar_type();
    /// Of what comes and what was multiplied, over tokens.
    const auto product = [&](Tensor into, const Tensor& left, const Tensor& right) {
      if (fp8) {
        at::mm_out(into, round_tiles(left.t()), round_tiles(right.t()).t());
      } else if (same) {
        at::mm_out(into, left.t(), right);
      } else {
        into.copy_(at::mm(left.t(), right));
      }
    };
    const auto rounded = [&](const Tensor& t) { return fp8 ? round_tiles(t) : t; };
    for (std::int64_t e = 0; e < dispatch->experts(); ++e) {
      if (const Rows& rows = dispatch->rows(e); rows.count > 0) {
        Tensor out = rows.of(to_hidden);
        at::mm_out(out, rounded(rows.of(to_outputs)), wide_down[e]);
        product(to_down[e], rows.of(to_outputs), rows.of(hidden));
      }
    }
    Tensor to_both;
    if (fuses) {
      to_both = fused::swiglu_of_both_back(to_hidden, both);
    } else {
      const Tensor gate = both.narrow(1, 0, half), up = both.narrow(1, half, half);
      const Tensor sigmoid = at::sigmoid(gate), silu = gate * sigmoid;
      to_both = at::cat({to_hidden * up * (sigmoid + silu * (1 - sigmoid)), to_hidden * silu}, 1);
    }
    const Tensor to_inputs = at::empty_like(inputs);
    for (std::int64_t e = 0; e < dispatch->experts(); ++e) {
      if (const Rows& rows = dispatch->rows(e); rows.count > 0) {
        Tensor out = rows.of(to_inputs);
        at::mm_out(out, rounded(rows.of(to_both)), wide_up[e]);
        product(to_gate_up[e], rows.of(to_both), rows.of(inputs));
      }
    }
    const Tensor back = dispatch->from_experts(to_inputs);
    const Tensor to_x =
        fuses ? fused::combine(back, place, at::ones_like(weights)) : chosen(back, place).sum(1);
    return {to_x.to(gradients[0].scalar_type()),
            to_weights,
            Tensor(),
            to_gate_up,
            to_down,
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

RouterChoice route(const Tensor& x, const Tensor& gate, const Tensor& bias, const MoeConfig& moe,
                   const Tensor& replay) {
  const std::int64_t rows = x.size(0), length = x.size(1), experts = moe.n_routed_experts;
  const std::int64_t per_token = moe.num_experts_per_tok;
  const Tensor logits = at::linear(x.to(at::kFloat), gate).flatten(0, 1);
  const Tensor scores =
      moe.score == GateScore::Sigmoid ? at::sigmoid(logits) : at::softmax(logits, -1);

  RouterChoice routing;
  {
    const at::NoGradGuard choosing;
    routing.ids = std::get<1>(ranking(scores, bias, moe).topk(per_token, -1));
  }
  if (replay.defined()) {
    require(replay.sizes() == at::IntArrayRef({rows * length, per_token}),
            ErrorCode::InvalidArgument, "router replay has another shape than the batch");
    const Tensor own = std::exchange(routing.ids, replay.to(x.device()));
    const Tensor kept = (routing.ids.unsqueeze(-1) == own.unsqueeze(-2)).any(-1);
    routing.rerouted = 1 - kept.to(at::kFloat).mean().item<double>();
  }
  routing.weights = scores.gather(-1, routing.ids);
  if (moe.norm_topk_prob) {
    routing.weights = routing.weights / (routing.weights.sum(-1, true) + 1e-20);
  }
  routing.weights = routing.weights * moe.routed_scaling_factor;

  const Tensor chosen = at::zeros({rows, experts}, logits.options())
                            .scatter_add(1, routing.ids.view({rows, length * per_token}),
                                         at::ones({rows, length * per_token}, logits.options()));
  routing.load = chosen.sum(0);
  const Tensor share = (scores / scores.sum(-1, true)).view({rows, length, experts}).mean(1);
  const double scale =
      static_cast<double>(experts) / (static_cast<double>(per_token) * static_cast<double>(length));
  routing.balance = (chosen * scale * share).sum(-1).mean();
  return routing;
}

Tensor mix_experts(const Tensor& x, const RouterChoice& routing, const Tensor& gate_up,
                   const Tensor& down, bool fp8, const Ranks& ranks) {
  return MixExperts::apply(x, routing.weights, routing.ids, gate_up, down, routing.load.size(0),
                           fp8, ranks);
}

void update_router_bias(Tensor& bias, const Tensor& load, double gamma) {
  const at::NoGradGuard no_gradient;
  bias.add_(at::sign(load.mean() - load), gamma);
}

}  // namespace fathom::train
