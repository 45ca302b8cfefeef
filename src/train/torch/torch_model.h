// The trainer's twin of model/: the same ModelConfig, the same tensor names, with gradients.
//
// Weights are F32; what is computed may be BF16. A checkpoint that goes through this and through
// the engine gives the same logits (tests/train/torch_model_test.cpp says how nearly).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "formats/checkpoint.h"
#include "train/torch/experts.h"
#include "train/torch/lora.h"
#include "train/torch/ops.h"
#include "train/torch/ranks.h"

namespace fathom::train {

/// What a token sees. All: int64 [rows, length], on the CPU, whatever device the model is on.
struct TokenRows {
  Tensor tokens;
  Tensor positions;  // undefined: 0, 1, ... in each row
  Tensor documents;  // numbers; a token sees no other document than its own; undefined: all earlier
  /// The place in the row of the first token of another document, that each token's goes on from
  /// and sees all of: the last before it that goes on from none. -1: none. Undefined: none for all.
  Tensor prefixes = {};
};

/// Of one forward pass.
struct Hidden {
  Tensor states;                      // [rows, length, hidden_size], after the last norm
  std::vector<RouterChoice> routers;  // of each routed layer, in order; MTP's blocks last
};

struct TwinOptions {
  at::ScalarType compute = at::kFloat;  // or at::kBFloat16
  at::Device device = at::kCPU;
  std::int64_t mtp_depth = 0;  // blocks of multi-token prediction: 0 or 1
  /// Products with the layers' matrices (experts' too) have operands of FP8 (fp8.h); embedding,
  /// head, gates, norms and attention keep their own types, as in arXiv 2412.19437, 3.3.1.
  bool fp8 = false;
  bool recompute = false;  // layers' activations are made again on the way back, not kept
};

class TorchModel {
 public:
  /// A weight of the model: its name and what it holds. Experts of a layer are stacked
  /// ("model.layers.3.mlp.experts.gate_up_proj" [experts, 2 * intermediate, hidden]); all others
  /// are the checkpoint's own.
  struct Parameter {
    std::string name;
    Tensor value;
    bool trained = true;             // the router's bias has no gradient
    bool adapter = false;            // one of an adapter's two matrices
    int lora_a = -1, lora_b = -1;    // what is added to it: indices
    std::int64_t first_expert = -1;  // of those here, if others are on other ranks
  };

  /// Random weights: normal with this standard deviation, norms 1, biases 0.
  static TorchModel random(const ModelConfig& config, const TwinOptions& options, double deviation,
                           std::uint64_t seed);
  /// A checkpoint's weights, as F32. Throws Error(NotFound | Corrupt), naming the tensor.
  static TorchModel load(const Checkpoint& checkpoint, const TwinOptions& options);

  /// Another model with the same weights, adapters added to them, and no gradients.
  TorchModel frozen_copy() const;

  /// From now on only these are trained. A is random, B zero, so that nothing changes yet. Throws
  /// Error(InvalidArgument) if no matrix is called so.
  void add_adapters(const LoraOptions& lora, std::uint64_t seed);
  const LoraOptions& lora() const { return lora_; }
  /// Last parts of the names of the matrices that have adapters, each once.
  std::vector<std::string> adapted() const;
  /// A weight with its adapter added.
  Tensor merged(const Parameter& parameter) const;

  /// From now on each rank holds a part of each layer's experts, in order, and forward passes are
  /// collective work. Throws Error(InvalidArgument) if they cannot be shared out equally.
  void spread_experts(const Ranks& ranks);
  bool spread() const { return !expert_ranks_.alone(); }
  /// A weight with its adapter added and all ranks' experts: collective work if they are spread.
  Tensor whole(const Parameter& parameter) const;

  const ModelConfig& config() const { return config_; }
  const TwinOptions& options() const { return options_; }
  std::vector<Parameter>& parameters() { return parameters_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Throws Error(NotFound).
  Tensor& parameter(const std::string& name);

  /// `replay`: for each routed layer the ids of the rollout's experts, or empty.
  Hidden forward(const TokenRows& rows, const std::vector<Tensor>& replay = {});
  /// [..., vocab_size], F32.
  Tensor logits(const Tensor& states) const;
  /// Multi-token prediction (arXiv 2412.19437, 2.2): from the main model's states at i and the
  /// token at i + 1, the states that predict the token at i + 2. `next`: int64 [rows, length].
  Hidden predict_further(const Hidden& main, const TokenRows& rows, const Tensor& next);

  /// One tensor a time in the checkpoint's own form: experts one by one, on the CPU; no adapters.
  /// `of` gives what to show of a parameter: its value, or its gradient; undefined: nothing.
  void each_tensor(const std::function<Tensor(const Parameter&)>& of,
                   const std::function<void(const std::string&, const Tensor&)>& take) const;

 private:
  /// Indices into parameters_; -1: the architecture has none.
  struct Block {
    int input_layernorm = -1, post_attention_layernorm = -1;
    int q_proj = -1, q_a_proj = -1, q_a_layernorm = -1, q_b_proj = -1;
    int kv_a_proj = -1, kv_a_layernorm = -1, kv_b_proj = -1;
    int k_proj = -1, v_proj = -1, o_proj = -1;
    int q_bias = -1, k_bias = -1, v_bias = -1, o_bias = -1;
    int q_norm = -1, k_norm = -1;
    int gate_proj = -1, up_proj = -1, down_proj = -1;  // dense, or the shared experts
    int gate = -1, router_bias = -1;
    int experts_gate_up = -1, experts_down = -1;
  };
  struct MtpBlock {
    int enorm = -1, hnorm = -1, eh_proj = -1, norm = -1;
    Block block;
  };
  /// What all layers of one pass share.
  struct View {
    std::pair<Tensor, Tensor> angles;
    Sight sight;
  };

  TorchModel(const ModelConfig& config, const TwinOptions& options);
  int add(const std::string& name, std::vector<std::int64_t> shape, bool trained = true);
  Block add_block(const std::string& prefix, bool routed);
  void add_attention(const std::string& prefix, Block& block);
  void add_feed_forward(const std::string& prefix, bool routed, Block& block);
  const Tensor& weight(int index) const {
    return parameters_[static_cast<std::size_t>(index)].value;
  }
  Tensor optional(int index) const { return index < 0 ? Tensor() : weight(index); }

  View view_of(const TokenRows& rows);
  Tensor embed(const Tensor& tokens) const;
  /// x times a matrix of a layer.
  Tensor apply(int matrix, const Tensor& x, int bias = -1) const;
  Tensor run(const Block& block, const Tensor& x, const View& view, Hidden& hidden,
             const std::vector<Tensor>& replay) const;
  Tensor run_again(const Block& block, const Tensor& x, const View& view, Hidden& hidden,
                   const std::vector<Tensor>& replay) const;
  Tensor attend_grouped(const Block& block, const Tensor& x, const View& view) const;
  Tensor attend_latent(const Block& block, const Tensor& x, const View& view) const;
  Tensor feed_forward(const Block& block, const Tensor& x) const;

  ModelConfig config_;
  TwinOptions options_;
  LoraOptions lora_;
  Ranks expert_ranks_;  // that experts are spread over
  std::vector<Parameter> parameters_;
  std::vector<Block> blocks_;
  std::vector<MtpBlock> mtp_;
  int embed_ = -1, norm_ = -1, head_ = -1;
  RotaryTable rotary_;
};

}  // namespace fathom::train
