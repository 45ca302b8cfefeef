// The one place that maps GGUF's tensor names to Hugging Face's and back.
//
// GGUF names a block's tensors "blk.N.attn_q.weight", Hugging Face
// "model.layers.N.self_attn.q_proj.weight". All other code uses Hugging Face's. Known are the
// architectures "llama" (dense), "qwen2", "qwen3", "deepseek" (MoE-16B) and "deepseek2" (V2-Lite,
// V2, V3, R1); the table says which tensors each has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

/// Whether the architecture's names are known here.
bool gguf_names_known(std::string_view architecture);

/// Hugging Face's name of a GGUF tensor; nullopt when the table has none: keep the tensor's own.
/// Stacked experts become "model.layers.N.mlp.experts.gate_proj.weight" [experts, out, in], the
/// older per-expert tensors ("blk.N.ffn_gate.E.weight") "model.layers.N.mlp.experts.E....". The
/// halves of a split kv_b become "self_attn.k_b_proj.weight" [heads, kv_lora_rank,
/// qk_nope_head_dim] and "self_attn.v_b_proj.weight" [heads, v_head_dim, kv_lora_rank].
std::optional<std::string> hf_tensor_name(std::string_view architecture,
                                          std::string_view gguf_name);

/// GGUF's name of a Hugging Face tensor; nullopt when the table has none. A per-expert name gives
/// the older per-expert GGUF name; stack_of_expert() tells where it belongs in a stack.
std::optional<std::string> gguf_tensor_name(std::string_view architecture,
                                            std::string_view hf_name);

struct ExpertOfStack {
  std::string stack;  // "model.layers.3.mlp.experts.gate_proj.weight"
  std::uint32_t expert;
};
/// "model.layers.3.mlp.experts.17.gate_proj.weight" -> {"...mlp.experts.gate_proj.weight", 17};
/// nullopt for other names.
std::optional<ExpertOfStack> stack_of_expert(std::string_view hf_name);

/// The layer of a name of either kind: "model.layers.3...." or "blk.3....".
std::optional<std::uint32_t> layer_of_tensor(std::string_view name);

}  // namespace fathom
