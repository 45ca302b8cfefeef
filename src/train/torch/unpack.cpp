#include "train/torch/unpack.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "config/model_config.h"
#include "engine/chat.h"
#include "engine/tokenizer_loader.h"
#include "tokenizer/tokenizer_json_writer.h"

namespace fathom::train {
namespace {

using Json = nlohmann::ordered_json;

Json config_of(const ModelConfig& c, const Checkpoint& checkpoint) {
  const char *type = nullptr, *name = nullptr;
  switch (c.architecture) {
    case Architecture::Llama:
      type = "llama";
      name = "LlamaForCausalLM";
      break;
    case Architecture::Qwen2:
      type = "qwen2";
      name = "Qwen2ForCausalLM";
      break;
    case Architecture::Qwen3:
      type = "qwen3";
      name = "Qwen3ForCausalLM";
      break;
    default:
      break;
  }
  const bool plain = c.rope.scaling == RopeScaling::None && c.rope.frequency_divisors.empty();
  require(type != nullptr && plain, ErrorCode::Unsupported,
          "{}: a {} {} cannot be unpacked yet (llama, qwen2 and qwen3 without can)",
          checkpoint.path().string(), c.architecture_name,
          plain ? "model" : "model with scaled positions");
  return {{"architectures", {name}},
          {"model_type", type},
          {"vocab_size", c.vocab_size},
          {"hidden_size", c.hidden_size},
          {"num_hidden_layers", c.num_hidden_layers},
          {"intermediate_size", c.intermediate_size},
          {"num_attention_heads", c.num_attention_heads},
          {"num_key_value_heads", c.num_key_value_heads},
          {"head_dim", c.head_dim},
          {"hidden_act", "silu"},
          {"attention_bias", c.qkv_bias && c.architecture != Architecture::Qwen2},
          {"mlp_bias", false},
          {"rms_norm_eps", c.rms_norm_eps},
          {"rope_theta", c.rope.theta},
          {"max_position_embeddings", c.max_position_embeddings},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"torch_dtype", "float32"}};
}

}  // namespace

ModelTexts texts_of_gguf(const Checkpoint& checkpoint) {
  TokenizerSpec spec = gguf_tokenizer(checkpoint);
  Json config = config_of(read_model_config(checkpoint), checkpoint);
  Json words{{"tokenizer_class", "PreTrainedTokenizerFast"},
             {"add_bos_token", spec.add_bos},
             {"add_eos_token", spec.add_eos}};
  const auto name = [&](const char* key, const std::optional<TokenId>& id) {
    if (!id) return;
    words[std::string(key) + "_token"] = spec.pieces.at(static_cast<std::size_t>(value(*id)));
    config[std::string(key) + "_token_id"] = value(*id);
  };
  name("bos", spec.bos);
  name("eos", spec.eos);
  name("pad", spec.pad);
  if (const auto chat = chat_template_source(checkpoint)) words["chat_template"] = *chat;
  spec.add_bos = spec.add_eos = false;  // said by tokenizer_config.json
  return {config.dump(2) + "\n", write_tokenizer_json(spec), words.dump(2) + "\n"};
}

}  // namespace fathom::train
