#include "backend/cpu/row_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fathom::cpu {
namespace {

/// Sum of squares in 16 lanes: vectorises, and always adds in the same order.
float sum_of_squares(const float* x, std::size_t size) {
  constexpr std::size_t kLanes = 16;
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (std::size_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * x[i + l];
  }
  float sum = 0;
  for (; i < size; ++i) sum += x[i] * x[i];
  for (float lane : lanes) sum += lane;
  return sum;
}

/// The index of the largest value; of equals the first. -1 if all are -infinity.
std::int32_t argmax(const float* values, std::size_t size) {
  std::int32_t best = -1;
  float best_value = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < size; ++i) {
    if (values[i] > best_value) {
      best_value = values[i];
      best = static_cast<std::int32_t>(i);
    }
  }
  return best;
}

/// The sum of the largest `terms` (1 or 2) values.
float group_score(const float* values, std::size_t size, std::size_t terms) {
  float first = -std::numeric_limits<float>::infinity();
  float second = first;
  for (std::size_t i = 0; i < size; ++i) {
    if (values[i] > first) {
      second = first;
      first = values[i];
    } else if (values[i] > second) {
      second = values[i];
    }
  }
  return terms == 1 ? first : first + second;
}

void scores_from_logits(const GateSpec& spec, float* values) {
  if (spec.sigmoid) {
    for (std::size_t e = 0; e < spec.experts; ++e) values[e] = 1 / (1 + std::exp(-values[e]));
    return;
  }
  const float max = *std::max_element(values, values + spec.experts);
  float sum = 0;
  for (std::size_t e = 0; e < spec.experts; ++e) {
    values[e] = std::exp(values[e] - max);
    sum += values[e];
  }
  for (std::size_t e = 0; e < spec.experts; ++e) values[e] /= sum;
}

}  // namespace

void rms_norm_row(const float* x, const float* weight, std::size_t size, float epsilon,
                  float* out) {
  const float mean = sum_of_squares(x, size) / static_cast<float>(size);
  const float scale = 1 / std::sqrt(mean + epsilon);
  for (std::size_t i = 0; i < size; ++i) out[i] = x[i] * scale * weight[i];
}

void rotation_row(std::span<const float> frequencies, std::int32_t position, float factor,
                  float* out) {
  const std::size_t pairs = frequencies.size();
  for (std::size_t i = 0; i < pairs; ++i) {
    // The angle is rounded to F32 as in training; its cosine is then exact to F32.
    const double angle = static_cast<double>(static_cast<float>(position) * frequencies[i]);
    out[i] = static_cast<float>(std::cos(angle)) * factor;
    out[pairs + i] = static_cast<float>(std::sin(angle)) * factor;
  }
}

void rotate_row(const float* rotation, std::size_t pairs, bool interleaved, float* x) {
  const float* cos = rotation;
  const float* sin = rotation + pairs;
  const std::size_t step = interleaved ? 2 : 1;
  float* second = interleaved ? x + 1 : x + pairs;
  for (std::size_t i = 0; i < pairs; ++i) {
    const float a = x[i * step];
    const float b = second[i * step];
    x[i * step] = a * cos[i] - b * sin[i];
    second[i * step] = a * sin[i] + b * cos[i];
  }
}

void choose_experts(const GateSpec& spec, float* logits, const float* bias, std::int32_t* ids,
                    float* weights) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  float* scores = logits;
  scores_from_logits(spec, scores);

  std::vector<float> ranking(scores, scores + spec.experts);  // what choosing goes by
  if (bias != nullptr) {
    for (std::size_t e = 0; e < spec.experts; ++e) ranking[e] += bias[e];
  }
  if (spec.groups > 1) {
    const std::size_t group_size = spec.experts / spec.groups;
    std::vector<float> group_scores(spec.groups);
    for (std::size_t g = 0; g < spec.groups; ++g) {
      group_scores[g] = group_score(&ranking[g * group_size], group_size, spec.group_terms);
    }
    std::vector<bool> used(spec.groups, false);
    for (std::size_t n = 0; n < spec.groups_used; ++n) {
      const std::int32_t best = argmax(group_scores.data(), spec.groups);
      if (best < 0) break;
      used[static_cast<std::size_t>(best)] = true;
      group_scores[static_cast<std::size_t>(best)] = kNever;
    }
    for (std::size_t e = 0; e < spec.experts; ++e) {
      if (!used[e / group_size]) ranking[e] = kNever;
    }
  }

  float sum = 0;
  for (std::size_t k = 0; k < spec.per_token; ++k) {
    std::int32_t best = argmax(ranking.data(), spec.experts);
    // Only NaN (a damaged model) leaves nothing to choose: take any that is not taken yet.
    for (std::int32_t e = 0; best < 0; ++e) {
      if (std::find(ids, ids + k, e) == ids + k) best = e;
    }
    ids[k] = best;
    ranking[static_cast<std::size_t>(best)] = kNever;
    weights[k] = scores[best];
    sum += scores[best];
  }
  for (std::size_t k = 0; k < spec.per_token; ++k) {
    weights[k] = (spec.normalise ? weights[k] / (sum + 1e-20F) : weights[k]) * spec.scale;
  }
}

}  // namespace fathom::cpu
