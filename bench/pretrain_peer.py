"""The same model as `fathom train pretrain`, in Python and PyTorch as one would write it: for bench/train_compare.

Latent attention, shared and routed experts (a loop over experts, as in DeepSeek's own inference code), multi-token
prediction, AdamW (fused). Prints tokens a second of a training step, the best of several.
"""
import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional as F


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), 1e-6)


def rotate(x, cos, sin):
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, heads = c, c["num_attention_heads"]
        d, nope, rope, v = c["hidden_size"], c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        self.q = nn.Linear(d, heads * (nope + rope), bias=False)
        self.kv_a = nn.Linear(d, c["kv_lora_rank"] + rope, bias=False)
        self.kv_norm = Norm(c["kv_lora_rank"])
        self.kv_b = nn.Linear(c["kv_lora_rank"], heads * (nope + v), bias=False)
        self.o = nn.Linear(heads * v, d, bias=False)

    def forward(self, x, cos, sin):
        c, heads = self.c, self.c["num_attention_heads"]
        nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        q = self.q(x).unflatten(-1, (heads, nope + rope))
        q = torch.cat((q[..., :nope], rotate(q[..., nope:], cos, sin)), -1)
        kv = self.kv_a(x)
        k_rope = rotate(kv[..., None, c["kv_lora_rank"]:], cos, sin).expand(-1, -1, heads, -1)
        kv = self.kv_b(self.kv_norm(kv[..., :c["kv_lora_rank"]])).unflatten(-1, (heads, nope + v))
        k = torch.cat((kv[..., :nope], k_rope), -1)
        value = F.pad(kv[..., nope:], (0, nope + rope - v))
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2), is_causal=True)
        return self.o(out[..., :v].transpose(1, 2).flatten(2))


class Ffn(nn.Module):
    def __init__(self, d, size):
        super().__init__()
        self.gate, self.up = nn.Linear(d, size, bias=False), nn.Linear(d, size, bias=False)
        self.down = nn.Linear(size, d, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Moe(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, size = c["hidden_size"], c["moe_intermediate_size"]
        self.k, self.n = c["num_experts_per_tok"], c["n_routed_experts"]
        self.gate = nn.Linear(d, self.n, bias=False)
        self.register_buffer("bias", torch.zeros(self.n))
        self.experts = nn.ModuleList(Ffn(d, size) for _ in range(self.n))
        self.shared = Ffn(d, size * c["n_shared_experts"])

    def forward(self, x):
        flat = x.flatten(0, 1)
        scores = F.linear(flat.float(), self.gate.weight.float()).sigmoid()
        ids = (scores + self.bias).topk(self.k, -1).indices
        weights = scores.gather(1, ids)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        self.load = torch.bincount(ids.flatten(), minlength=self.n)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            token, place = torch.where(ids == e)
            if len(token):
                out.index_add_(0, token, expert(flat[token]) * weights[token, place, None])
        return out.view_as(x) + self.shared(x)


class Block(nn.Module):
    def __init__(self, c, routed):
        super().__init__()
        self.n1, self.n2 = Norm(c["hidden_size"]), Norm(c["hidden_size"])
        self.attention = Attention(c)
        self.ffn = Moe(c) if routed else Ffn(c["hidden_size"], c["intermediate_size"])

    def forward(self, x, cos, sin):
        x = x + self.attention(self.n1(x), cos, sin)
        return x + self.ffn(self.n2(x))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c["hidden_size"]
        self.embed = nn.Embedding(c["vocab_size"], d)
        self.blocks = nn.ModuleList(Block(c, i >= c["first_k_dense_replace"]) for i in range(c["num_hidden_layers"]))
        self.norm, self.enorm, self.hnorm, self.mtp_norm = Norm(d), Norm(d), Norm(d), Norm(d)
        self.eh = nn.Linear(2 * d, d, bias=False)
        self.mtp = Block(c, True)
        rope = c["qk_rope_head_dim"]
        angles = torch.outer(torch.arange(c["max_position_embeddings"]), 10000.0 ** (-torch.arange(0, rope, 2) / rope))
        self.register_buffer("cos", angles.cos()[None, :, None])
        self.register_buffer("sin", angles.sin()[None, :, None])

    def forward(self, tokens):
        x, length = self.embed(tokens[:, :-2]), tokens.shape[1] - 2
        cos, sin = self.cos[:, :length], self.sin[:, :length]
        for block in self.blocks:
            x = block(x, cos, sin)
        x = self.norm(x)
        head = self.embed.weight
        main = F.cross_entropy(F.linear(x, head.to(x.dtype)).flatten(0, 1).float(), tokens[:, 1:-1].flatten())
        y = self.eh(torch.cat((self.enorm(self.embed(tokens[:, 1:-1])), self.hnorm(x)), -1))
        y = self.mtp_norm(self.mtp(y, cos, sin))
        further = F.cross_entropy(F.linear(y, head.to(y.dtype)).flatten(0, 1).float(), tokens[:, 2:].flatten())
        return main + 0.3 * further


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--row-tokens", type=int, default=128)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    with open(options.config) as file:
        config = json.load(file)
    torch.manual_seed(1)
    model = Model(config).to(options.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    best = 0
    for _ in range(options.steps):
        tokens = torch.randint(0, 256, (options.rows, options.row_tokens + 2), device=options.device)
        start = time.perf_counter()
        with torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for block in (*model.blocks, model.mtp):
                if isinstance(block.ffn, Moe):
                    load = block.ffn.load.float()
                    block.ffn.bias += 0.001 * torch.sign(load.mean() - load)
        if options.device != "cpu":
            torch.cuda.synchronize()
        best = max(best, options.rows * options.row_tokens / (time.perf_counter() - start))
    print(json.dumps({"tokens_per_s": best, "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    main()
