#!/usr/bin/env python3
"""Tiny random checkpoints with the logits and routed experts that Hugging Face transformers gives.

Each case becomes a folder: config.json and model.safetensors as a Hub repository would hold them,
tokens.json (the input ids; the routed experts of every MoE layer), logits.f32 (little-endian,
[tokens, vocab_size]) and, where listed, *.gguf: the same weights as the llama.cpp family stores them.

The oracle runs in float64 with eager attention (norms, softmax and the router's product are float32
by transformers' own code), so that what is stored is far more exact than the tolerance of the test.
transformers has no class for DeepSeek-MoE (model_type "deepseek"): its reference is transformers'
llama with the feed-forward replaced by DeepSeekMoE below, written from arXiv 2401.06066 (eq. 9-11)
with the gate's published settings (softmax over all experts, top k, optional normalisation).

    python make.py            # needs torch, transformers, safetensors, gguf, numpy; see README.md
"""

import json
import math
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
TOKENS = 150  # more than two pages of the KV cache, and past the small original contexts below

LLAMA = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", rms_norm_eps=1e-5,
    max_position_embeddings=512, bos_token_id=1, eos_token_id=2, attention_bias=False, mlp_bias=False,
)
DEEPSEEK = dict(
    hidden_act="silu", rms_norm_eps=1e-6, max_position_embeddings=512, bos_token_id=0, eos_token_id=1,
    attention_bias=False, tie_word_embeddings=False, rope_theta=10000.0,
)

CASES = {
    "llama-gqa": LLAMA | dict(
        vocab_size=97, hidden_size=48, intermediate_size=100, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=False, rope_theta=10000.0, rope_scaling=None,
    ),
    "llama-mqa-llama3": LLAMA | dict(
        vocab_size=83, hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=5,
        num_key_value_heads=1, head_dim=16, tie_word_embeddings=True, rope_theta=500000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=64),
    ),
    # As transformers 5 writes it: everything about rope in rope_parameters.
    "llama-bias-linear": {k: v for k, v in LLAMA.items() if k != "attention_bias"} | dict(
        vocab_size=67, hidden_size=36, intermediate_size=50, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, head_dim=12, tie_word_embeddings=False, attention_bias=True,
        rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0),
    ),
    "qwen2": dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", rms_norm_eps=1e-6,
        max_position_embeddings=512, vocab_size=101, hidden_size=56, intermediate_size=88,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        rope_theta=1000000.0, use_sliding_window=False, sliding_window=512, max_window_layers=2,
    ),
    "qwen2-yarn": dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", rms_norm_eps=1e-6,
        max_position_embeddings=512, vocab_size=71, hidden_size=48, intermediate_size=72,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        rope_theta=1000000.0, use_sliding_window=False,
        rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=48),
    ),
    "qwen3": dict(
        architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu", rms_norm_eps=1e-6,
        max_position_embeddings=512, vocab_size=89, hidden_size=48, intermediate_size=76,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=20,
        tie_word_embeddings=True, rope_theta=1000000.0, rope_scaling=None, attention_bias=False,
        use_sliding_window=False, sliding_window=None,
    ),
    "deepseek-moe": DEEPSEEK | dict(
        architectures=["DeepseekForCausalLM"], model_type="deepseek", vocab_size=79, hidden_size=32,
        intermediate_size=60, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
        n_routed_experts=9, n_shared_experts=2, num_experts_per_tok=3, moe_intermediate_size=10,
        first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=False, scoring_func="softmax",
        rope_scaling=None,
    ),
    "deepseek-moe-freq": DEEPSEEK | dict(
        architectures=["DeepseekForCausalLM"], model_type="deepseek", vocab_size=79, hidden_size=32,
        intermediate_size=44, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        n_routed_experts=7, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=14,
        first_k_dense_replace=1, moe_layer_freq=2, norm_topk_prob=True, scoring_func="softmax",
        rope_scaling=None,
    ),
    "deepseek2-lite": DEEPSEEK | dict(
        architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", vocab_size=103, hidden_size=48,
        intermediate_size=68, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3,
        q_lora_rank=None, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12,
        n_routed_experts=10, n_shared_experts=2, num_experts_per_tok=3, moe_intermediate_size=9,
        first_k_dense_replace=1, moe_layer_freq=1, topk_method="greedy", n_group=1, topk_group=1,
        norm_topk_prob=False, scoring_func="softmax", routed_scaling_factor=1.0,
        rope_scaling=dict(type="yarn", factor=40, beta_fast=32, beta_slow=1, mscale=0.707,
                          mscale_all_dim=0.707, original_max_position_embeddings=64),
    ),
    "deepseek2": DEEPSEEK | dict(
        architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", vocab_size=87, hidden_size=40,
        intermediate_size=52, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        q_lora_rank=20, kv_lora_rank=32, qk_nope_head_dim=10, qk_rope_head_dim=12, v_head_dim=14,
        n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=3, moe_intermediate_size=8,
        first_k_dense_replace=1, moe_layer_freq=1, topk_method="group_limited_greedy", n_group=4,
        topk_group=2, norm_topk_prob=False, scoring_func="softmax", routed_scaling_factor=3.5,
        rope_scaling=dict(type="yarn", factor=16, beta_fast=24, beta_slow=2, mscale=1.0,
                          mscale_all_dim=0.6, original_max_position_embeddings=32),
    ),
    "deepseek3": DEEPSEEK | dict(
        architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", vocab_size=91, hidden_size=44,
        intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        q_lora_rank=18, kv_lora_rank=28, qk_nope_head_dim=14, qk_rope_head_dim=6, v_head_dim=10,
        n_routed_experts=16, n_shared_experts=1, num_experts_per_tok=4, moe_intermediate_size=7,
        first_k_dense_replace=1, moe_layer_freq=1, topk_method="noaux_tc", n_group=4, topk_group=2,
        norm_topk_prob=True, scoring_func="sigmoid", routed_scaling_factor=2.5, num_nextn_predict_layers=0,
        rope_scaling=dict(type="yarn", factor=40, beta_fast=32, beta_slow=1, mscale=1.0,
                          mscale_all_dim=1.0, original_max_position_embeddings=64),
    ),
    "deepseek3-plain": DEEPSEEK | dict(
        architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", vocab_size=73, hidden_size=36,
        intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3,
        q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=20,
        n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=2, moe_intermediate_size=11,
        first_k_dense_replace=0, moe_layer_freq=1, topk_method="noaux_tc", n_group=1, topk_group=1,
        norm_topk_prob=False, scoring_func="sigmoid", routed_scaling_factor=1.3, num_nextn_predict_layers=0,
        rope_scaling=None,
    ),
}


# --- weights -----------------------------------------------------------------------------------


def is_moe_layer(config, layer):
    return (config.get("n_routed_experts") and layer >= config["first_k_dense_replace"]
            and layer % config.get("moe_layer_freq", 1) == 0)


def make_weights(config, rng):
    """Every tensor by its Hub name. Wide enough that heads, experts and biases really differ."""
    weights = {}
    hidden, heads = config["hidden_size"], config["num_attention_heads"]

    def matrix(name, out, inner, gain=1.0):
        weights[name] = torch.from_numpy(rng.normal(0, gain / math.sqrt(inner), (out, inner)).astype(np.float32))

    def norm(name, size):
        weights[name] = torch.from_numpy(rng.uniform(0.5, 1.5, size).astype(np.float32))

    def bias(name, size):
        weights[name] = torch.from_numpy(rng.normal(0, 0.3, size).astype(np.float32))

    def feed_forward(prefix, intermediate):
        matrix(prefix + "gate_proj.weight", intermediate, hidden, 1.5)
        matrix(prefix + "up_proj.weight", intermediate, hidden, 1.5)
        matrix(prefix + "down_proj.weight", hidden, intermediate)

    matrix("model.embed_tokens.weight", config["vocab_size"], hidden, math.sqrt(hidden))
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        norm(p + "input_layernorm.weight", hidden)
        norm(p + "post_attention_layernorm.weight", hidden)
        a = p + "self_attn."
        if "kv_lora_rank" in config:
            nope, rope, v = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
            if config["q_lora_rank"]:
                matrix(a + "q_a_proj.weight", config["q_lora_rank"], hidden)
                norm(a + "q_a_layernorm.weight", config["q_lora_rank"])
                matrix(a + "q_b_proj.weight", heads * (nope + rope), config["q_lora_rank"], 1.5)
            else:
                matrix(a + "q_proj.weight", heads * (nope + rope), hidden, 1.5)
            matrix(a + "kv_a_proj_with_mqa.weight", config["kv_lora_rank"] + rope, hidden)
            norm(a + "kv_a_layernorm.weight", config["kv_lora_rank"])
            matrix(a + "kv_b_proj.weight", heads * (nope + v), config["kv_lora_rank"], 1.5)
            matrix(a + "o_proj.weight", hidden, heads * v)
        else:
            head_dim = config.get("head_dim") or hidden // heads
            kv = config["num_key_value_heads"]
            for name, rows in (("q", heads), ("k", kv), ("v", kv)):
                matrix(a + f"{name}_proj.weight", rows * head_dim, hidden, 1.5)
                if config["model_type"] == "qwen2" or config.get("attention_bias"):
                    bias(a + f"{name}_proj.bias", rows * head_dim)
            matrix(a + "o_proj.weight", hidden, heads * head_dim)
            if config["model_type"] == "llama" and config.get("attention_bias"):
                bias(a + "o_proj.bias", hidden)
            if config["model_type"] == "qwen3":
                norm(a + "q_norm.weight", head_dim)
                norm(a + "k_norm.weight", head_dim)
        m = p + "mlp."
        if is_moe_layer(config, layer):
            matrix(m + "gate.weight", config["n_routed_experts"], hidden, 1.5)
            if config.get("topk_method") == "noaux_tc":
                bias(m + "gate.e_score_correction_bias", config["n_routed_experts"])
            for e in range(config["n_routed_experts"]):
                feed_forward(m + f"experts.{e}.", config["moe_intermediate_size"])
            feed_forward(m + "shared_experts.", config["moe_intermediate_size"] * config["n_shared_experts"])
        else:
            feed_forward(m, config["intermediate_size"])
    norm("model.norm.weight", hidden)
    if not config.get("tie_word_embeddings"):
        matrix("lm_head.weight", config["vocab_size"], hidden)
    return weights


# --- the oracle --------------------------------------------------------------------------------


class DeepSeekMoE(torch.nn.Module):
    """Shared experts plus the top k routed ones, weighted by the softmax over all of them."""

    def __init__(self, config, weights, prefix):
        super().__init__()
        self.config = config
        self.weights = {k.removeprefix(prefix): v.double() for k, v in weights.items() if k.startswith(prefix)}
        self.routed = []

    def ffn(self, name, x):
        w = self.weights
        hidden = torch.nn.functional.silu(x @ w[name + "gate_proj.weight"].T) * (x @ w[name + "up_proj.weight"].T)
        return hidden @ w[name + "down_proj.weight"].T

    def forward(self, x):
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        scores = (x @ self.weights["gate.weight"].T).softmax(-1)
        weight, index = scores.topk(self.config["num_experts_per_tok"], -1)
        if self.config["norm_topk_prob"]:
            weight = weight / weight.sum(-1, keepdim=True)
        self.routed = (index, weight)
        out = self.ffn("shared_experts.", x)
        for t in range(len(x)):
            for e, g in zip(index[t].tolist(), weight[t]):
                out[t] += g * self.ffn(f"experts.{e}.", x[t])
        return out.reshape(shape)


def run_oracle(folder, config, tokens):
    """logits [tokens, vocab] and {layer: (expert ids, weights)}."""
    routed = {}
    if config["model_type"] == "deepseek":
        weights = load_file(folder / "model.safetensors")
        llama = transformers.LlamaConfig(**{k: v for k, v in config.items()
                                            if k not in ("architectures", "model_type", "rope_scaling")})
        llama._attn_implementation = "eager"
        model = transformers.LlamaForCausalLM(llama).double()
        moe = [i for i in range(config["num_hidden_layers"]) if is_moe_layer(config, i)]
        missing, unexpected = model.load_state_dict(weights, strict=False)
        for i in moe:
            model.model.layers[i].mlp = DeepSeekMoE(config, weights, f"model.layers.{i}.mlp.")
        assert all(int(n.split(".")[2]) in moe and ".mlp." in n for n in missing + unexpected), (missing, unexpected)
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
        routed = {i: model.model.layers[i].mlp.routed for i in moe}
    else:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
        for i, layer in enumerate(model.model.layers):
            gate = getattr(layer.mlp, "gate", None)
            if gate is not None:
                gate.register_forward_hook(lambda _m, _in, out, i=i: routed.__setitem__(i, (out[2], out[1])))
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
    return logits, routed


# --- GGUF twins --------------------------------------------------------------------------------


def permute(weight, heads):
    """llama's q and k rows as GGUF stores them: pairs (i, i + d/2) of a head become neighbours."""
    out = weight.shape[0]
    return weight.reshape(heads, 2, out // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_divisors(config):
    """What rope_freqs.weight holds: by how much each frequency is divided."""
    s, dim = config["rope_scaling"], config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    freqs = 1.0 / (config["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    low = s["original_max_position_embeddings"] / s["low_freq_factor"]
    high = s["original_max_position_embeddings"] / s["high_freq_factor"]
    divisors = []
    for f in freqs.tolist():
        wavelength = 2 * math.pi / f
        smooth = (s["original_max_position_embeddings"] / wavelength - s["low_freq_factor"]) / (
            s["high_freq_factor"] - s["low_freq_factor"])
        divisors.append(1.0 if wavelength < high else s["factor"] if wavelength > low
                        else 1 / ((1 - smooth) / s["factor"] + smooth))
    return np.array(divisors, dtype=np.float32)


def write_gguf(path, config, weights, mla="kv_b", with_vocab_size=True):
    """mla: "kv_b" (one attn_kv_b), "split" (attn_k_b and attn_v_b, 3-D), "both" (all three, 2-D)."""
    arch = {"deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2"}.get(config["model_type"], config["model_type"])
    w = gguf.GGUFWriter(path, arch)
    c, layers, heads = config, config["num_hidden_layers"], config["num_attention_heads"]
    w.add_block_count(layers)
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(c.get("rope_theta", 10000.0))
    if with_vocab_size:
        w.add_vocab_size(c["vocab_size"])
    else:  # the older habit: the vocabulary is as long as its token list
        w.add_tokenizer_model("gpt2")
        w.add_token_list([f"t{i}" for i in range(c["vocab_size"])])
    mla_model = "kv_lora_rank" in c
    if mla_model:
        nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        if c["q_lora_rank"]:
            w.add_q_lora_rank(c["q_lora_rank"])
        w.add_kv_lora_rank(c["kv_lora_rank"])
        w.add_rope_dimension_count(rope)
        if mla == "split":
            w.add_head_count_kv(1)
            w.add_key_length(c["kv_lora_rank"] + rope)
            w.add_value_length(c["kv_lora_rank"])
            w.add_key_length_mla(nope + rope)
            w.add_value_length_mla(v)
        else:
            w.add_head_count_kv(heads)
            w.add_key_length(nope + rope)
            w.add_value_length(v)
    else:
        head_dim = c.get("head_dim") or c["hidden_size"] // heads
        w.add_head_count_kv(c["num_key_value_heads"])
        w.add_rope_dimension_count(head_dim)
        if "head_dim" in c:
            w.add_key_length(head_dim)
            w.add_value_length(head_dim)
    if c.get("n_routed_experts"):
        w.add_expert_count(c["n_routed_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_shared_count(c["n_shared_experts"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        w.add_expert_weights_scale(c.get("routed_scaling_factor", 1.0))
        w.add_leading_dense_block_count(c["first_k_dense_replace"])
        if mla_model:
            w.add_expert_weights_norm(c["norm_topk_prob"])
            if c["scoring_func"] == "sigmoid":  # older V2 files do not state softmax
                w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
            if c["n_group"] > 1:
                w.add_expert_group_count(c["n_group"])
                w.add_expert_group_used_count(c["topk_group"])
    scaling = c.get("rope_scaling") or {}
    if scaling.get("type") == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(scaling["factor"])
        w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        if mla_model:
            w.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])
    if scaling.get("rope_type") == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_divisors(c))

    names = gguf.get_tensor_name_map(
        {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3,
         "deepseek": gguf.MODEL_ARCH.DEEPSEEK, "deepseek2": gguf.MODEL_ARCH.DEEPSEEK2}[arch], layers)
    experts = {}
    for name, tensor in weights.items():
        a = tensor.numpy()
        if arch in ("llama", "deepseek") and ".q_proj." in name:
            a = permute(a, heads)
        if arch in ("llama", "deepseek") and ".k_proj." in name:
            a = permute(a, c["num_key_value_heads"])
        if ".experts." in name:
            prefix, rest = name.split(".experts.")
            expert, kind = rest.split(".", 1)
            experts.setdefault(f"{prefix}.experts.{kind}", {})[int(expert)] = a
            continue
        if name.endswith("e_score_correction_bias"):
            name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        if name.endswith("kv_b_proj.weight") and mla != "kv_b":
            kv_b = a.reshape(heads, nope + v, c["kv_lora_rank"])
            k_b, v_b = kv_b[:, :nope].swapaxes(1, 2), kv_b[:, nope:]
            if mla == "both":
                w.add_tensor(names.get_name(name, (".weight",)), a)
                k_b, v_b = k_b.reshape(-1, nope), v_b.reshape(-1, c["kv_lora_rank"])
            for part, data in (("k_b_proj", k_b), ("v_b_proj", v_b)):
                part = name.replace("kv_b_proj", part)
                w.add_tensor(names.get_name(part, (".weight",)), np.ascontiguousarray(data))
            continue
        w.add_tensor(names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(a))
    for name, parts in experts.items():
        w.add_tensor(names.get_name(name, (".weight",)), np.stack([parts[i] for i in range(len(parts))]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# HF states mscale and mscale_all_dim apart; GGUF has only the second, so "deepseek2" has no twin.
GGUF_TWINS = {
    "llama-gqa": [("model.gguf", {})],
    "llama-mqa-llama3": [("model.gguf", dict(with_vocab_size=False))],
    "qwen2": [("model.gguf", {})],
    "qwen2-yarn": [("model.gguf", {})],
    "qwen3": [("model.gguf", {})],
    "deepseek-moe": [("model.gguf", {})],
    "deepseek2-lite": [("kv_b.gguf", {}), ("split.gguf", dict(mla="split"))],
    "deepseek3": [("kv_b.gguf", {}), ("split.gguf", dict(mla="split")), ("both.gguf", dict(mla="both"))],
    "deepseek3-plain": [("split.gguf", dict(mla="split"))],
}


def main():
    torch.manual_seed(0)
    only = sys.argv[1:]
    for seed, (case, config) in enumerate(CASES.items()):
        if only and case not in only:
            continue
        rng = np.random.default_rng(1000 + seed)
        folder = HERE / case
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        weights = make_weights(config, rng)
        (folder / "config.json").write_text(json.dumps(config | dict(torch_dtype="float32"), indent=1) + "\n")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        tokens = rng.integers(0, config["vocab_size"], TOKENS).tolist()
        logits, routed = run_oracle(folder, config, tokens)
        logits.float().numpy().astype("<f4").tofile(folder / "logits.f32")
        routing = {}
        for layer, (ids, gate) in sorted(routed.items()):
            order = ids.sort(-1).indices
            routing[str(layer)] = dict(
                ids=ids.gather(-1, order).tolist(),
                weights=[[round(x, 7) for x in row] for row in gate.double().gather(-1, order).tolist()])
            used = ids.unique().numel()
            assert used > 1, f"{case}: layer {layer} always takes the same experts"
        (folder / "tokens.json").write_text(json.dumps(dict(tokens=tokens, routing=routing), separators=(",", ":")) + "\n")
        for name, options in GGUF_TWINS.get(case, []):
            write_gguf(folder / name, config, weights, **options)
        size = sum(f.stat().st_size for f in folder.iterdir())
        probs = logits.softmax(-1).max(-1).values.mean().item()
        print(f"{case:20} {size / 1024:7.0f} KiB  max |logit| {logits.abs().max().item():.2f}  mean top p {probs:.2f}")
    print("torch", torch.__version__, "transformers", transformers.__version__, "numpy", np.__version__)


if __name__ == "__main__":
    main()
