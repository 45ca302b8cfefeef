#include "cli/bench_cost.h"

#include <algorithm>
#include <optional>
#include <string>

#include "formats/gguf_names.h"

namespace fathom {

ModelWork model_work(const Checkpoint& checkpoint, const ModelConfig& config, DType kv_dtype) {
  ModelWork work;
  work.expert.resize(static_cast<std::size_t>(config.num_hidden_layers));
  const auto experts = static_cast<double>(std::max<std::int64_t>(config.moe.n_routed_experts, 1));
  work.experts_per_token = static_cast<double>(config.moe.num_experts_per_tok);
  const DTypeInfo& kv = info(kv_dtype);
  work.kv_bytes = static_cast<double>(config.kv_width() * config.num_hidden_layers) *
                  static_cast<double>(kv.block_bytes) / static_cast<double>(kv.block_elements);
  for (const std::string& name : checkpoint.names()) {
    const std::optional<std::uint32_t> layer = layer_of_tensor(name);
    if (layer && *layer >= work.expert.size()) continue;  // multi-token prediction, not run
    const TensorView tensor = checkpoint.tensor(name);
    const MatrixWork all{2 * static_cast<double>(tensor.shape.elements()),
                         static_cast<double>(tensor.data.size())};
    const auto add = [](MatrixWork& to, const MatrixWork& more, double share) {
      to.operations += more.operations * share;
      to.bytes += more.bytes * share;
    };
    if (name == "model.embed_tokens.weight") {
      // A look-up, unless the same matrix makes the logits too.
      if (config.tie_word_embeddings) add(work.head, all, 1);
    } else if (name == "lm_head.weight") {
      add(work.head, all, 1);
    } else if (layer && name.find(".mlp.experts.") != std::string::npos) {
      add(work.expert[*layer], all, 1 / experts);
    } else {
      add(work.body, all, 1);
    }
  }
  return work;
}

MatrixWork ModelWork::token() const {
  MatrixWork sum{body.operations + head.operations, body.bytes + head.bytes};
  for (const MatrixWork& one : expert) {
    sum.operations += experts_per_token * one.operations;
    sum.bytes += experts_per_token * one.bytes;
  }
  return sum;
}

void WorkCounter::pass(const Batch& batch, std::size_t cached) {
  const auto tokens = static_cast<double>(batch.size());
  const auto wanted = static_cast<double>(std::count_if(
      batch.wants_logits.begin(), batch.wants_logits.end(), [](auto w) { return w; }));
  operations_ += tokens * model_.body.operations + wanted * model_.head.operations;
  bytes_ += model_.body.bytes + (wanted > 0 ? model_.head.bytes : 0) +
            static_cast<double>(cached) * model_.kv_bytes;
}

void WorkCounter::routing(std::int64_t layer, std::span<const std::int32_t> ids,
                          std::span<const float> /*weights*/) {
  const MatrixWork& expert = model_.expert.at(static_cast<std::size_t>(layer));
  std::size_t touched = 0;
  seen_.clear();
  for (const std::int32_t id : ids) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= seen_.size()) seen_.resize(at + 1);
    if (!seen_[at]) ++touched;
    seen_[at] = true;
  }
  operations_ += static_cast<double>(ids.size()) * expert.operations;
  bytes_ += static_cast<double>(touched) * expert.bytes;
}

LeastTime least_time(const WorkCounter& work, const cpu::MachineLimits& limits,
                     ActivationPrecision precision) {
  const double rate =
      precision == ActivationPrecision::F32 ? limits.f32_flop_per_s : limits.best_int8_op_per_s();
  // Fine multiplies every weight twice.
  const double passes = precision == ActivationPrecision::Fine ? 2 : 1;
  return {work.bytes() / limits.read_bytes_per_s, passes * work.operations() / rate};
}

}  // namespace fathom
