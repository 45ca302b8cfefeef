#!/usr/bin/env python3
"""Gradients of the tiny checkpoints of ../models, as PyTorch's autograd has them.

The loss is the mean cross-entropy of each next token of tokens.json. For every case
<case>.safetensors holds `loss` and the gradient of each tensor under its checkpoint's name. The
oracle is the one of ../models/make.py (float64, eager attention; norms and routers in float32 by
transformers' own code).

mtp.safetensors: deepseek3 with a block of multi-token prediction, which transformers leaves out. It
is put together here from transformers' own decoder layer and norms by arXiv 2412.19437, 2.2, with
the tensors' names and their order in eh_proj as in DeepSeek-V3's repository (word, then state, which
is the main model's after its last norm). The file holds its weights ("weight." + name), the loss
main + 0.3 * further, and the gradients ("gradient." + name).

    python make.py            # needs torch, transformers, safetensors; see README.md
"""

import copy
import json
import math
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "models"))
import make as models  # noqa: E402

F = torch.nn.functional


def load(case, config):
    folder = HERE.parent / "models" / case
    if config["model_type"] != "deepseek":
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager")
    weights = load_file(folder / "model.safetensors")
    llama = transformers.LlamaConfig(**{k: v for k, v in config.items()
                                        if k not in ("architectures", "model_type", "rope_scaling")})
    llama._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(llama).double()
    model.load_state_dict(weights, strict=False)
    for i in range(config["num_hidden_layers"]):
        if models.is_moe_layer(config, i):
            moe = models.DeepSeekMoE(config, weights, f"model.layers.{i}.mlp.")
            for weight in moe.weights.values():
                weight.requires_grad_()
            model.model.layers[i].mlp = moe
    return model


def gradients(model):
    """By the checkpoint's names: stacked experts one by one."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if name.endswith("experts.gate_up_proj"):
            for e, both in enumerate(parameter.grad):
                gate, up = both.chunk(2, 0)
                prefix = name.removesuffix("gate_up_proj")
                found[f"{prefix}{e}.gate_proj.weight"] = gate
                found[f"{prefix}{e}.up_proj.weight"] = up
        elif name.endswith("experts.down_proj"):
            for e, down in enumerate(parameter.grad):
                found[f"{name.removesuffix('down_proj')}{e}.down_proj.weight"] = down
        else:
            found[name] = parameter.grad
    for i, layer in enumerate(model.model.layers):
        if isinstance(layer.mlp, models.DeepSeekMoE):
            for name, weight in layer.mlp.weights.items():
                found[f"model.layers.{i}.mlp.{name}"] = weight.grad if weight.grad is not None else torch.zeros_like(weight)
    return found


def as_f32(tensors):
    return {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}


def next_token_loss(logits, tokens):
    return F.cross_entropy(logits[:-1], tokens[1:])


def make_case(case, config):
    model = load(case, config)
    tokens = torch.tensor(json.loads((HERE.parent / "models" / case / "tokens.json").read_text())["tokens"])
    loss = next_token_loss(model(tokens[None]).logits[0], tokens)
    loss.backward()
    found = gradients(model)
    if config["tie_word_embeddings"]:
        found.pop("lm_head.weight", None)
    save_file(as_f32(found | {"loss": loss.reshape(1)}), HERE / f"{case}.safetensors")
    print(f"{case:20} loss {loss.item():.4f}, {len(found)} gradients")


def make_mtp(config):
    model = load("deepseek3", config)
    tokens = torch.tensor(json.loads((HERE.parent / "models" / "deepseek3" / "tokens.json").read_text())["tokens"])
    torch.manual_seed(3)
    c, last = model.config, model.config.num_hidden_layers - 1
    block = copy.deepcopy(model.model.layers[last])
    mtp = torch.nn.ModuleDict(dict(
        enorm=v3.DeepseekV3RMSNorm(c.hidden_size, c.rms_norm_eps),
        hnorm=v3.DeepseekV3RMSNorm(c.hidden_size, c.rms_norm_eps),
        eh_proj=torch.nn.Linear(2 * c.hidden_size, c.hidden_size, bias=False),
        norm=v3.DeepseekV3RMSNorm(c.hidden_size, c.rms_norm_eps), block=block)).double()
    with torch.no_grad():
        for name, p in mtp.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5)
            else:
                p.normal_(0, 1.2 / math.sqrt(p.shape[-1]))
            p.copy_(p.float().double())

    out = model.model(tokens[None])
    state = out.last_hidden_state
    main = next_token_loss(model.lm_head(state)[0], tokens)
    # Position i sees the state at i and the word at i + 1, and predicts the word at i + 2.
    length = len(tokens) - 1
    word = model.model.embed_tokens(tokens[None, 1:])
    x = mtp.eh_proj(torch.cat([mtp.enorm(word), mtp.hnorm(state[:, :length])], -1))
    positions = torch.arange(length)[None]
    mask = torch.full((length, length), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    x = block(x, attention_mask=mask, position_ids=positions,
              position_embeddings=model.model.rotary_emb(x, positions))
    x = x[0] if isinstance(x, tuple) else x
    further = F.cross_entropy(model.lm_head(mtp.norm(x))[0, :-1], tokens[2:])
    loss = main + 0.3 * further
    loss.backward()

    prefix = f"model.layers.{c.num_hidden_layers}."
    wrapped = torch.nn.Module()
    wrapped.model = torch.nn.Module()
    wrapped.model.layers = torch.nn.ModuleList([block])
    found = {f"gradient.{n}": g for n, g in gradients(model).items()}
    weights = {}

    def put(name, value, gradient):
        weights["weight." + prefix + name] = value
        found["gradient." + prefix + name] = gradient

    for name in ("enorm", "hnorm", "eh_proj"):
        put(f"{name}.weight", mtp[name].weight, mtp[name].weight.grad)
    put("shared_head.norm.weight", mtp.norm.weight, mtp.norm.weight.grad)
    for name, gradient in gradients(wrapped).items():
        found["gradient." + prefix + name.removeprefix("model.layers.0.")] = gradient
    with torch.no_grad():
        for p in block.parameters():
            p.grad = p.detach().clone()
    for name, value in gradients(wrapped).items():
        weights["weight." + prefix + name.removeprefix("model.layers.0.")] = value
    bias = block.mlp.gate.e_score_correction_bias
    weights["weight." + prefix + "mlp.gate.e_score_correction_bias"] = bias
    save_file(as_f32(found | weights | {"loss": loss.reshape(1), "further": further.reshape(1)}),
              HERE / "mtp.safetensors")
    print(f"mtp                  loss {loss.item():.4f}, further {further.item():.4f}")


def main():
    only = sys.argv[1:]
    for case, config in models.CASES.items():
        if not only or case in only:
            make_case(case, config)
    if not only or "mtp" in only:
        make_mtp(models.CASES["deepseek3"])
    print("torch", torch.__version__, "transformers", transformers.__version__)


if __name__ == "__main__":
    main()
