// The tokenizer of a model file.
//
// Owns what model files say about vocabularies: GGUF's tokenizer.ggml.* keys, and which files of a
// Hugging Face folder to read. The rules of tokenization are tokenizer/'s.
#pragma once

#include "config/model_config.h"
#include "formats/checkpoint.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

/// GGUF: from its metadata. A Hugging Face folder (or a .safetensors file in one): from
/// tokenizer.json and tokenizer_config.json beside the weights, and the end-of-generation tokens of
/// generation_config.json and config.json. Nothing refers to the checkpoint afterwards.
///
/// Throws Error(NotFound) when there is no vocabulary, Error(Unsupported) naming a tokenizer that
/// Fathom does not implement (an unknown tokenizer.ggml.pre above all), Error(Corrupt |
/// ResourceLimit).
Tokenizer load_tokenizer(const Checkpoint& checkpoint);
/// What it is made of, of a GGUF file. Throws as load_tokenizer() does.
TokenizerSpec gguf_tokenizer(const Checkpoint& checkpoint);

/// How many of the model's logits are tokens: an embedding may have more rows than its vocabulary
/// has pieces, never fewer. Throws Error(Corrupt) when the two do not belong together.
std::size_t usable_vocabulary(const ModelConfig& config, const Tokenizer& tokenizer);

}  // namespace fathom
