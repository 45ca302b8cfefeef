#include "engine/step_observer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace fathom {
namespace {

constexpr std::size_t kLongBatch = 64;

}  // namespace

std::size_t choices_per_token(const ModelConfig& config) {
  std::size_t layers = 0;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    layers += config.is_moe_layer(layer) ? 1 : 0;
  }
  return layers * static_cast<std::size_t>(config.moe.num_experts_per_tok);
}

StepObserver::StepObserver(std::vector<Part> parts, std::size_t choices)
    : parts_(std::move(parts)), choices_(choices) {
  for (const Part& part : parts_) tokens_ += part.count;
}

bool StepObserver::wanted() const {
  return tokens_ >= kLongBatch ||
         std::ranges::any_of(parts_, [](const Part& part) { return part.routing != nullptr; });
}

void StepObserver::hidden_states(std::int64_t, std::span<const float>) {
  const bool awaited =
      std::ranges::any_of(parts_, [](const Part& part) { return !part.cancelled->load(); });
  if (!awaited) throw Error(ErrorCode::Cancelled, "cancelled");
}

void StepObserver::routing(std::int64_t, std::span<const std::int32_t> ids,
                           std::span<const float>) {
  const std::size_t per_layer = ids.size() / tokens_;
  require(ids.size() == per_layer * tokens_ && done_ + per_layer <= choices_, ErrorCode::Internal,
          "the router chose {} experts for {} tokens", ids.size(), tokens_);
  std::size_t token = 0;
  for (const Part& part : parts_) {
    for (std::size_t i = 0; i < part.count && part.routing != nullptr; ++i) {
      std::ranges::copy(ids.subspan((token + i) * per_layer, per_layer),
                        part.routing + i * choices_ + done_);
    }
    token += part.count;
  }
  done_ += per_layer;
}

}  // namespace fathom
