// Activations that are made again when gradients want them, instead of being kept (arXiv
// 1604.06174).
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace fathom::train {

/// What `work` makes of x, keeping only x: on the way back `work` is done again, and must do the
/// same. Gradients reach x and all weights that `work` uses. `work` is called once or twice, and
/// what it refers to must outlive the gradient's way back.
std::vector<at::Tensor> recomputed(
    const at::Tensor& x, const std::function<std::vector<at::Tensor>(const at::Tensor&)>& work);

}  // namespace fathom::train
