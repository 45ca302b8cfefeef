// What the scheduler watches of a forward pass: whether anybody still waits for it, and which
// experts its tokens go to.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "config/model_config.h"
#include "model/observer.h"

namespace fathom {

/// Experts that a model chooses for one token in all its routed layers; 0 if it has none.
std::size_t choices_per_token(const ModelConfig& config);

class StepObserver final : public Observer {
 public:
  /// A request's neighbouring tokens in the batch.
  struct Part {
    const std::atomic<bool>* cancelled;
    std::size_t count;
    /// Where its tokens' experts go, [tokens, routed layers, num_experts_per_tok]; or null.
    std::int32_t* routing;
  };
  /// `parts`: all of the batch, in its order. `choices`: choices_per_token().
  StepObserver(std::vector<Part> parts, std::size_t choices);

  /// Whether the pass is worth watching: small ones are over soon, and are not worth the look at
  /// the hidden states unless somebody wants their experts.
  bool wanted() const;

  /// Throws Error(Cancelled) when nobody waits any more: a prompt's step may take long, and Ctrl-C
  /// should not.
  void hidden_states(std::int64_t layer, std::span<const float> states) override;
  void routing(std::int64_t layer, std::span<const std::int32_t> ids,
               std::span<const float> weights) override;

 private:
  std::vector<Part> parts_;
  std::size_t choices_, tokens_ = 0, done_ = 0;  // choices of a token that are written
};

}  // namespace fathom
