// How a model wants to be sampled, where nobody says otherwise.
#pragma once

#include <string>

#include "engine/sampler.h"
#include "formats/checkpoint.h"

namespace fathom {

struct SamplingDefaults {
  SamplingParams params;
  std::string source;  // where they come from, for people: "general.sampling.*"
};

/// From the file's own keys (GGUF's general.sampling.*, Hugging Face's generation_config.json);
/// else what the makers of a known family recommend; else temperature 0.7 and top-p 0.95. A value
/// out of its range is Error(Corrupt).
SamplingDefaults default_sampling(const Checkpoint& checkpoint);

}  // namespace fathom
