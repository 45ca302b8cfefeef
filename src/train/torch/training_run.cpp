#include "train/torch/training_run.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "config/model_cost.h"
#include "formats/memory_checkpoint.h"
#include "model/model.h"
#include "train/torch/live_model.h"

namespace fathom::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMostSkipped = 20;

std::unique_ptr<TorchModel> make_model(const RunOptions& options) {
  if (!options.weights.empty()) {
    return std::make_unique<TorchModel>(
        TorchModel::load(*open_checkpoint(options.weights), options.twin));
  }
  MemoryCheckpoint stated("config.json");
  stated.set_config(options.texts.config);
  return std::make_unique<TorchModel>(
      TorchModel::random(read_model_config(stated), options.twin, options.deviation, options.seed));
}

void check(const RunOptions& options) {
  require(options.tokens > 0, ErrorCode::InvalidArgument, "the run has no tokens to train on");
  require(options.batch.last > 0 && options.batch.first >= 0 && options.micro_rows > 0,
          ErrorCode::InvalidArgument, "a step needs at least one row");
  require(options.rate.peak > 0 && std::isfinite(options.rate.peak), ErrorCode::InvalidArgument,
          "a learning rate of {} cannot be learned with", options.rate.peak);
}

}  // namespace

TrainingRun::TrainingRun(RunOptions options)
    : options_(std::move(options)),
      checkpoints_(options_.run, options_.tensorboard, options_.keep, options_.ranks),
      tokenizer_(Tokenizer::from_json(options_.texts.tokenizer, options_.texts.tokenizer_config)) {
  check(options_);
  model_ = make_model(options_);
  const auto vocabulary = static_cast<std::int64_t>(tokenizer_.vocab_size());
  require(model_->config().vocab_size >= vocabulary, ErrorCode::InvalidArgument,
          "the tokenizer has {} tokens, but the model's vocab_size is {}", vocabulary,
          model_->config().vocab_size);
  // A document may be as long as a row.
  const std::int64_t positions = model_->config().max_position_embeddings;
  require(static_cast<std::int64_t>(options_.row_tokens) <= positions, ErrorCode::InvalidArgument,
          "rows of {} tokens, but the model has {} positions (max_position_embeddings)",
          options_.row_tokens, positions);
  if (options_.lora.rank > 0) {
    model_->add_adapters(options_.lora, options_.seed);
    if (!options_.weights.empty()) {
      adapted_ = weights_digest(*open_checkpoint(options_.weights));
    }
  }
  if (options_.expert_parallel) model_->spread_experts(options_.ranks);
  optimizer_ = std::make_unique<Optimizer>(*model_, options_.optimizer, options_.ranks);
  trainer_ = std::make_unique<Trainer>(*model_, *optimizer_, options_.trainer, options_.ranks);
  const std::span<const Row> rows = options_.evaluation;
  const auto micro = static_cast<std::size_t>(options_.micro_rows);
  for (std::size_t at = 0; at < rows.size(); at += micro) {
    evaluation_.push_back(micro_batch(rows.subspan(at, std::min(micro, rows.size() - at)),
                                      options_.row_tokens, options_.separate, false));
  }
  resume();
  compare_ranks();
}

void TrainingRun::compare_ranks() const {
  const RunOptions& o = options_;
  const Json what{identity(),
                  o.tokens,
                  o.batch.first,
                  o.batch.last,
                  o.micro_rows,
                  o.row_tokens,
                  o.separate,
                  o.rate.peak,
                  o.rate.warmup_steps,
                  to_string(o.rate.shape),
                  o.optimizer.weight_decay,
                  o.trainer.clip,
                  o.trainer.mtp_weight,
                  o.trainer.balance_alpha,
                  o.trainer.bias_speed,
                  o.twin.fp8,
                  static_cast<int>(o.twin.compute),
                  o.expert_parallel,
                  evaluation_.size(),
                  o.prompts.empty(),
                  o.evaluate_every,
                  o.save_every};
  o.ranks.require_same(what.dump(), "options: all are started by one command");
  o.ranks.require_same(std::to_string(step_),
                       "checkpoints: the run's folder must be one that all see");
}

Json TrainingRun::identity() const {
  Json identity{{"kind", options_.kind},
                {"config", Json::parse(options_.texts.config)},
                {"mtp_depth", options_.twin.mtp_depth},
                {"optimizer", options_.optimizer.kind == OptimizerKind::Muon ? "muon" : "adamw"},
                {"seed", options_.seed}};
  if (options_.lora.rank > 0) {
    identity["lora"] = lora_identity(options_.lora);
    identity["adapted weights"] = adapted_;
  }
  if (const auto& teacher = options_.trainer.teacher) {
    identity["teacher"] = {{"weight", teacher->weight},
                           {"temperature", teacher->temperature},
                           {"weights", teacher->digest}};
  }
  identity.update(options_.rows->identity());
  return identity;
}

Json TrainingRun::state() const {
  return {
      {"step", step_}, {"tokens", tokens_}, {"place", options_.rows->place()}, {"run", identity()}};
}

void TrainingRun::resume() {
  const auto take = [&](const Json& state, const std::filesystem::path&) {
    step_ = state.at("step").get<std::int64_t>();
    tokens_ = state.at("tokens").get<double>();
    options_.rows->seek(state.at("place"));
  };
  resumed_ = checkpoints_.reopen(identity(), take, *model_, *optimizer_);
  folder().cut_log(step_);
}

std::vector<MicroBatch> TrainingRun::next_batch(std::int64_t rows) {
  // All ranks read all rows, so that they agree on where they are, and keep their share.
  const auto [first, last] = options_.ranks.share(rows);
  std::vector<Row> own, other;
  for (std::int64_t i = 0; i < rows; ++i) {
    Row row = options_.rows->next();
    if (i >= first && i < last) {
      own.push_back(std::move(row));
    } else if (other.empty()) {
      other.push_back(std::move(row));
    }
  }
  const auto micro_rows = static_cast<std::size_t>(options_.micro_rows);
  const std::int64_t most = (rows + options_.ranks.size() - 1) / options_.ranks.size();
  std::vector<MicroBatch> batch;
  for (std::size_t at = 0; at < static_cast<std::size_t>(most); at += micro_rows) {
    const bool idle = at >= own.size();
    const std::span<const Row> some =
        idle ? std::span<const Row>(other)
             : std::span<const Row>(own).subspan(at, std::min(micro_rows, own.size() - at));
    batch.push_back(
        micro_batch(some, options_.row_tokens, options_.separate, options_.twin.mtp_depth > 0));
    batch.back().idle = idle;
  }
  return batch;
}

RunLine TrainingRun::step() {
  const auto start = std::chrono::steady_clock::now();
  const double share = tokens_ / options_.tokens;
  RunLine line;
  line.rate = options_.rate.at(step_, share);
  line.report = trainer_->step(next_batch(options_.batch.at(share)), line.rate);
  skipped_ = line.report.skipped ? skipped_ + 1 : 0;
  require(skipped_ < kMostSkipped, ErrorCode::Internal,
          "{} steps in a row gave no finite loss or gradient: the run has diverged; the last "
          "checkpoint is of step {}",
          skipped_, checkpoints_.last_saved());
  ++step_;
  tokens_ += static_cast<double>(line.report.tokens);
  line.step = step_;
  line.tokens = tokens_;
  line.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  line.flop_per_s = flop_per_token() * static_cast<double>(line.report.tokens) / line.seconds;

  const auto due = [&](std::int64_t every) { return done() || (every > 0 && step_ % every == 0); };
  bool keep = due(options_.save_every);
  if (due(options_.evaluate_every)) {
    if (!evaluation_.empty()) {
      line.evaluation = trainer_->evaluate(evaluation_);
      if (checkpoints_.lowest(*line.evaluation, step_)) keep = true;
    }
    line.samples = sample();
  }
  Json log{{"step", step_},
           {"tokens", tokens_},
           {"loss", line.report.loss},
           {"further", line.report.further},
           {"balance", line.report.balance},
           {"largest_load", line.report.largest_load},
           {"gradient_norm", line.report.gradient_norm},
           {"clipped", line.report.clipped},
           {"skipped", line.report.skipped},
           {"rate", line.rate},
           {"seconds", line.seconds},
           {"flop_per_s", line.flop_per_s}};
  if (options_.trainer.teacher) log["divergence"] = line.report.divergence;
  if (line.evaluation) log["evaluation"] = *line.evaluation;
  if (!line.samples.empty()) log["samples"] = line.samples;
  folder().log(log);  // first: what goes on from the checkpoint does not write this line again
  if (keep) save();
  return line;
}

std::vector<std::string> TrainingRun::sample() {
  if (options_.prompts.empty()) return {};
  // The first rank says them; the others lend it their experts.
  if (!options_.ranks.first() && !model_->spread()) return {};
  const auto checkpoint = live_checkpoint(*model_, options_.texts.config);
  if (!options_.ranks.first()) return {};
  ModelOptions load;
  load.precision = ActivationPrecision::F32;
  Engine engine(Model::load(checkpoint, load), tokenizer_);
  std::vector<std::string> samples;
  for (const std::string& prompt : options_.prompts) {
    Request request;
    request.prompt = tokenizer_.encode(prompt);
    request.sampling.temperature = 0;
    request.max_tokens = options_.sample_tokens;
    request.stop_tokens = {options_.end};
    std::string text;
    auto answer = engine.submit(std::move(request));
    while (const auto event = answer.next()) {
      if (const auto* delta = std::get_if<Delta>(&*event)) text += delta->text;
    }
    samples.push_back(std::move(text));
  }
  return samples;
}

void TrainingRun::save() {
  checkpoints_.save(step_, state(), *model_, options_.texts, *optimizer_);
}

double TrainingRun::flop_per_token() const {
  const auto context = static_cast<double>(options_.row_tokens) / 2;
  double flop = forward_work(model_->config(), context).total();
  if (options_.twin.mtp_depth > 0) {
    const ModelConfig& c = model_->config();
    const ParameterCount block = count_mtp_block(c);
    flop += 2 * static_cast<double>(block.active() - block.norms + c.vocab_size * c.hidden_size);
  }
  return 3 * flop;
}

}  // namespace fathom::train
