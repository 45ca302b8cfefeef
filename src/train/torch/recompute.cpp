#include "train/torch/recompute.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace fathom::train {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using Work = std::function<variable_list(const Tensor&)>;

struct Holder : torch::CustomClassHolder {
  explicit Holder(Work w) : work(std::move(w)) {}
  Work work;
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  /// `wanted` is there for its gradient alone, which makes the graph go through here even where x
  /// has none, as in a model whose adapters alone are trained.
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor&,
                               const Work& work) {
    context->save_for_backward({x});
    context->saved_data["work"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(work));
    return work(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto holder =
        c10::static_intrusive_pointer_cast<Holder>(context->saved_data["work"].toCapsule());
    const at::AutoGradMode with_gradients(true);
    const Tensor x = context->get_saved_variables()[0].detach().set_requires_grad(true);
    const variable_list outputs = holder->work(x);
    variable_list roots, coming;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].requires_grad() || !gradients[i].defined()) continue;
      roots.push_back(outputs[i]);
      coming.push_back(gradients[i]);
    }
    torch::autograd::backward(roots, coming);
    return {x.grad(), Variable(), Variable()};
  }
};

}  // namespace

std::vector<Tensor> recomputed(const Tensor& x, const Work& work) {
  const Tensor wanted = at::zeros({}, at::kFloat).set_requires_grad(true);
  return Recompute::apply(x, wanted, work);
}

}  // namespace fathom::train
