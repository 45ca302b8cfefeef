"""Makes tiny random Hugging Face folders and what a llama.cpp-family converter makes of them.

usage: python make.py CHECKOUT             all but "deepseek"; CHECKOUT is of ik_llama.cpp
       python make.py --deepseek CHECKOUT  "deepseek" alone, which only llama.cpp's converter knows

Each folder gets config.json, model.safetensors and expected.gguf (F32). The converter's vocabulary
step is left out: tiny models have no real tokenizer. deepseek_v3_fp8 holds native FP8 weights with
block scales; its expected.gguf comes from the same weights multiplied out with torch.
"""
import json
import logging
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

here = pathlib.Path(__file__).parent
checkout = pathlib.Path(sys.argv[-1])
sys.path[:0] = [str(checkout), str(checkout / "gguf-py")]
import convert_hf_to_gguf as converter  # noqa: E402

common = dict(vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
              num_attention_heads=4, max_position_embeddings=256, rms_norm_eps=1e-5)
moe = dict(n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=16,
           first_k_dense_replace=1, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
           v_head_dim=12, num_key_value_heads=4)
yarn = dict(type="yarn", factor=4, original_max_position_embeddings=64, beta_fast=32, beta_slow=1,
            mscale=0.707, mscale_all_dim=0.707)
llama3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)

models = {
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(
        **common, num_key_value_heads=2, tie_word_embeddings=True),
        dict(architectures=["LlamaForCausalLM"], rope_theta=500000.0, rope_scaling=llama3)),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(
        **common, num_key_value_heads=2), dict(architectures=["Qwen2ForCausalLM"], rope_theta=1e6)),
    "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config(
        **common, num_key_value_heads=2, head_dim=12),
        dict(architectures=["Qwen3ForCausalLM"], rope_theta=1e6)),
    "deepseek_v2": (transformers.DeepseekV2ForCausalLM, transformers.DeepseekV2Config(
        **common, **moe, q_lora_rank=None),
        dict(architectures=["DeepseekV2ForCausalLM"], rope_theta=10000.0, rope_scaling=yarn,
             scoring_func="softmax", topk_method="greedy", norm_topk_prob=False,
             routed_scaling_factor=1.0, n_group=1, topk_group=1)),
    "deepseek_v3": (transformers.DeepseekV3ForCausalLM, transformers.DeepseekV3Config(
        **common, **moe, q_lora_rank=20, n_group=2, topk_group=1),
        dict(architectures=["DeepseekV3ForCausalLM"], rope_theta=10000.0, rope_scaling=yarn,
             scoring_func="sigmoid", topk_method="noaux_tc", norm_topk_prob=True,
             routed_scaling_factor=2.5)),
}


def convert(folder, out):
    # The classes' own vocabulary steps want a tokenizer; the rest is what is compared.
    hparams = converter.Model.load_hparams(folder)
    cls = converter.Model.from_model_architecture(hparams["architectures"][0])
    patched = type(cls.__name__, (cls,), {"set_vocab": lambda self: None, "model_arch": cls.model_arch})
    model = patched(folder, converter.gguf.LlamaFileType.ALL_F32, out)
    if cls.__name__ == "LlamaModel":
        # At this commit the class reads two keys that belong to another model. Zero experts used is
        # the one key that then differs; the test passes over it.
        model.hparams = {**hparams, "num_experts_per_tok": 0,
                         "prefix_dense_intermediate_size": hparams["intermediate_size"]}
    model.write()


def config_json(folder, extra):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key in ("rope_parameters", "transformers_version", "dtype", "layer_types"):
        config.pop(key, None)
    if config["model_type"].startswith("deepseek"):
        config.pop("head_dim", None)  # transformers' own invention: DeepSeek's files have none
    config.update(extra)
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def make_deepseek():
    """DeepSeek-MoE-16B's architecture. transformers has no class for it, so the weights are named
    here as that repository names them."""
    import conversion
    conversion.load_all_models()

    torch.manual_seed(11)
    folder = here / "deepseek"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = dict(
        common, architectures=["DeepseekForCausalLM"], model_type="deepseek", hidden_act="silu",
        num_key_value_heads=2, rope_theta=10000.0, rope_scaling=None, attention_bias=False,
        n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=2, moe_intermediate_size=16,
        first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=False, scoring_func="softmax",
        tie_word_embeddings=False, torch_dtype="float32")
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    hidden, head = config["hidden_size"], config["hidden_size"] // config["num_attention_heads"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,),
              "lm_head.weight": (config["vocab_size"], hidden)}

    def feed_forward(prefix, size):
        shapes.update({prefix + "gate_proj.weight": (size, hidden), prefix + "up_proj.weight": (size, hidden),
                       prefix + "down_proj.weight": (hidden, size)})

    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        shapes.update({p + "input_layernorm.weight": (hidden,), p + "post_attention_layernorm.weight": (hidden,)})
        for part, heads in (("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")):
            shapes[p + f"self_attn.{part}_proj.weight"] = (config[heads] * head, hidden)
        shapes[p + "self_attn.o_proj.weight"] = (hidden, hidden)
        if layer < config["first_k_dense_replace"]:
            feed_forward(p + "mlp.", config["intermediate_size"])
            continue
        shapes[p + "mlp.gate.weight"] = (config["n_routed_experts"], hidden)
        for expert in range(config["n_routed_experts"]):
            feed_forward(p + f"mlp.experts.{expert}.", config["moe_intermediate_size"])
        feed_forward(p + "mlp.shared_experts.", config["moe_intermediate_size"] * config["n_shared_experts"])
    save_file({name: torch.randn(shape) * 0.3 for name, shape in shapes.items()},
              folder / "model.safetensors", metadata={"format": "pt"})

    cls = conversion.get_model_class("DeepseekForCausalLM")
    patched = type(cls.__name__, (cls,), {"set_vocab": lambda self: None, "model_arch": cls.model_arch})
    patched(folder, converter.gguf.LlamaFileType.ALL_F32, folder / "expected.gguf", hparams=config).write()


if "--deepseek" in sys.argv:
    logging.basicConfig(level=logging.WARNING)
    make_deepseek()
    sys.exit()

torch.manual_seed(7)
for name, (cls, config, extra) in models.items():
    folder = here / name
    shutil.rmtree(folder, ignore_errors=True)
    model = cls(config).float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config_json(folder, extra)
    if name == "deepseek_v3":
        tensors = load_file(folder / "model.safetensors")
        for key in tensors:
            if key.endswith("e_score_correction_bias"):
                tensors[key] = torch.randn_like(tensors[key])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    convert(folder, folder / "expected.gguf")
    print(name, sorted(load_file(folder / "model.safetensors"))[:3])

# Native FP8: one dense layer, wide enough for several 128 x 128 blocks, odd sizes at the edges.
folder = here / "deepseek_v3_fp8"
plain = here / "plain"
for path in (folder, plain):
    shutil.rmtree(path, ignore_errors=True)
config = transformers.DeepseekV3Config(**{**common, **moe, "num_hidden_layers": 1,
                                          "hidden_size": 136, "intermediate_size": 140},
                                       q_lora_rank=20, n_group=1, topk_group=1)
transformers.DeepseekV3ForCausalLM(config).to(torch.bfloat16).save_pretrained(plain)
extra = {**models["deepseek_v3"][2], "n_group": 1, "topk_group": 1}
config_json(plain, extra)
(plain / "generation_config.json").unlink(missing_ok=True)
shutil.copytree(plain, folder)
quantised, expanded = {}, {}
for key, value in load_file(plain / "model.safetensors").items():
    linear = value.ndim == 2 and "_proj" in key
    if not linear:
        quantised[key] = expanded[key] = value
        continue
    rows, columns = value.shape
    blocks = torch.rand((rows + 127) // 128, (columns + 127) // 128) * 0.01 + 0.001
    scale = blocks.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
    fp8 = (value.float() * 3 / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    quantised[key], quantised[key + "_scale_inv"] = fp8, blocks
    expanded[key] = fp8.float() * scale
save_file(quantised, folder / "model.safetensors", metadata={"format": "pt"})
save_file(expanded, plain / "model.safetensors", metadata={"format": "pt"})
config_json(folder, {**extra, "quantization_config": {
    "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}})
convert(plain, folder / "expected.gguf")
shutil.rmtree(plain)
