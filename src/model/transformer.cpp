// The story of a token: embedded, carried through the layers (each reads the past through
// attention, then thinks through its feed-forward network), normed, and compared with every word.
#include "model/transformer.h"

#include <algorithm>
#include <utility>

#include "config/rope.h"

namespace fathom {
namespace {

std::size_t size(std::int64_t value) { return static_cast<std::size_t>(value); }

RopeSpec rope_spec(const RopeConfig& rope) {
  return {rope_frequencies(rope), static_cast<float>(rope.attention_factor),
          rope.pairing == RopePairing::Interleaved};
}

GateSpec gate_spec(const MoeConfig& moe) {
  GateSpec gate;
  gate.experts = size(moe.n_routed_experts);
  gate.per_token = size(moe.num_experts_per_tok);
  gate.sigmoid = moe.score == GateScore::Sigmoid;
  gate.groups = size(moe.n_group);
  gate.groups_used = size(moe.topk_group);
  gate.group_terms = moe.routing == Routing::NoAuxTc ? 2 : 1;
  gate.normalise = moe.norm_topk_prob;
  gate.scale = static_cast<float>(moe.routed_scaling_factor);
  return gate;
}

/// Every `head` of activations: count heads of `width` elements, of which `size` from `offset` on.
Columns heads(Activations& of, std::size_t count, std::size_t width, std::size_t offset,
              std::size_t size) {
  return {&of, offset, count, size, width};
}
Columns columns(Activations& of, std::size_t offset, std::size_t size) {
  return {&of, offset, 1, size, size};
}
Columns all(Activations& of) { return columns(of, 0, of.width); }

}  // namespace

struct Transformer::Step {
  const Batch& batch;
  const KvLayout& layout;
  std::span<const KvRun> runs;
  Observer* observer;
};

Transformer::Transformer(const ModelConfig& config, std::shared_ptr<Backend> backend,
                         Weights weights)
    : c_(config),
      backend_(std::move(backend)),
      weights_(std::move(weights)),
      rope_(rope_spec(config.rope)),
      gate_(gate_spec(config.moe)) {
  const auto make = [this](std::int64_t width) { return backend_->make_activations(size(width)); };
  states_ = make(c_.hidden_size);
  normed_ = make(c_.hidden_size);
  rotations_ = make(c_.rope.dims);
  if (c_.attention == AttentionKind::MultiHeadLatent) {
    q_a_ = make(c_.q_lora_rank);
    q_ = make(c_.num_attention_heads * (c_.qk_nope_head_dim + c_.qk_rope_head_dim));
    kv_a_ = make(c_.kv_lora_rank + c_.qk_rope_head_dim);
    attended_ = make(c_.num_attention_heads * c_.v_head_dim);
  } else {
    q_ = make(c_.num_attention_heads * c_.head_dim);
    k_ = make(c_.num_key_value_heads * c_.head_dim);
    v_ = make(c_.num_key_value_heads * c_.head_dim);
    attended_ = make(c_.num_attention_heads * c_.head_dim);
  }
  last_ = make(c_.hidden_size);
  logits_ = make(c_.vocab_size);
}

std::span<const float> Transformer::forward(const Batch& batch, const KvLayout& layout,
                                            std::span<const KvRun> runs, Observer* observer) {
  const Step step{batch, layout, runs, observer};
  const auto show = [&](std::int64_t layer, const Activations& states) {
    if (observer != nullptr) observer->hidden_states(layer, backend_->read(states));
  };
  const auto epsilon = static_cast<float>(c_.rms_norm_eps);
  resize(batch.size());

  backend_->embed(*weights_.embed_tokens, batch.tokens, *states_);
  backend_->rotations(rope_, batch.positions, *rotations_);
  show(-1, *states_);

  for (std::size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    const LayerWeights& w = weights_.layers[layer];
    backend_->rms_norm(all(*states_), *w.input_layernorm, epsilon, all(*normed_));
    if (c_.attention == AttentionKind::MultiHeadLatent) {
      attend_latent(w, layer, step);
    } else {
      attend_grouped(w, layer, step);
    }
    backend_->rms_norm(all(*states_), *w.post_attention_layernorm, epsilon, all(*normed_));
    feed_forward(w, layer, step);
    show(static_cast<std::int64_t>(layer), *states_);
  }

  backend_->rms_norm(all(*states_), *weights_.norm, epsilon, all(*normed_));
  show(c_.num_hidden_layers, *normed_);

  wanted_.clear();
  for (std::size_t t = 0; t < batch.size(); ++t) {
    if (batch.wants_logits[t]) wanted_.push_back(t);
  }
  if (wanted_.empty()) return {};
  backend_->set_rows(*last_, wanted_.size());
  backend_->set_rows(*logits_, wanted_.size());
  backend_->select(*normed_, wanted_, *last_);
  const Linear head{weights_.lm_head.get(), nullptr, logits_.get(), false};
  backend_->linear(*last_, {&head, 1});
  return backend_->read(*logits_);
}

/// Queries of several heads share one key and value head (arXiv 2305.13245).
void Transformer::attend_grouped(const LayerWeights& w, std::size_t layer, const Step& step) {
  const std::size_t n_heads = size(c_.num_attention_heads);
  const std::size_t n_kv = size(c_.num_key_value_heads);
  const std::size_t dim = size(c_.head_dim);

  const Linear project[] = {{w.q_proj.get(), w.q_bias.get(), q_.get(), false},
                            {w.k_proj.get(), w.k_bias.get(), k_.get(), false},
                            {w.v_proj.get(), w.v_bias.get(), v_.get(), false}};
  backend_->linear(*normed_, project);

  const Columns queries = heads(*q_, n_heads, dim, 0, dim);
  const Columns keys = heads(*k_, n_kv, dim, 0, dim);
  if (c_.qk_norm) {
    const auto epsilon = static_cast<float>(c_.rms_norm_eps);
    backend_->rms_norm(queries, *w.q_norm, epsilon, queries);
    backend_->rms_norm(keys, *w.k_norm, epsilon, keys);
  }
  backend_->rotate(rope_, *rotations_, queries);
  backend_->rotate(rope_, *rotations_, keys);

  const Columns entry[] = {all(*k_), all(*v_)};
  backend_->append(step.layout, layer, step.runs, entry);
  backend_->grouped_attention(step.layout, layer, step.runs, *q_, n_heads,
                              static_cast<float>(c_.attention_scale), *attended_);

  const Linear output{w.o_proj.get(), w.o_bias.get(), states_.get(), true};
  backend_->linear(*attended_, {&output, 1});
}

/// Keys and values of all heads come from one small latent vector a token, and only it (with one
/// rotated key for all heads) is cached (DeepSeek-V2, arXiv 2405.04434, 2.1).
void Transformer::attend_latent(const LayerWeights& w, std::size_t layer, const Step& step) {
  constexpr float kLatentEpsilon = 1e-6F;  // these two norms never follow rms_norm_eps
  const std::size_t n_heads = size(c_.num_attention_heads);
  const std::size_t nope = size(c_.qk_nope_head_dim);
  const std::size_t rope = size(c_.qk_rope_head_dim);
  const std::size_t rank = size(c_.kv_lora_rank);

  Activations& q_input = w.q_a_proj ? *q_a_ : *q_;
  const Matrix& q_first = w.q_a_proj ? *w.q_a_proj : *w.q_proj;
  const Linear project[] = {{&q_first, nullptr, &q_input, false},
                            {w.kv_a_proj_with_mqa.get(), nullptr, kv_a_.get(), false}};
  backend_->linear(*normed_, project);
  if (w.q_a_proj) {
    backend_->rms_norm(all(*q_a_), *w.q_a_layernorm, kLatentEpsilon, all(*q_a_));
    const Linear expand{w.q_b_proj.get(), nullptr, q_.get(), false};
    backend_->linear(*q_a_, {&expand, 1});
  }
  const Columns latent = columns(*kv_a_, 0, rank);
  backend_->rms_norm(latent, *w.kv_a_layernorm, kLatentEpsilon, latent);
  if (w.kv_b_inputs != nullptr) {
    // Absorbed, kv_b never meets these; unabsorbed, they are what it is multiplied by.
    w.kv_b_inputs->add(backend_->read(*kv_a_).data(), kv_a_->width, kv_a_->rows);
  }

  backend_->rotate(rope_, *rotations_, heads(*q_, n_heads, nope + rope, nope, rope));
  backend_->rotate(rope_, *rotations_, columns(*kv_a_, rank, rope));

  const Columns entry[] = {all(*kv_a_)};
  backend_->append(step.layout, layer, step.runs, entry);
  backend_->latent_attention(step.layout, layer, step.runs, *q_, *w.kv_b,
                             static_cast<float>(c_.attention_scale), *attended_);

  const Linear output{w.o_proj.get(), nullptr, states_.get(), true};
  backend_->linear(*attended_, {&output, 1});
}

/// One network for all tokens, or those that the gate chooses for each beside the shared ones
/// (DeepSeekMoE, arXiv 2401.06066).
void Transformer::feed_forward(const LayerWeights& w, std::size_t layer, const Step& step) {
  if (w.mlp) {
    backend_->feed_forward(*normed_, *w.mlp, *states_, true);
    return;
  }
  backend_->route(*normed_, *w.gate, w.e_score_correction_bias.get(), gate_, choice_);
  if (step.observer != nullptr) {
    step.observer->routing(static_cast<std::int64_t>(layer), choice_.ids, choice_.weights);
  }
  backend_->mixture_of_experts(*normed_, *w.experts, w.shared_experts.get(), choice_, *states_);
}

void Transformer::resize(std::size_t rows) {
  for (Activations* buffer : {states_.get(), normed_.get(), rotations_.get(), q_.get(), q_a_.get(),
                              k_.get(), v_.get(), kv_a_.get(), attended_.get()}) {
    if (buffer != nullptr) backend_->set_rows(*buffer, rows);
  }
}

std::size_t Transformer::activation_elements(const ModelConfig& c) {
  std::int64_t elements = 2 * c.hidden_size + c.rope.dims;
  if (c.attention == AttentionKind::MultiHeadLatent) {
    const std::int64_t kv = c.kv_lora_rank + c.qk_rope_head_dim;
    elements += c.q_lora_rank + kv + c.num_attention_heads * c.v_head_dim;
    elements += c.num_attention_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim);
    elements += c.num_attention_heads * (kv + c.kv_lora_rank);  // the backend's, in latent space
  } else {
    elements += 2 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim;
  }
  const std::int64_t moe = c.moe.num_experts_per_tok * c.moe.moe_intermediate_size;
  elements += 2 * std::max(c.intermediate_size, moe);  // the backend's, between up and down
  return size(elements);
}

}  // namespace fathom
