#include "formats/gguf_names.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace fathom {
namespace {

enum Architecture : unsigned {
  kLlama = 1,
  kQwen2 = 2,
  kQwen3 = 4,
  kDeepseek = 8,    // DeepSeekMoE-16B: grouped attention, softmax routing
  kDeepseek2 = 16,  // latent attention
};
constexpr unsigned kGrouped = kLlama | kQwen2 | kQwen3 | kDeepseek;
constexpr unsigned kMoe = kDeepseek | kDeepseek2;
constexpr unsigned kAll = kGrouped | kDeepseek2;

unsigned architecture_bit(std::string_view name) {
  if (name == "llama") return kLlama;
  if (name == "qwen2") return kQwen2;
  if (name == "qwen3") return kQwen3;
  if (name == "deepseek") return kDeepseek;
  if (name == "deepseek2") return kDeepseek2;
  return 0;
}

struct Row {
  std::string_view gguf;
  std::string_view hf;
  unsigned architectures;
};

constexpr std::array kGlobal{
    Row{"token_embd.weight", "model.embed_tokens.weight", kAll},
    Row{"output_norm.weight", "model.norm.weight", kAll},
    Row{"output.weight", "lm_head.weight", kAll},
    // Llama 3.1's frequency factors are numbers that GGUF stores as a tensor: the same name in
    // both.
    Row{"rope_freqs.weight", "rope_freqs.weight", kAll},
};

/// After "blk.N." and "model.layers.N.".
constexpr std::array kBlock{
    Row{"attn_norm.weight", "input_layernorm.weight", kAll},
    Row{"ffn_norm.weight", "post_attention_layernorm.weight", kAll},

    Row{"attn_q.weight", "self_attn.q_proj.weight", kAll},
    Row{"attn_q.bias", "self_attn.q_proj.bias", kAll},
    Row{"attn_k.weight", "self_attn.k_proj.weight", kGrouped},
    Row{"attn_k.bias", "self_attn.k_proj.bias", kGrouped},
    Row{"attn_v.weight", "self_attn.v_proj.weight", kGrouped},
    Row{"attn_v.bias", "self_attn.v_proj.bias", kGrouped},
    Row{"attn_output.weight", "self_attn.o_proj.weight", kAll},
    Row{"attn_output.bias", "self_attn.o_proj.bias", kAll},
    Row{"attn_q_norm.weight", "self_attn.q_norm.weight", kQwen3},
    Row{"attn_k_norm.weight", "self_attn.k_norm.weight", kQwen3},

    Row{"attn_q_a.weight", "self_attn.q_a_proj.weight", kDeepseek2},
    Row{"attn_q_a.bias", "self_attn.q_a_proj.bias", kDeepseek2},
    Row{"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight", kDeepseek2},
    Row{"attn_q_b.weight", "self_attn.q_b_proj.weight", kDeepseek2},
    Row{"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", kDeepseek2},
    Row{"attn_kv_a_mqa.bias", "self_attn.kv_a_proj_with_mqa.bias", kDeepseek2},
    Row{"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", kDeepseek2},
    Row{"attn_kv_b.weight", "self_attn.kv_b_proj.weight", kDeepseek2},
    Row{"attn_k_b.weight", "self_attn.k_b_proj.weight", kDeepseek2},
    Row{"attn_v_b.weight", "self_attn.v_b_proj.weight", kDeepseek2},

    Row{"ffn_gate.weight", "mlp.gate_proj.weight", kAll},
    Row{"ffn_up.weight", "mlp.up_proj.weight", kAll},
    Row{"ffn_down.weight", "mlp.down_proj.weight", kAll},

    Row{"ffn_gate_inp.weight", "mlp.gate.weight", kMoe},
    Row{"exp_probs_b.bias", "mlp.gate.e_score_correction_bias", kDeepseek2},
    Row{"ffn_gate_exps.weight", "mlp.experts.gate_proj.weight", kMoe},
    Row{"ffn_up_exps.weight", "mlp.experts.up_proj.weight", kMoe},
    Row{"ffn_down_exps.weight", "mlp.experts.down_proj.weight", kMoe},
    Row{"ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight", kMoe},
    Row{"ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight", kMoe},
    Row{"ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight", kMoe},

    // DeepSeek-V3's layer for multi-token prediction.
    Row{"nextn.eh_proj.weight", "eh_proj.weight", kDeepseek2},
    Row{"nextn.embed_tokens.weight", "embed_tokens.weight", kDeepseek2},
    Row{"nextn.enorm.weight", "enorm.weight", kDeepseek2},
    Row{"nextn.hnorm.weight", "hnorm.weight", kDeepseek2},
    Row{"nextn.shared_head_head.weight", "shared_head.head.weight", kDeepseek2},
    Row{"nextn.shared_head_norm.weight", "shared_head.norm.weight", kDeepseek2},
};

struct ExpertRow {
  std::string_view gguf;  // "blk.N.<gguf>.E.weight"
  std::string_view hf;    // "model.layers.N.mlp.experts.E.<hf>.weight"
};
constexpr std::array kExpert{
    ExpertRow{"ffn_gate", "gate_proj"},
    ExpertRow{"ffn_up", "up_proj"},
    ExpertRow{"ffn_down", "down_proj"},
};

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// A decimal number without sign or leading zeros, so that each tensor has one name only.
std::optional<std::uint32_t> take_number(std::string_view& text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto length = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || (length > 1 && text[0] == '0')) return std::nullopt;
  text.remove_prefix(length);
  return number;
}

/// "<prefix>N.rest" -> N, leaving rest.
std::optional<std::uint32_t> take_layer(std::string_view& text, std::string_view prefix) {
  std::string_view rest = text;
  if (!take(rest, prefix)) return std::nullopt;
  const auto layer = take_number(rest);
  if (!layer || !take(rest, ".")) return std::nullopt;
  text = rest;
  return layer;
}

}  // namespace

bool gguf_names_known(std::string_view architecture) { return architecture_bit(architecture) != 0; }

std::optional<std::string> hf_tensor_name(std::string_view architecture,
                                          std::string_view gguf_name) {
  const unsigned bit = architecture_bit(architecture);
  for (const Row& row : kGlobal) {
    if (row.gguf == gguf_name && (row.architectures & bit) != 0) return std::string(row.hf);
  }
  std::string_view rest = gguf_name;
  const auto layer = take_layer(rest, "blk.");
  if (!layer) return std::nullopt;
  for (const Row& row : kBlock) {
    if (row.gguf == rest && (row.architectures & bit) != 0) {
      return fmt::format("model.layers.{}.{}", *layer, row.hf);
    }
  }
  if ((bit & kMoe) == 0) return std::nullopt;
  for (const ExpertRow& row : kExpert) {
    std::string_view tail = rest;
    if (!take(tail, row.gguf) || !take(tail, ".")) continue;
    const auto expert = take_number(tail);
    if (expert && tail == ".weight") {
      return fmt::format("model.layers.{}.mlp.experts.{}.{}.weight", *layer, *expert, row.hf);
    }
  }
  return std::nullopt;
}

std::optional<std::string> gguf_tensor_name(std::string_view architecture,
                                            std::string_view hf_name) {
  const unsigned bit = architecture_bit(architecture);
  for (const Row& row : kGlobal) {
    if (row.hf == hf_name && (row.architectures & bit) != 0) return std::string(row.gguf);
  }
  std::string_view rest = hf_name;
  const auto layer = take_layer(rest, "model.layers.");
  if (!layer) return std::nullopt;
  for (const Row& row : kBlock) {
    if (row.hf == rest && (row.architectures & bit) != 0) {
      return fmt::format("blk.{}.{}", *layer, row.gguf);
    }
  }
  if ((bit & kMoe) == 0 || !take(rest, "mlp.experts.")) return std::nullopt;
  const auto expert = take_number(rest);
  if (!expert || !take(rest, ".")) return std::nullopt;
  for (const ExpertRow& row : kExpert) {
    std::string_view tail = rest;
    if (take(tail, row.hf) && tail == ".weight") {
      return fmt::format("blk.{}.{}.{}.weight", *layer, row.gguf, *expert);
    }
  }
  return std::nullopt;
}

std::optional<ExpertOfStack> stack_of_expert(std::string_view hf_name) {
  constexpr std::string_view kExperts = ".mlp.experts.";
  const std::size_t at = hf_name.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view head = hf_name.substr(0, at + kExperts.size());
  std::string_view rest = hf_name.substr(at + kExperts.size());
  const auto expert = take_number(rest);
  if (!expert || !take(rest, ".") || rest.empty()) return std::nullopt;
  return ExpertOfStack{std::string(head) + std::string(rest), *expert};
}

std::optional<std::uint32_t> layer_of_tensor(std::string_view name) {
  if (const auto layer = take_layer(name, "blk.")) return layer;
  return take_layer(name, "model.layers.");
}

}  // namespace fathom
