// The trainer's weights on the engine: for samples, and for rollouts.
#pragma once

#include <memory>
#include <string>

#include "formats/checkpoint.h"
#include "train/torch/torch_model.h"

namespace fathom::train {

/// A checkpoint in memory that sees the weights where they lie, experts and all; `config`:
/// config.json's text. It must not outlive the model, nor see it change. On a GPU, and for
/// stacked experts' halves, it holds copies.
std::shared_ptr<const Checkpoint> live_checkpoint(const TorchModel& model,
                                                  const std::string& config);

}  // namespace fathom::train
