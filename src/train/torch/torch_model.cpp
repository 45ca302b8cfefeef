// The same story as model/transformer.cpp, told with torch's operations.
#include "train/torch/torch_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "base/error.h"
#include "train/torch/fp8.h"
#include "train/torch/recompute.h"

namespace fathom::train {
namespace {

constexpr double kLatentEpsilon = 1e-6;  // the norms of the latents never follow rms_norm_eps

bool is_norm(const std::string& name) {
  return name.ends_with("norm.weight") || name.ends_with("layernorm.weight");
}
bool is_bias(const std::string& name) {
  return name.ends_with(".bias") || name.ends_with("e_score_correction_bias");
}

}  // namespace

// --- what there is -------------------------------------------------------------------------------

TorchModel::TorchModel(const ModelConfig& config, const TwinOptions& options)
    : config_(config), options_(options) {
  require(options.mtp_depth == 0 || options.mtp_depth == 1, ErrorCode::Unsupported,
          "multi-token prediction of depth {} is not supported (0 and 1 are)", options.mtp_depth);
  const std::int64_t d = config_.hidden_size;
  embed_ = add("model.embed_tokens.weight", {config_.vocab_size, d});
  for (std::int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
    blocks_.push_back(
        add_block(fmt::format("model.layers.{}.", layer), config_.is_moe_layer(layer)));
  }
  norm_ = add("model.norm.weight", {d});
  head_ = config_.tie_word_embeddings ? embed_ : add("lm_head.weight", {config_.vocab_size, d});
  for (std::int64_t depth = 0; depth < options_.mtp_depth; ++depth) {
    const std::int64_t layer = config_.num_hidden_layers + depth;
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    MtpBlock mtp;
    mtp.enorm = add(prefix + "enorm.weight", {d});
    mtp.hnorm = add(prefix + "hnorm.weight", {d});
    mtp.eh_proj = add(prefix + "eh_proj.weight", {d, 2 * d});
    mtp.block = add_block(prefix, config_.is_moe_layer(config_.num_hidden_layers - 1));
    mtp.norm = add(prefix + "shared_head.norm.weight", {d});
    mtp_.push_back(mtp);
  }
}

int TorchModel::add(const std::string& name, std::vector<std::int64_t> shape, bool trained) {
  parameters_.push_back({name, at::empty(shape, at::kFloat), trained});
  return static_cast<int>(parameters_.size()) - 1;
}

TorchModel::Block TorchModel::add_block(const std::string& prefix, bool routed) {
  Block block;
  block.input_layernorm = add(prefix + "input_layernorm.weight", {config_.hidden_size});
  add_attention(prefix + "self_attn.", block);
  block.post_attention_layernorm =
      add(prefix + "post_attention_layernorm.weight", {config_.hidden_size});
  add_feed_forward(prefix + "mlp.", routed, block);
  return block;
}

void TorchModel::add_attention(const std::string& prefix, Block& block) {
  const ModelConfig& c = config_;
  const std::int64_t d = c.hidden_size, heads = c.num_attention_heads;
  if (c.attention == AttentionKind::MultiHeadLatent) {
    const std::int64_t query = heads * (c.qk_nope_head_dim + c.qk_rope_head_dim);
    if (c.q_lora_rank > 0) {
      block.q_a_proj = add(prefix + "q_a_proj.weight", {c.q_lora_rank, d});
      block.q_a_layernorm = add(prefix + "q_a_layernorm.weight", {c.q_lora_rank});
      block.q_b_proj = add(prefix + "q_b_proj.weight", {query, c.q_lora_rank});
    } else {
      block.q_proj = add(prefix + "q_proj.weight", {query, d});
    }
    block.kv_a_proj =
        add(prefix + "kv_a_proj_with_mqa.weight", {c.kv_lora_rank + c.qk_rope_head_dim, d});
    block.kv_a_layernorm = add(prefix + "kv_a_layernorm.weight", {c.kv_lora_rank});
    block.kv_b_proj = add(prefix + "kv_b_proj.weight",
                          {heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank});
    block.o_proj = add(prefix + "o_proj.weight", {d, heads * c.v_head_dim});
    return;
  }
  const std::int64_t queries = heads * c.head_dim, keys = c.num_key_value_heads * c.head_dim;
  block.q_proj = add(prefix + "q_proj.weight", {queries, d});
  block.k_proj = add(prefix + "k_proj.weight", {keys, d});
  block.v_proj = add(prefix + "v_proj.weight", {keys, d});
  block.o_proj = add(prefix + "o_proj.weight", {d, queries});
  if (c.qkv_bias) {
    block.q_bias = add(prefix + "q_proj.bias", {queries});
    block.k_bias = add(prefix + "k_proj.bias", {keys});
    block.v_bias = add(prefix + "v_proj.bias", {keys});
  }
  if (c.output_bias) block.o_bias = add(prefix + "o_proj.bias", {d});
  if (c.qk_norm) {
    block.q_norm = add(prefix + "q_norm.weight", {c.head_dim});
    block.k_norm = add(prefix + "k_norm.weight", {c.head_dim});
  }
}

void TorchModel::add_feed_forward(const std::string& prefix, bool routed, Block& block) {
  const std::int64_t d = config_.hidden_size;
  const MoeConfig& moe = config_.moe;
  std::string dense = prefix;
  std::int64_t intermediate = config_.intermediate_size;
  if (routed) {
    const std::int64_t experts = moe.n_routed_experts, size = moe.moe_intermediate_size;
    block.gate = add(prefix + "gate.weight", {experts, d});
    if (moe.routing == Routing::NoAuxTc) {
      block.router_bias = add(prefix + "gate.e_score_correction_bias", {experts}, false);
    }
    block.experts_gate_up = add(prefix + "experts.gate_up_proj", {experts, 2 * size, d});
    block.experts_down = add(prefix + "experts.down_proj", {experts, d, size});
    dense += "shared_experts.";
    intermediate = moe.n_shared_experts * size;
    if (intermediate == 0) return;
  }
  block.gate_proj = add(dense + "gate_proj.weight", {intermediate, d});
  block.up_proj = add(dense + "up_proj.weight", {intermediate, d});
  block.down_proj = add(dense + "down_proj.weight", {d, intermediate});
}

TorchModel TorchModel::random(const ModelConfig& config, const TwinOptions& options,
                              double deviation, std::uint64_t seed) {
  TorchModel model(config, options);
  auto generator = at::detail::createCPUGenerator(seed);
  for (Parameter& parameter : model.parameters_) {
    if (is_norm(parameter.name)) {
      parameter.value.fill_(1);
    } else if (is_bias(parameter.name)) {
      parameter.value.zero_();
    } else {
      parameter.value.normal_(0, deviation, generator);
    }
    parameter.value = parameter.value.to(options.device);
    parameter.value.set_requires_grad(parameter.trained);
  }
  return model;
}

TorchModel TorchModel::frozen_copy() const {
  TorchModel copy(config_, options_);
  copy.expert_ranks_ = expert_ranks_;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].adapter) {
      copy.parameters_[i].value = merged(parameters_[i]).detach().clone();
      copy.parameters_[i].first_expert = parameters_[i].first_expert;
    }
  }
  return copy;
}

// --- adapters ------------------------------------------------------------------------------------

namespace {

/// "q_proj" of "model.layers.0.self_attn.q_proj.weight".
std::string last_part(const std::string& name) {
  const std::string stem = name.substr(0, name.rfind('.'));
  return stem.substr(stem.rfind('.') + 1);
}

}  // namespace

void TorchModel::add_adapters(const LoraOptions& lora, std::uint64_t seed) {
  require(lora.rank > 0 && lora.alpha > 0, ErrorCode::InvalidArgument,
          "adapters need a rank and an alpha above 0");
  lora_ = lora;
  auto generator = at::detail::createCPUGenerator(seed);
  std::size_t found = 0;
  for (std::size_t i = 0, weights = parameters_.size(); i < weights; ++i) {
    parameters_[i].trained = false;
    parameters_[i].value.set_requires_grad(false);
    const std::string name = parameters_[i].name;
    const bool matrix = parameters_[i].value.dim() == 2 &&
                        (name.ends_with("proj.weight") || name.ends_with("proj_with_mqa.weight"));
    const bool wanted = lora.targets.empty() ||
                        std::ranges::find(lora.targets, last_part(name)) != lora.targets.end();
    if (!matrix || !wanted) continue;
    ++found;
    const std::int64_t out = parameters_[i].value.size(0), in = parameters_[i].value.size(1);
    const std::string stem = "base_model.model." + name.substr(0, name.rfind('.'));
    const auto add_part = [&](const char* part, const Tensor& value) {
      const int index = add(stem + part, {value.size(0), value.size(1)});
      Parameter& parameter = parameters_.back();
      parameter.adapter = true;
      parameter.value = value.to(options_.device).set_requires_grad(true);
      return index;
    };
    // As PEFT begins: Kaiming's uniform with a = sqrt(5), and zeros.
    const double reach = 1 / std::sqrt(static_cast<double>(in));
    const int a =
        add_part(".lora_A.weight",
                 at::empty({lora.rank, in}, at::kFloat).uniform_(-reach, reach, generator));
    const int b = add_part(".lora_B.weight", at::zeros({out, lora.rank}, at::kFloat));
    parameters_[i].lora_a = a;
    parameters_[i].lora_b = b;
  }
  require(found > 0, ErrorCode::InvalidArgument, "the model has no matrix called {} to adapt",
          fmt::join(lora.targets, " or "));
}

std::vector<std::string> TorchModel::adapted() const {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters_) {
    if (parameter.lora_a < 0) continue;
    const std::string part = last_part(parameter.name);
    if (std::ranges::find(names, part) == names.end()) names.push_back(part);
  }
  return names;
}

Tensor TorchModel::merged(const Parameter& parameter) const {
  if (parameter.lora_a < 0) return parameter.value;
  const at::NoGradGuard no_gradient;
  const double scale = lora_.alpha / static_cast<double>(lora_.rank);
  return parameter.value + scale * at::mm(weight(parameter.lora_b), weight(parameter.lora_a));
}

void TorchModel::spread_experts(const Ranks& ranks) {
  if (ranks.alone()) return;
  const std::int64_t experts = config_.moe.n_routed_experts;
  require(experts > 0 && experts % ranks.size() == 0, ErrorCode::InvalidArgument,
          "{} experts (n_routed_experts) cannot be spread over {} ranks equally", experts,
          ranks.size());
  expert_ranks_ = ranks;
  const auto [first, last] = ranks.share(experts);
  for (Parameter& parameter : parameters_) {
    if (parameter.value.dim() != 3) continue;
    parameter.first_expert = first;
    parameter.value = parameter.value.detach().narrow(0, first, last - first).clone();
    parameter.value.set_requires_grad(parameter.trained);
  }
}

Tensor TorchModel::whole(const Parameter& parameter) const {
  if (parameter.first_expert < 0) return merged(parameter);
  std::vector<std::int64_t> shape = parameter.value.sizes().vec();
  shape[0] = config_.moe.n_routed_experts;
  Tensor all = at::empty(shape, parameter.value.options().requires_grad(false));
  expert_ranks_.gather(all, parameter.value.detach());
  return all;
}

Tensor& TorchModel::parameter(const std::string& name) {
  const auto found = std::ranges::find(parameters_, name, &Parameter::name);
  require(found != parameters_.end(), ErrorCode::NotFound, "the model has no weight '{}'", name);
  return found->value;
}

// --- a pass --------------------------------------------------------------------------------------

TorchModel::View TorchModel::view_of(const TokenRows& rows) {
  std::int64_t length = rows.tokens.size(1);
  Tensor positions = rows.positions;
  if (!positions.defined()) {
    positions = at::arange(length, rows.tokens.options()).unsqueeze(0).expand_as(rows.tokens);
  } else {
    length = positions.max().item<std::int64_t>() + 1;  // of the longest document
  }
  require(length <= config_.max_position_embeddings, ErrorCode::InvalidArgument,
          "{} tokens in a row, but the model has {} positions (max_position_embeddings)", length,
          config_.max_position_embeddings);
  if (rotary_.size() < length) {
    rotary_ = RotaryTable(config_.rope, std::max<std::int64_t>(length, 256), options_.device);
  }
  return {rotary_.at(positions),
          sight_of(rows.tokens, rows.documents, rows.prefixes, options_.compute, options_.device)};
}

Tensor TorchModel::embed(const Tensor& tokens) const {
  return at::embedding(weight(embed_), tokens.to(options_.device)).to(options_.compute);
}

Tensor TorchModel::apply(int matrix, const Tensor& x, int bias) const {
  Tensor y;
  if (options_.fp8) {
    y = project_fp8(x, weight(matrix));
    if (bias >= 0) y = y + weight(bias).to(y.scalar_type());
  } else {
    y = project(x, weight(matrix), optional(bias));
  }
  const Parameter& parameter = parameters_[static_cast<std::size_t>(matrix)];
  if (parameter.lora_a < 0) return y;
  const double scale = lora_.alpha / static_cast<double>(lora_.rank);
  return y + project(project(x, weight(parameter.lora_a)), weight(parameter.lora_b)) * scale;
}

Hidden TorchModel::forward(const TokenRows& rows, const std::vector<Tensor>& replay) {
  const View view = view_of(rows);
  Hidden hidden;
  Tensor x = embed(rows.tokens);
  const bool again = options_.recompute && at::GradMode::is_enabled();
  for (const Block& block : blocks_) {
    x = again ? run_again(block, x, view, hidden, replay) : run(block, x, view, hidden, replay);
  }
  hidden.states = rms_norm(x, weight(norm_), config_.rms_norm_eps);
  return hidden;
}

Tensor TorchModel::logits(const Tensor& states) const {
  return project(states, weight(head_)).to(at::kFloat);
}

Hidden TorchModel::predict_further(const Hidden& main, const TokenRows& rows, const Tensor& next) {
  require(!mtp_.empty(), ErrorCode::InvalidArgument, "the model predicts one token only");
  const MtpBlock& mtp = mtp_.front();
  const Tensor word = rms_norm(embed(next), weight(mtp.enorm), config_.rms_norm_eps);
  const Tensor state = rms_norm(main.states, weight(mtp.hnorm), config_.rms_norm_eps);
  Hidden hidden;
  const Tensor x = apply(mtp.eh_proj, at::cat({word, state}, -1));
  hidden.states = rms_norm(run(mtp.block, x, view_of(rows), hidden, {}), weight(mtp.norm),
                           config_.rms_norm_eps);
  return hidden;
}

Tensor TorchModel::run(const Block& block, const Tensor& x, const View& view, Hidden& hidden,
                       const std::vector<Tensor>& replay) const {
  const double epsilon = config_.rms_norm_eps;
  const Tensor normed = rms_norm(x, weight(block.input_layernorm), epsilon);
  const Tensor attended = config_.attention == AttentionKind::MultiHeadLatent
                              ? attend_latent(block, normed, view)
                              : attend_grouped(block, normed, view);
  const Tensor states = x + attended;
  const Tensor inputs = rms_norm(states, weight(block.post_attention_layernorm), epsilon);
  if (block.gate < 0) return states + feed_forward(block, inputs);

  const std::size_t routed = hidden.routers.size();
  const RouterChoice choice = route(inputs, weight(block.gate), optional(block.router_bias),
                                    config_.moe, replay.empty() ? Tensor() : replay.at(routed));
  hidden.routers.push_back(choice);
  Tensor out = mix_experts(inputs.flatten(0, 1), choice, weight(block.experts_gate_up),
                           weight(block.experts_down), options_.fp8, expert_ranks_)
                   .view_as(inputs);
  if (block.gate_proj >= 0) out = out + feed_forward(block, inputs);
  return states + out;
}

Tensor TorchModel::run_again(const Block& block, const Tensor& x, const View& view, Hidden& hidden,
                             const std::vector<Tensor>& replay) const {
  // What has a gradient goes through the graph: the states, and of a router its balance loss.
  const std::size_t routed = hidden.routers.size();
  auto choice = std::make_shared<std::vector<RouterChoice>>();
  const auto work = [this, &block, view, routed, choice, replay](const Tensor& input) {
    Hidden part;
    part.routers.resize(routed);  // replay is found by the number of routers so far
    const Tensor out = run(block, input, view, part, replay);
    choice->assign(part.routers.begin() + static_cast<std::ptrdiff_t>(routed), part.routers.end());
    std::vector<Tensor> outputs{out};
    if (!choice->empty()) outputs.push_back(choice->front().balance);
    return outputs;
  };
  const std::vector<Tensor> outputs = recomputed(x, work);
  if (!choice->empty()) {
    RouterChoice kept = choice->front();
    kept.balance = outputs[1];
    hidden.routers.push_back(std::move(kept));
  }
  return outputs[0];
}

/// Queries of several heads share one key and value head (arXiv 2305.13245).
Tensor TorchModel::attend_grouped(const Block& block, const Tensor& x, const View& view) const {
  const ModelConfig& c = config_;
  const auto heads = [&](int matrix, int bias, int norm, std::int64_t count) {
    Tensor y = apply(matrix, x, bias).unflatten(-1, {count, c.head_dim});
    return norm < 0 ? y : rms_norm(y, weight(norm), c.rms_norm_eps);
  };
  const Tensor q = heads(block.q_proj, block.q_bias, block.q_norm, c.num_attention_heads);
  const Tensor k = heads(block.k_proj, block.k_bias, block.k_norm, c.num_key_value_heads);
  const Tensor v = heads(block.v_proj, block.v_bias, -1, c.num_key_value_heads);
  const Tensor out =
      attention(rotate(q, view.angles, c.rope.pairing), rotate(k, view.angles, c.rope.pairing), v,
                view.sight, c.attention_scale);
  return apply(block.o_proj, out, block.o_bias);
}

/// Keys and values of all heads come from one latent vector a token (arXiv 2405.04434, 2.1); for
/// training they are expanded, as there is no cache to keep small.
Tensor TorchModel::attend_latent(const Block& block, const Tensor& x, const View& view) const {
  const ModelConfig& c = config_;
  const std::int64_t heads = c.num_attention_heads, nope = c.qk_nope_head_dim;
  const std::int64_t rope = c.qk_rope_head_dim;
  Tensor q;
  if (block.q_a_proj >= 0) {
    const Tensor latent =
        rms_norm(apply(block.q_a_proj, x), weight(block.q_a_layernorm), kLatentEpsilon);
    q = apply(block.q_b_proj, latent);
  } else {
    q = apply(block.q_proj, x);
  }
  q = q.unflatten(-1, {heads, nope + rope});
  const Tensor queries = rotate(q, view.angles, c.rope.pairing, /*plain=*/nope);

  const std::vector<Tensor> kv_a = apply(block.kv_a_proj, x).split({c.kv_lora_rank, rope}, -1);
  const Tensor latent = rms_norm(kv_a[0], weight(block.kv_a_layernorm), kLatentEpsilon);
  const Tensor k_rope = rotate(kv_a[1].unsqueeze(2), view.angles, c.rope.pairing);
  const Tensor kv = apply(block.kv_b_proj, latent).unflatten(-1, {heads, nope + c.v_head_dim});
  const std::vector<Tensor> parts = kv.split({nope, c.v_head_dim}, -1);
  const Tensor out =
      attention(queries, join_keys(parts[0], k_rope), parts[1], view.sight, c.attention_scale);
  return apply(block.o_proj, out);
}

Tensor TorchModel::feed_forward(const Block& block, const Tensor& x) const {
  return apply(block.down_proj, swiglu(apply(block.gate_proj, x), apply(block.up_proj, x)));
}

}  // namespace fathom::train
