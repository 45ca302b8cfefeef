// Rotary position embedding's numbers: which angle each pair of elements turns by per position.
#pragma once

#include <vector>

#include "config/model_config.h"

namespace fathom {

/// Radians per position for each rotated pair, [dims / 2]: theta^(-2i/dims), changed as the scaling
/// says and divided by frequency_divisors. Computed in F32 in the order that Hugging Face
/// transformers does, since a last-bit difference grows with the position.
///
/// Linear: arXiv 2306.15595. YaRN: arXiv 2309.00071, section 3.2 (NTK-by-parts), with the
/// correction range rounded outwards. Llama 3: the Llama 3.1 reference (wavelengths between
/// original/high_freq_factor and original/low_freq_factor are blended).
std::vector<float> rope_frequencies(const RopeConfig& rope);

/// YaRN's attention temperature as DeepSeek states it (arXiv 2405.04434, 3.1.4, and its inference
/// code): 0.1 * mscale * ln(factor) + 1, or 1 for factor <= 1.
double yarn_mscale(double factor, double mscale);

}  // namespace fathom
