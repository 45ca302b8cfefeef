#include "train/torch/trainer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fathom::train {
namespace {

/// The sum over all tokens that are asked for.
Tensor loss_sum(const Tensor& logits, const Tensor& targets) {
  return at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten(), {}, at::Reduction::Sum,
                                MicroBatch::kIgnore);
}

/// The sum over tokens asked for of KL(teacher || student), both at this temperature.
Tensor divergence_sum(const Tensor& student, const Tensor& teacher, const Tensor& targets,
                      double temperature) {
  const Tensor own = at::log_softmax(student / temperature, -1);
  const Tensor wanted = at::log_softmax(teacher / temperature, -1);
  const Tensor each = (wanted.exp() * (wanted - own)).sum(-1);
  return each.masked_fill(targets == MicroBatch::kIgnore, 0).sum();
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
  double further_asked = 0, rows = 0;
  for (const MicroBatch& micro : batch) {
    report.tokens += micro.rows.tokens.numel();
    report.asked += micro.asked();
    rows += static_cast<double>(micro.rows.tokens.size(0));
    if (micro.further.defined()) {
      further_asked += (micro.further != MicroBatch::kIgnore).sum().item<double>();
    }
  }
  require(report.asked > 0, ErrorCode::InvalidArgument, "a batch asks for no token at all");
  const double asked = static_cast<double>(report.asked);

  optimizer_.zero_gradients();
  std::vector<Tensor> loads;
  for (const MicroBatch& micro : batch) {
    Hidden hidden = model_.forward(micro.rows);
    const Tensor logits = model_.logits(hidden.states);
    const Tensor main = loss_sum(logits, micro.targets) / asked;
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
                                               micro.targets, teacher->temperature) /
                                asked;
      report.divergence += divergence.item<double>();
      // T^2 keeps the gradient's size what it is at temperature 1 (section 2).
      const double square = teacher->temperature * teacher->temperature;
      total = (1 - teacher->weight) * main + teacher->weight * square * divergence;
    }
    if (micro.further.defined() && further_asked > 0) {
      const Hidden more = model_.predict_further(hidden, micro.rows, micro.next);
      const Tensor further = loss_sum(model_.logits(more.states), micro.further) / further_asked;
      report.further += further.item<double>();
      total = total + options_.mtp_weight * further;
      hidden.routers.insert(hidden.routers.end(), more.routers.begin(), more.routers.end());
    }
    const double share = static_cast<double>(micro.rows.tokens.size(0)) / rows;
    loads.resize(hidden.routers.size());
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const RouterChoice& choice = hidden.routers[i];
      report.balance += choice.balance.item<double>() * share / static_cast<double>(loads.size());
      total = total + options_.balance_alpha * share * choice.balance;
      loads[i] = loads[i].defined() ? loads[i] + choice.load : choice.load;
    }
    total.backward();
  }

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
  double sum = 0, asked = 0;
  for (const MicroBatch& micro : batch) {
    sum += loss_sum(model_.logits(model_.forward(micro.rows).states), micro.targets).item<double>();
    asked += static_cast<double>(micro.asked());
  }
  return sum / std::max(asked, 1.0);
}

}  // namespace fathom::train
