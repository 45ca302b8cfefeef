// What products of matrices reach on this machine at most: the denominator of MFU.
#pragma once

#include <ATen/ATen.h>

namespace fathom::train {

/// FLOP/s of [2048, size] x [size, size] in that type, the best of several in a tenth of a second.
double measure_product_peak(at::ScalarType type, const at::Device& device,
                            std::int64_t size = 1024);

}  // namespace fathom::train
