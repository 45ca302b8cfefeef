// A GGUF file as a folder that can be trained.
#pragma once

#include "formats/checkpoint.h"
#include "train/torch/model_folder.h"

namespace fathom::train {

/// config.json, tokenizer.json and tokenizer_config.json, as Hugging Face would have them, of what
/// the file says. Throws Error(Unsupported) for what is not written yet: other architectures than
/// llama, qwen2 and qwen3, scaled positions, vocabularies that are no byte-level BPE.
ModelTexts texts_of_gguf(const Checkpoint& checkpoint);

}  // namespace fathom::train
