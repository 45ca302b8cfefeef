#include "train/torch/fp8.h"

#include <torch/csrc/autograd/custom_function.h>

namespace fathom::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr double kLargest = 448;  // of E4M3

/// `grouped`: elements that share a scale lie in the last dimensions `over`.
Tensor round_groups(const Tensor& grouped, at::IntArrayRef over) {
  const Tensor largest = grouped.abs().amax(over, true);
  const Tensor scale = at::where(largest > 0, largest / kLargest, at::ones_like(largest));
  return (grouped / scale).to(at::kFloat8_e4m3fn).to(at::kFloat) * scale;
}

std::int64_t missing(std::int64_t size) { return (kFp8Tile - size % kFp8Tile) % kFp8Tile; }

class ProjectFp8 : public torch::autograd::Function<ProjectFp8> {
 public:
  static Variable forward(AutogradContext* context, const Tensor& x, const Tensor& weight) {
    const Tensor rows = x.flatten(0, -2).to(at::kFloat);
    context->save_for_backward({rows, weight});
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return at::mm(round_tiles(rows), round_blocks(weight).t()).view(shape).to(x.scalar_type());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &rows = saved[0], &weight = saved[1];
    const Tensor coming = gradients[0].flatten(0, -2).to(at::kFloat);
    auto shape = gradients[0].sizes().vec();
    shape.back() = weight.size(1);
    const Tensor to_x = at::mm(round_tiles(coming), round_blocks(weight)).view(shape);
    // Along tokens: [out, tokens] x [tokens, in].
    const Tensor to_weight = at::mm(round_tiles(coming.t()), round_tiles(rows.t()).t());
    return {to_x.to(gradients[0].scalar_type()), to_weight};
  }
};

}  // namespace

Tensor round_tiles(const Tensor& x) {
  const std::int64_t size = x.size(-1);
  const Tensor padded = at::constant_pad_nd(x.to(at::kFloat), {0, missing(size)});
  return round_groups(padded.unflatten(-1, {-1, kFp8Tile}), {-1}).flatten(-2).narrow(-1, 0, size);
}

Tensor round_blocks(const Tensor& weight) {
  const std::int64_t rows = weight.size(-2), columns = weight.size(-1);
  const Tensor padded =
      at::constant_pad_nd(weight.to(at::kFloat), {0, missing(columns), 0, missing(rows)});
  // [..., row blocks, rows of one, column blocks, columns of one]
  const Tensor blocks = padded.unflatten(-1, {-1, kFp8Tile}).unflatten(-3, {-1, kFp8Tile});
  return round_groups(blocks, {-3, -1})
      .flatten(-2)
      .flatten(-3, -2)
      .narrow(-2, 0, rows)
      .narrow(-1, 0, columns);
}

Tensor project_fp8(const Tensor& x, const Tensor& weight) { return ProjectFp8::apply(x, weight); }

}  // namespace fathom::train
