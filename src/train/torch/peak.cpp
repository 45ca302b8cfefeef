#include "train/torch/peak.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

namespace fathom::train {

double measure_product_peak(at::ScalarType type, const at::Device& device, std::int64_t size) {
  using Clock = std::chrono::steady_clock;
  const at::NoGradGuard no_gradient;
  constexpr std::int64_t kRows = 2048;
  const auto options = at::TensorOptions().device(device);
  const at::Tensor a = at::randn({kRows, size}, options).to(type);
  const at::Tensor b = at::randn({size, size}, options).to(type);
  at::Tensor out = at::mm(a, b);  // the first one prepares
  const double work = 2.0 * static_cast<double>(kRows) * static_cast<double>(size * size);
  double best = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(100);
  for (int round = 0; round < 3 || Clock::now() < end; ++round) {
    const auto start = Clock::now();
    at::mm_out(out, a, b);
    out[0][0].item();  // waits for a device that works by itself
    best = std::max(best, work / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace fathom::train
