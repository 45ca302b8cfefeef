// How good a model is, what a step is told as, and how a run goes on.
#include <fmt/format.h>

#include <utility>

#include "base/content_digest.h"
#include "base/error.h"
#include "train/torch/grpo.h"

namespace fathom::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kAtOnce = 128;  // answers

Json log_of(const Evaluation& e) {
  return {{"greedy", e.greedy},     {"pass_at_1", e.sampled}, {"pass_at_k", e.any},
          {"maj_at_k", e.majority}, {"length", e.length},     {"thinks", e.thinks},
          {"tasks", e.tasks},       {"k", e.samples}};
}

}  // namespace

Evaluation Grpo::evaluate() {
  EvaluationOptions options;
  options.samples = options_.evaluation_samples;
  options.max_tokens = options_.max_tokens;
  options.end = options_.end;
  options.seed = options_.seed;
  Evaluation evaluation;
  options_.ranks.together([&] {
    if (!options_.ranks.first()) return;
    const auto engine = make_engine(kAtOnce);
    evaluation = train::evaluate(*engine, tokenizer_, options_.evaluation, options);
  });
  // What decides on the best checkpoint all must know.
  evaluation.greedy = options_.ranks.sum(evaluation.greedy);
  return evaluation;
}

Evaluation Grpo::evaluate_start() {
  const Evaluation before = evaluate();
  folder().log({{"step", 0}, {"evaluation", log_of(before)}});
  return before;
}

void Grpo::write_log(const GrpoReport& report) const {
  Json parts = Json::object();
  for (std::size_t i = 0; i < options_.rewards.size(); ++i) {
    parts[options_.rewards[i].name] = report.parts[i];
  }
  Json log{{"step", step_},
           {"reward", report.reward},
           {"rewards", std::move(parts)},
           {"equal_groups", report.equal_groups},
           {"length", report.length},
           {"longest", report.longest},
           {"truncated", report.truncated},
           {"entropy", report.entropy},
           {"kl", report.kl},
           {"clipped_low", report.clipped_low},
           {"clipped_high", report.clipped_high},
           {"gap", report.gap},
           {"largest_gap", report.largest_gap},
           {"rerouted", report.rerouted},
           {"gradient_norm", report.gradient_norm},
           {"rate", report.rate},
           {"largest_load", report.largest_load},
           {"skipped", report.skipped},
           {"sampling_seconds", report.sampling_seconds},
           {"training_seconds", report.training_seconds},
           {"flop", report.flop}};
  if (report.evaluation) log["evaluation"] = log_of(*report.evaluation);
  Json shown = Json::array();
  for (const auto& [reward, text] : report.samples) {
    shown.push_back({{"reward", reward}, {"text", text}});
  }
  log["samples"] = std::move(shown);
  folder().log(log);
}

Json Grpo::identity() const {
  ContentDigest tasks;
  for (const RlTask& task : options_.tasks) {
    tasks.add(std::string_view(task.prompt));
    tasks.add(std::string_view(task.answer));
  }
  Json identity{{"config", Json::parse(options_.texts.config)},
                {"tasks", tasks.hex()},
                {"chat", options_.chat},
                {"instruction", options_.instruction},
                {"questions", options_.questions},
                {"group", options_.group},
                {"max_tokens", options_.max_tokens},
                {"temperature", options_.temperature},
                {"kl", options_.policy.kl},
                {"seed", options_.seed}};
  if (options_.replay_routing) identity["replay_routing"] = true;
  if (options_.lora.rank > 0) {
    identity["lora"] = lora_identity(options_.lora);
    identity["adapted weights"] = adapted_;
  }
  return identity;
}

void Grpo::save() {
  const Json state{{"kind", "grpo"},
                   {"step", step_},
                   {"dealt", dealt_},
                   {"attempts", attempts_},
                   {"run", identity()}};
  const auto reference = [&](const std::filesystem::path& place) {
    if (!reference_) return;
    std::filesystem::create_directories(place / "reference");
    write_model_folder(place / "reference", *reference_, options_.texts);
  };
  checkpoints_.save(step_, state, *model_, options_.texts, *optimizer_, reference);
}

void Grpo::resume() {
  const auto take = [&](const Json& state, const std::filesystem::path& place) {
    step_ = state.at("step").get<std::int64_t>();
    dealt_ = state.at("dealt").get<std::uint64_t>();
    attempts_ = state.at("attempts").get<std::uint64_t>();
    if (!reference_) return;
    const TorchModel stored =
        TorchModel::load(*open_checkpoint(place / "reference"), options_.twin);
    reference_ = std::make_unique<TorchModel>(stored.frozen_copy());
  };
  resumed_ = checkpoints_.reopen(identity(), take, *model_, *optimizer_);
  // What goes on from the start evaluates, and logs step 0, anew.
  folder().cut_log(step_ == 0 ? -1 : step_);
  const GrpoOptions& o = options_;
  const Json what{identity(),
                  o.steps,
                  o.minibatches,
                  o.micro_tokens,
                  o.rate.peak,
                  o.rate.warmup_steps,
                  to_string(o.rate.shape),
                  o.clip,
                  o.dynamic_sampling,
                  o.most_rounds,
                  o.refresh_reference,
                  o.rewards.size(),
                  o.evaluation.size(),
                  o.evaluate_every,
                  o.save_every};
  o.ranks.require_same(what.dump(), "options: all are started by one command");
  o.ranks.require_same(std::to_string(step_),
                       "checkpoints: the run's folder must be one that all see");
}

}  // namespace fathom::train
