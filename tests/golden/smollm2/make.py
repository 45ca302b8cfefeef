#!/usr/bin/env python3
"""SmolLM2-135M-Instruct's greedy answers, as Hugging Face transformers computes them in F32.

The weights are those of the Q4_1 GGUF file, dequantised with the gguf package, so that a forward pass
with exact weights and F32 activations must give the same answers. 20 chat prompts, rendered with the
file's own chat template by jinja2, are each continued by 200 tokens; generation does NOT stop at the
end-of-turn token, so that every answer has its 200. Written to greedy.json:

    prompts[i].messages   what was said
    prompts[i].prompt     token ids of the rendered template, generation prompt included
    prompts[i].answer     200 token ids
    prompts[i].margin     per step: best minus second-best logit (a mismatch where it is tiny is a tie)

    python make.py PATH/SmolLM2-135M-Instruct.Q4_1.gguf
"""

import hashlib
import json
import sys
from pathlib import Path

import gguf
import jinja2
import numpy as np
import tokenizers
import torch
import transformers

HERE = Path(__file__).parent
ANSWER_TOKENS = 200

PROMPTS = [
    "What is the capital of France?",
    "Explain in simple terms why the sky is blue.",
    "Write a short poem about the sea in autumn.",
    "List five uses for an old newspaper.",
    "What is 17 times 23? Show your steps.",
    "Write a Python function that reverses a linked list.",
    "Summarise the story of Romeo and Juliet in three sentences.",
    "Translate 'Good morning, how are you?' into Spanish, French and German.",
    "How do I make pancakes without eggs?",
    "Give me three reasons to learn the C++ language.",
    "Tell me a joke about a cat and a computer.",
    "What is the difference between a virus and a bacterium?",
    "Who was Ada Lovelace?",
    "Plan a weekend trip to the mountains for a family of four.",
    "Convert 100 degrees Fahrenheit to Celsius.",
    "Describe how photosynthesis works, step by step.",
    "Naïve café déjà vu: what do these words have in common? 🤔",
]
CHATS = [[{"role": "user", "content": text}] for text in PROMPTS] + [
    [{"role": "system", "content": "You are a pirate. Answer like one."},
     {"role": "user", "content": "Where should I bury my treasure?"}],
    [{"role": "user", "content": "My name is Mira and I keep bees."},
     {"role": "assistant", "content": "Hello Mira! Keeping bees sounds wonderful. How many hives do you have?"},
     {"role": "user", "content": "Seven. What is my name and what do I keep?"}],
    [{"role": "system", "content": "You answer with one word."},
     {"role": "user", "content": "What colour is snow?"}],
]


def unpermute(weight, heads):
    """GGUF stores llama's q and k with neighbouring pairs; transformers rotates halves."""
    out = weight.shape[0]
    return weight.reshape(heads, out // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def load_model(reader, field):
    config = transformers.LlamaConfig(
        vocab_size=field("llama.vocab_size"), hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"), rope_theta=field("llama.rope.freq_base"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
    )
    assert config.rope_parameters["rope_theta"] == field("llama.rope.freq_base"), config.rope_parameters
    config._attn_implementation = "eager"
    blocks = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
              "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
              "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
              "ffn_down": "mlp.down_proj"}
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    state = {}
    for tensor in reader.tensors:
        data = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = names.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{blocks[part]}.weight"
            if part == "attn_q":
                data = unpermute(data, config.num_attention_heads)
            if part == "attn_k":
                data = unpermute(data, config.num_key_value_heads)
        state[name] = torch.from_numpy(np.ascontiguousarray(data))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.LlamaForCausalLM(config).float()
    model.load_state_dict(state, strict=True)
    return model.eval()


def load_tokenizer(field):
    """Byte-level BPE with SmolLM's pre-tokenizer: single digits, then GPT-2's pattern."""
    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, field("tokenizer.ggml.token_type")) if kind == 3]
    tokenizer.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in control])
    return tokenizer


def main():
    path = Path(sys.argv[1])
    reader = gguf.GGUFReader(path)

    def field(name):
        return reader.fields[name].contents()

    model, tokenizer = load_model(reader, field), load_tokenizer(field)
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(field("tokenizer.chat_template"))
    prompts = [tokenizer.encode(template.render(messages=chat, add_generation_prompt=True),
                                add_special_tokens=False).ids for chat in CHATS]

    # All prompts at once, padded on the left; padding is masked, and positions count real tokens only.
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, answers, margins = None, [[] for _ in prompts], [[] for _ in prompts]
    with torch.no_grad():
        for _ in range(ANSWER_TOKENS):
            out = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                        logits_to_keep=1)
            cache = out.past_key_values
            top = out.logits[:, -1].topk(2)
            for i in range(len(prompts)):
                answers[i].append(top.indices[i, 0].item())
                margins[i].append(float(f"{(top.values[i, 0] - top.values[i, 1]).item():.4g}"))
            ids = top.indices[:, :1]
            mask = torch.cat([mask, torch.ones_like(ids)], -1)
            positions = positions[:, -1:] + 1
    results = []
    for chat, prompt, answer, margin in zip(CHATS, prompts, answers, margins):
        results.append(dict(messages=chat, prompt=prompt, answer=answer, margin=margin))
        print(f"{min(margin):9.2g} smallest margin |", repr(tokenizer.decode(answer)[:90]))
    header = dict(
        model=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        torch=torch.__version__, transformers=transformers.__version__, gguf="0.19.0",
        tokenizers=tokenizers.__version__)
    lines = ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in results)
    (HERE / "greedy.json").write_text(
        json.dumps(header)[:-1] + ',\n"prompts":[\n' + lines + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
