// Small operations on rows of F32: norms, rotations, gates. Plain loops over
// one row each; the backend spreads rows over threads. Every function is deterministic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "tensor/dtype.h"

namespace fathom::cpu {

/// out = x / sqrt(mean(x^2) + epsilon) * weight. All [size]; out may be x.
void rms_norm_row(const float* x, const float* weight, std::size_t size, float epsilon, float* out);

/// cos and sin of position * frequency, each times `factor`: out [2 * frequencies.size()].
void rotation_row(std::span<const float> frequencies, std::int32_t position, float factor,
                  float* out);

/// Rotates x [2 * pairs] in place; rotation: [cosines, sines], each [pairs].
void rotate_row(const float* rotation, std::size_t pairs, bool interleaved, float* x);

/// Chooses spec.per_token experts from the gate's logits [experts] (overwritten by their scores);
/// of equal scores the lower id wins. bias: [experts] or null. ids, weights: [per_token].
void choose_experts(const GateSpec& spec, float* logits, const float* bias, std::int32_t* ids,
                    float* weights);

}  // namespace fathom::cpu
