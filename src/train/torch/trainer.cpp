#include "train/torch/trainer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

#include "base/error.h"

namespace fathom::train {
namespace {

/// The sum over all tokens that are asked for.
Tensor loss_sum(const Tensor& logits, const Tensor& targets) {
  return at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten().to(logits.device()), {},
                                at::Reduction::Sum, MicroBatch::kIgnore);
}

/// The sum over tokens asked for of KL(teacher || student), both at this temperature.
Tensor divergence_sum(const Tensor& student, const Tensor& teacher, const Tensor& targets,
                      double temperature) {
  const Tensor own = at::log_softmax(student / temperature, -1);
  const Tensor wanted = at::log_softmax(teacher / temperature, -1);
  const Tensor each = (wanted.exp() * (wanted - own)).sum(-1);
  return each.masked_fill(targets.to(each.device()) == MicroBatch::kIgnore, 0).sum();
}

Tensor tensor_of(std::span<const Row> rows, std::vector<std::int64_t> Row::* of, std::size_t from,
                 std::size_t count) {
  const auto size = static_cast<std::int64_t>(count);
  Tensor all = at::empty({static_cast<std::int64_t>(rows.size()), size}, at::kLong);
  auto* to = all.data_ptr<std::int64_t>();
  for (const Row& row : rows) {
    const auto begin = (row.*of).begin() + static_cast<std::ptrdiff_t>(from);
    to = std::copy_n(begin, count, to);
  }
  return all;
}

}  // namespace

MicroBatch micro_batch(std::span<const Row> rows, std::size_t row_tokens, bool separate, bool mtp) {
  MicroBatch batch;
  const auto part = [&](std::vector<std::int64_t> Row::* of, std::size_t from) {
    require(rows.front().tokens.size() >= from + row_tokens, ErrorCode::Internal,
            "rows have too few tokens ahead");
    return tensor_of(rows, of, from, row_tokens);
  };
  batch.rows.tokens = part(&Row::tokens, 0);
  batch.targets = part(&Row::tokens, 1);
  const auto only_asked = [&](Tensor& targets, std::size_t ahead) {
    if (rows.front().asked.empty()) return;
    auto* target = targets.data_ptr<std::int64_t>();
    for (const Row& row : rows) {
      for (std::size_t t = 0; t < row_tokens; ++t, ++target) {
        if (row.asked[t + ahead] == 0) *target = MicroBatch::kIgnore;
      }
    }
  };
  if (mtp) {
    batch.next = batch.targets.clone();
    batch.further = part(&Row::tokens, 2);
    only_asked(batch.further, 2);
  }
  only_asked(batch.targets, 1);
  if (!separate) return batch;
  batch.rows.positions = part(&Row::positions, 0);
  batch.rows.documents = part(&Row::documents, 0);
  const auto only_own = [&](Tensor& targets, std::size_t ahead) {
    targets.masked_fill_(part(&Row::documents, ahead) != batch.rows.documents, MicroBatch::kIgnore);
  };
  only_own(batch.targets, 1);
  if (mtp) only_own(batch.further, 2);
  // One document a row needs no mask of its own.
  if ((batch.rows.documents == batch.rows.documents.narrow(1, 0, 1)).all().item<bool>()) {
    batch.rows.documents = Tensor();
  }
  return batch;
}

StepReport Trainer::step(std::span<const MicroBatch> batch, double rate) {
  StepReport report;
  std::array<double, 4> totals{};
  auto& [tokens, asked, further_asked, rows] = totals;
  for (const MicroBatch& micro : batch) {
    if (micro.idle) continue;
    tokens += static_cast<double>(micro.rows.tokens.numel());
    asked += static_cast<double>(micro.asked());
    rows += static_cast<double>(micro.rows.tokens.size(0));
    if (micro.further.defined()) {
      further_asked += (micro.further != MicroBatch::kIgnore).sum().item<double>();
    }
  }
  ranks_.sum(totals);
  report.tokens = std::llround(tokens);
  report.asked = std::llround(asked);
  require(report.asked > 0, ErrorCode::InvalidArgument, "a batch asks for no token at all");

  optimizer_.zero_gradients();
  std::vector<Tensor> loads;
  for (const MicroBatch& micro : batch) {
    const double counts = micro.idle ? 0 : 1;
    Hidden hidden = model_.forward(micro.rows);
    const Tensor logits = model_.logits(hidden.states);
    const Tensor main = loss_sum(logits, micro.targets) * (counts / asked);
    Tensor total = main;
    report.loss += main.item<double>();
    if (const auto& teacher = options_.teacher) {
      Tensor theirs;
      {
        const at::NoGradGuard no_gradient;
        theirs = teacher->model->logits(teacher->model->forward(micro.rows).states);
      }
      const Tensor divergence = divergence_sum(logits.narrow(-1, 0, teacher->vocabulary),
                                               theirs.narrow(-1, 0, teacher->vocabulary),
                                               micro.targets, teacher->temperature) *
                                (counts / asked);
      report.divergence += divergence.item<double>();
      // T^2 keeps the gradient's size what it is at temperature 1 (section 2).
      const double square = teacher->temperature * teacher->temperature;
      total = (1 - teacher->weight) * main + teacher->weight * square * divergence;
    }
    if (micro.further.defined() && further_asked > 0) {
      const Hidden more = model_.predict_further(hidden, micro.rows, micro.next);
      const Tensor further =
          loss_sum(model_.logits(more.states), micro.further) * (counts / further_asked);
      report.further += further.item<double>();
      total = total + options_.mtp_weight * further;
      hidden.routers.insert(hidden.routers.end(), more.routers.begin(), more.routers.end());
    }
    const double share = counts * static_cast<double>(micro.rows.tokens.size(0)) / rows;
    loads.resize(hidden.routers.size());
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const RouterChoice& choice = hidden.routers[i];
      report.balance += choice.balance.item<double>() * share / static_cast<double>(loads.size());
      total = total + options_.balance_alpha * share * choice.balance;
      const Tensor load = choice.load * counts;
      loads[i] = loads[i].defined() ? loads[i] + load : load;
    }
    total.backward();
  }

  std::array<double, 4> sums{report.loss, report.divergence, report.further, report.balance};
  ranks_.sum(sums);
  std::tie(report.loss, report.divergence, report.further, report.balance) =
      std::tie(sums[0], sums[1], sums[2], sums[3]);
  if (!ranks_.alone() && !loads.empty()) {
    Tensor all = at::stack(loads);
    ranks_.sum(all);
    loads = all.unbind();
  }
  optimizer_.reduce_gradients();
  report.gradient_norm = optimizer_.gradient_norm();
  report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.gradient_norm);
  if (report.skipped) return report;
  double scale = 1;
  if (options_.clip > 0 && report.gradient_norm > options_.clip) {
    scale = options_.clip / report.gradient_norm;
    report.clipped = true;
  }
  optimizer_.step(rate, scale);

  // Biases and loads are in the same order: that of the layers. Beside adapters they stay, as all
  // of the model's own weights do: a checkpoint keeps the adapters alone.
  std::size_t layer = 0;
  for (TorchModel::Parameter& parameter : model_.parameters()) {
    if (!parameter.name.ends_with("e_score_correction_bias")) continue;
    if (options_.bias_speed > 0 && model_.lora().rank == 0 && layer < loads.size()) {
      update_router_bias(parameter.value, loads[layer], options_.bias_speed);
    }
    ++layer;
  }
  for (const Tensor& load : loads) {
    report.largest_load = std::max(report.largest_load, (load.max() / load.mean()).item<double>());
  }
  return report;
}

double Trainer::evaluate(std::span<const MicroBatch> batch) {
  const at::NoGradGuard no_gradient;
  std::array<double, 2> sums{};
  // Each rank goes along as often as the others, as experts that are spread want.
  const auto size = static_cast<std::size_t>(ranks_.size());
  for (std::size_t at = 0; at < batch.size(); at += size) {
    const std::size_t own = at + static_cast<std::size_t>(ranks_.rank());
    const MicroBatch& micro = batch[std::min(own, batch.size() - 1)];
    const Tensor loss = loss_sum(model_.logits(model_.forward(micro.rows).states), micro.targets);
    if (own >= batch.size()) continue;
    sums[0] += loss.item<double>();
    sums[1] += static_cast<double>(micro.asked());
  }
  ranks_.sum(sums);
  return sums[0] / std::max(sums[1], 1.0);
}

}  // namespace fathom::train
