// What a model costs by its architecture alone: parameters, operations, bytes. No weights needed.
//
// Counted from the shapes of the matrices, for planning (`fathom cost`) and for the trainer's MFU.
// A multiply and an add are two operations; norms, rotations and softmax are left out, as is the
// custom (PaLM, arXiv 2204.02311, appendix B).
#pragma once

#include <cstdint>

#include "config/model_config.h"

namespace fathom {

/// Elements of a model's tensors, by what they are for. All layers together.
struct ParameterCount {
  std::int64_t embedding = 0;       // vocab_size x hidden_size
  std::int64_t head = 0;            // the same again, 0 if tied
  std::int64_t attention = 0;       // projections, their biases
  std::int64_t dense_ffn = 0;       // of layers without experts
  std::int64_t shared_experts = 0;  //
  std::int64_t routed_experts = 0;  // all of them
  std::int64_t routed_active = 0;   // those that work on a token
  std::int64_t router = 0;          // gates, and noaux_tc's biases
  std::int64_t norms = 0;

  std::int64_t total() const {
    return embedding + head + attention + dense_ffn + shared_experts + routed_experts + router +
           norms;
  }
  /// What works on a token, the embedding and the head included.
  std::int64_t active() const { return total() - routed_experts + routed_active; }
  /// Elements of matrices that a token is multiplied with: a look-up in the embedding is none.
  std::int64_t multiplied() const {
    return active() - norms - embedding + (head == 0 ? embedding : 0);
  }
};

ParameterCount count_parameters(const ModelConfig& config);

/// One block of multi-token prediction (arXiv 2412.19437, 2.2), which shares embedding and head:
/// two norms, a projection of 2 * hidden_size to hidden_size, a layer of the last one's kind.
ParameterCount count_mtp_block(const ModelConfig& config);

/// Operations of one token's forward pass that sees `context` entries before and with it, on
/// average: half the sequence's length where a causal mask is counted exactly.
struct ForwardWork {
  double matrices = 0;   // 2 * multiplied()
  double attention = 0;  // q.k and weights times v, of the expanded heads
  double total() const { return matrices + attention; }
};
ForwardWork forward_work(const ModelConfig& config, double context);

/// The same for generation from the latent cache in its absorbed form (arXiv 2405.04434, 2.1.2):
/// heads work on kv_lora_rank + qk_rope_head_dim elements. As forward_work() for other models.
ForwardWork decode_work(const ModelConfig& config, double context);

/// Of routed experts a batch of `tokens` touches, on average, if each token chooses at random.
double touched_share(const MoeConfig& moe, double tokens);

}  // namespace fathom
