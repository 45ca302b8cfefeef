// Optional hooks into a forward pass, for audit, training (router replay) and debugging.
#pragma once

#include <cstdint>
#include <span>

namespace fathom {

/// Called from the thread that runs forward(), layer by layer; spans live for the call only. An
/// absent observer costs nothing.
class Observer {
 public:
  virtual ~Observer() = default;
  /// The residual stream after layer `layer` (-1: the embeddings; num_hidden_layers: after the
  /// final norm). [tokens, hidden_size]
  virtual void hidden_states(std::int64_t /*layer*/, std::span<const float> /*states*/) {}
  /// The router's choice at a MoE layer. ids, weights: [tokens, num_experts_per_tok]
  virtual void routing(std::int64_t /*layer*/, std::span<const std::int32_t> /*ids*/,
                       std::span<const float> /*weights*/) {}
};

}  // namespace fathom
