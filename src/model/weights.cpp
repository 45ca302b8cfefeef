#include "model/weights.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <utility>

#include "base/error.h"
#include "formats/gguf_names.h"

namespace fathom {
namespace {

/// Visits every tensor of a model once. While checking it only looks and counts (all handles stay
/// null); while packing it also makes the handles. One description serves both, so that nothing can
/// be packed unchecked.
class Loader {
 public:
  /// Whether layers are kept in what load() returns, or dropped one by one.
  enum class Use { Keep, Drop };

  /// For checking.
  Loader(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend)
      : file_(checkpoint), c_(config), backend_(backend) {}
  Loader(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
         Progress* progress, const WeightLoading& loading, Use use)
      : file_(checkpoint),
        c_(config),
        backend_(backend),
        progress_(progress),
        inputs_(loading.inputs),
        read_ahead_(loading.read_ahead),
        use_(use) {}

  Weights load();
  const WeightBytes& bytes() const { return bytes_; }
  const std::set<std::string, std::less<>>& visited() const { return visited_; }

 private:
  using Size = std::int64_t;

  LayerWeights load_layer(Size layer);
  void load_grouped_attention(const std::string& attention, LayerWeights& w);
  void load_latent_attention(const std::string& attention, LayerWeights& w);
  std::unique_ptr<LatentHeads> load_latent_heads(const std::string& attention, LayerWeights& w);
  void load_moe(const std::string& mlp, LayerWeights& w);

  std::unique_ptr<Matrix> matrix(const std::string& name, Size out, Size in,
                                 Rounding rounding = Rounding::Allowed);
  std::unique_ptr<Vector> vector(const std::string& name, Size size);
  FfnSource ffn_source(const std::string& prefix, Size intermediate);

  bool packing() const { return progress_ != nullptr; }
  /// The tensor, with its FP8 scales if it has them; checked and noted.
  WeightSource source(const std::string& name, Size out, Size in);
  TensorView view(const std::string& name, std::initializer_list<Size> shape);
  /// Room for the statistics of a weight of `parts` matrices; none if nobody asked.
  std::span<InputSums> inputs_of(const std::string& name, Size parts, Size in);
  void count(const WeightSource& weight, Rounding rounding);
  /// After packing: pages of the file whose bytes were copied need not stay in memory.
  void release(const WeightSource& weight);

  const Checkpoint& file_;
  const ModelConfig& c_;
  Backend& backend_;
  Progress* progress_ = nullptr;
  InputStatistics* inputs_ = nullptr;
  bool read_ahead_ = false;
  Use use_ = Use::Keep;
  WeightBytes bytes_;
  std::set<std::string, std::less<>> visited_;
};

bool is_weight_type(DType dtype) {
  switch (dtype) {
    case DType::I8:
    case DType::I16:
    case DType::I32:
    case DType::I64:
    case DType::F64:
    case DType::U8:
    case DType::Bool:
      return false;
    default:
      return true;
  }
}

TensorView Loader::view(const std::string& name, std::initializer_list<Size> shape) {
  const TensorView tensor = file_.tensor(name);
  std::vector<std::uint64_t> dims;
  for (Size size : shape) dims.push_back(static_cast<std::uint64_t>(size));
  const Shape expected{std::span<const std::uint64_t>(dims)};
  require(tensor.shape == expected, ErrorCode::Corrupt,
          "{}: tensor '{}' has shape {}, but the configuration ({} with vocab_size {}, hidden_size "
          "{}) calls for {}",
          file_.path().string(), name, tensor.shape.to_string(), c_.architecture_name,
          c_.vocab_size, c_.hidden_size, expected.to_string());
  require(is_weight_type(tensor.dtype), ErrorCode::Unsupported,
          "{}: tensor '{}' has type {}, which cannot hold weights", file_.path().string(), name,
          to_string(tensor.dtype));
  if (visited_.insert(name).second && packing()) progress_->advance(tensor.data.size());
  // A whole layer's experts are looked up before the first is packed.
  if (read_ahead_) file_.needed_soon(tensor.data);
  return tensor;
}

std::span<InputSums> Loader::inputs_of(const std::string& name, Size parts, Size in) {
  if (inputs_ == nullptr || !packing()) return {};
  std::vector<InputSums>& sums = (*inputs_)[name];
  if (sums.empty()) {  // pointers into it are handed out: it never grows again
    sums.resize(static_cast<std::size_t>(parts));
    for (InputSums& part : sums) part.squares.resize(static_cast<std::size_t>(in));
  }
  return sums;
}

WeightSource Loader::source(const std::string& name, Size out, Size in) {
  WeightSource weight{view(name, {out, in}), std::nullopt, nullptr, name};
  if (const auto expert = stack_of_expert(name)) {
    const auto sums = inputs_of(expert->stack, c_.moe.n_routed_experts, in);
    if (!sums.empty()) weight.inputs = &sums[expert->expert];
  } else {
    const auto sums = inputs_of(name, 1, in);
    if (!sums.empty()) weight.inputs = sums.data();
  }
  if (weight.weight.dtype == DType::F8_E4M3) {
    constexpr Size kBlock = 128;
    const std::string scales = name + "_scale_inv";
    if (file_.find(scales)) {
      weight.scale_inv = view(scales, {(out + kBlock - 1) / kBlock, (in + kBlock - 1) / kBlock});
    }
  }
  return weight;
}

void Loader::count(const WeightSource& weight, Rounding rounding) {
  const std::uint64_t packed = backend_.packed_bytes(weight, rounding);
  bytes_.packed += packed;
  if (packed == 0) bytes_.mapped += weight.weight.data.size();
}

void Loader::release(const WeightSource& weight) {
  if (backend_.packed_bytes(weight, Rounding::Allowed) > 0) file_.not_needed(weight.weight.data);
}

std::unique_ptr<Matrix> Loader::matrix(const std::string& name, Size out, Size in,
                                       Rounding rounding) {
  const WeightSource weight = source(name, out, in);
  count(weight, rounding);
  if (!packing()) return nullptr;
  auto packed = backend_.pack_matrix(weight, rounding);
  release(weight);
  return packed;
}

std::unique_ptr<Vector> Loader::vector(const std::string& name, Size size) {
  const TensorView tensor = view(name, {size});
  bytes_.packed += static_cast<std::uint64_t>(size) * sizeof(float);
  return packing() ? backend_.load_vector(tensor) : nullptr;
}

FfnSource Loader::ffn_source(const std::string& prefix, Size intermediate) {
  FfnSource ffn{source(prefix + "gate_proj.weight", intermediate, c_.hidden_size),
                source(prefix + "up_proj.weight", intermediate, c_.hidden_size),
                source(prefix + "down_proj.weight", c_.hidden_size, intermediate)};
  for (const WeightSource* weight : {&ffn.gate, &ffn.up, &ffn.down}) {
    count(*weight, Rounding::Allowed);
  }
  return ffn;
}

void Loader::load_grouped_attention(const std::string& attention, LayerWeights& w) {
  const Size q_size = c_.num_attention_heads * c_.head_dim;
  const Size kv_size = c_.num_key_value_heads * c_.head_dim;
  w.q_proj = matrix(attention + "q_proj.weight", q_size, c_.hidden_size);
  w.k_proj = matrix(attention + "k_proj.weight", kv_size, c_.hidden_size);
  w.v_proj = matrix(attention + "v_proj.weight", kv_size, c_.hidden_size);
  w.o_proj = matrix(attention + "o_proj.weight", c_.hidden_size, q_size);
  if (c_.qkv_bias) {
    w.q_bias = vector(attention + "q_proj.bias", q_size);
    w.k_bias = vector(attention + "k_proj.bias", kv_size);
    w.v_bias = vector(attention + "v_proj.bias", kv_size);
  }
  if (c_.output_bias) w.o_bias = vector(attention + "o_proj.bias", c_.hidden_size);
  if (c_.qk_norm) {
    w.q_norm = vector(attention + "q_norm.weight", c_.head_dim);
    w.k_norm = vector(attention + "k_norm.weight", c_.head_dim);
  }
}

void Loader::load_latent_attention(const std::string& attention, LayerWeights& w) {
  const Size q_size = c_.num_attention_heads * (c_.qk_nope_head_dim + c_.qk_rope_head_dim);
  if (c_.q_lora_rank > 0) {
    w.q_a_proj = matrix(attention + "q_a_proj.weight", c_.q_lora_rank, c_.hidden_size);
    w.q_a_layernorm = vector(attention + "q_a_layernorm.weight", c_.q_lora_rank);
    w.q_b_proj = matrix(attention + "q_b_proj.weight", q_size, c_.q_lora_rank);
  } else {
    w.q_proj = matrix(attention + "q_proj.weight", q_size, c_.hidden_size);
  }
  w.kv_a_proj_with_mqa = matrix(attention + "kv_a_proj_with_mqa.weight",
                                c_.kv_lora_rank + c_.qk_rope_head_dim, c_.hidden_size);
  w.kv_a_layernorm = vector(attention + "kv_a_layernorm.weight", c_.kv_lora_rank);
  w.kv_b = load_latent_heads(attention, w);
  w.o_proj =
      matrix(attention + "o_proj.weight", c_.hidden_size, c_.num_attention_heads * c_.v_head_dim);
}

std::unique_ptr<LatentHeads> Loader::load_latent_heads(const std::string& attention,
                                                       LayerWeights& w) {
  const auto size = [](Size s) { return static_cast<std::size_t>(s); };
  const LatentSizes sizes{size(c_.num_attention_heads), size(c_.kv_lora_rank),
                          size(c_.qk_nope_head_dim), size(c_.qk_rope_head_dim),
                          size(c_.v_head_dim)};
  const std::string k_name = attention + "k_b_proj.weight";
  const std::string v_name = attention + "v_b_proj.weight";
  LatentHeadsSource latent;
  latent.name = attention;
  // Where a file has both forms, the split one spares the transposition.
  if (file_.find(k_name) && file_.find(v_name)) {
    const Size heads = c_.num_attention_heads;
    const auto either_rank = [&](const std::string& name, Size rows, Size columns) {
      return file_.tensor(name).shape.rank() == 3 ? view(name, {heads, rows, columns})
                                                  : view(name, {heads * rows, columns});
    };
    latent.k_b = either_rank(k_name, c_.kv_lora_rank, c_.qk_nope_head_dim);
    latent.v_b = either_rank(v_name, c_.v_head_dim, c_.kv_lora_rank);
    latent.k_b_inputs = inputs_of(k_name, heads, c_.qk_nope_head_dim);
    latent.v_b_inputs = inputs_of(v_name, heads, c_.kv_lora_rank);
    visited_.insert(attention + "kv_b_proj.weight");
  } else {
    latent.kv_b =
        source(attention + "kv_b_proj.weight",
               c_.num_attention_heads * (c_.qk_nope_head_dim + c_.v_head_dim), c_.kv_lora_rank);
    w.kv_b_inputs = latent.kv_b->inputs;
    bytes_.packed += backend_.packed_bytes(latent, sizes);
  }
  return packing() ? backend_.pack_latent_heads(latent, sizes) : nullptr;
}

void Loader::load_moe(const std::string& mlp, LayerWeights& w) {
  const MoeConfig& moe = c_.moe;
  // Which expert comes first hangs on small differences: the gate is never rounded.
  w.gate = matrix(mlp + "gate.weight", moe.n_routed_experts, c_.hidden_size, Rounding::Never);
  if (moe.routing == Routing::NoAuxTc) {
    const std::string bias = mlp + "gate.e_score_correction_bias";
    // GGUF files may leave it out (all zeros); Hugging Face's always state it.
    if (file_.source() != CheckpointSource::Gguf || file_.find(bias)) {
      w.e_score_correction_bias = vector(bias, moe.n_routed_experts);
    }
  }
  std::vector<FfnSource> experts;
  experts.reserve(static_cast<std::size_t>(moe.n_routed_experts));
  for (Size e = 0; e < moe.n_routed_experts; ++e) {
    experts.push_back(ffn_source(fmt::format("{}experts.{}.", mlp, e), moe.moe_intermediate_size));
  }
  for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
    visited_.insert(fmt::format("{}experts.{}.weight", mlp, part));  // where they are stacked
  }
  if (packing()) {
    w.experts = backend_.pack_experts(experts);
    for (const FfnSource& e : experts) {
      for (const WeightSource* weight : {&e.gate, &e.up, &e.down}) release(*weight);
    }
  }
  if (moe.n_shared_experts > 0) {
    const FfnSource shared =
        ffn_source(mlp + "shared_experts.", moe.n_shared_experts * moe.moe_intermediate_size);
    if (packing()) {
      w.shared_experts = backend_.pack_ffn(shared);
      for (const WeightSource* weight : {&shared.gate, &shared.up, &shared.down}) release(*weight);
    }
  }
}

LayerWeights Loader::load_layer(Size layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  LayerWeights w;
  w.input_layernorm = vector(prefix + "input_layernorm.weight", c_.hidden_size);
  w.post_attention_layernorm = vector(prefix + "post_attention_layernorm.weight", c_.hidden_size);
  if (c_.attention == AttentionKind::MultiHeadLatent) {
    load_latent_attention(prefix + "self_attn.", w);
  } else {
    load_grouped_attention(prefix + "self_attn.", w);
  }
  if (c_.is_moe_layer(layer)) {
    load_moe(prefix + "mlp.", w);
  } else {
    const FfnSource ffn = ffn_source(prefix + "mlp.", c_.intermediate_size);
    if (packing()) {
      w.mlp = backend_.pack_ffn(ffn);
      for (const WeightSource* weight : {&ffn.gate, &ffn.up, &ffn.down}) release(*weight);
    }
  }
  return w;
}

Weights Loader::load() {
  Weights weights;
  const std::string embeddings = "model.embed_tokens.weight";
  const TensorView table = view(embeddings, {c_.vocab_size, c_.hidden_size});
  if (packing()) weights.embed_tokens = backend_.load_table(table);
  for (Size layer = 0; layer < c_.num_hidden_layers; ++layer) {
    LayerWeights loaded = load_layer(layer);
    if (use_ == Use::Keep) weights.layers.push_back(std::move(loaded));
  }
  weights.norm = vector("model.norm.weight", c_.hidden_size);
  weights.lm_head =
      matrix(c_.tie_word_embeddings ? embeddings : "lm_head.weight", c_.vocab_size, c_.hidden_size);
  return weights;
}

/// The layer of "model.layers.N.…", -1 for other names.
std::int64_t layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return -1;
  std::int64_t layer = 0;
  std::size_t i = kPrefix.size();
  for (; i < name.size() && name[i] >= '0' && name[i] <= '9' && layer < (1 << 20); ++i) {
    layer = layer * 10 + (name[i] - '0');
  }
  return layer;
}

/// Tensors that some files carry and no forward pass needs.
bool is_not_needed(std::string_view name, const ModelConfig& config) {
  return name.ends_with("rotary_emb.inv_freq") ||     // derived from the configuration
         name == "rope_freqs.weight" ||               // read with the configuration
         name == "lm_head.weight" ||                  // beside tied embeddings
         layer_of(name) >= config.num_hidden_layers;  // multi-token prediction
}

}  // namespace

WeightBytes check_weights(const Checkpoint& checkpoint, const ModelConfig& config,
                          Backend& backend) {
  Loader loader(checkpoint, config, backend);
  loader.load();
  for (const std::string& name : checkpoint.names()) {
    // A bias or norm that the forward pass would leave out makes another model of it.
    require(loader.visited().contains(name) || is_not_needed(name, config), ErrorCode::Unsupported,
            "{}: tensor '{}' is not part of a {} model with this configuration",
            checkpoint.path().string(), name, config.architecture_name);
  }
  return loader.bytes();
}

namespace {

Weights pack_all(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                 const WeightLoading& loading, Loader::Use use) {
  check_weights(checkpoint, config, backend);
  Progress packing(loading.progress, "packing weights", checkpoint.weight_bytes());
  Weights weights = Loader(checkpoint, config, backend, &packing, loading, use).load();
  checkpoint.verify_unchanged();
  return weights;
}

}  // namespace

Weights load_weights(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                     const WeightLoading& loading) {
  return pack_all(checkpoint, config, backend, loading, Loader::Use::Keep);
}

void pack_each_weight(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const WeightLoading& loading) {
  pack_all(checkpoint, config, backend, loading, Loader::Use::Drop);
}

}  // namespace fathom
