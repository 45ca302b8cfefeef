// `fathom eval`: perplexity of a text, and accuracy on tasks with known answers.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

#include "base/file_map.h"
#include "base/progress.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/eval_imatrix.h"
#include "cli/eval_tasks.h"
#include "cli/interrupt.h"
#include "cli/model_loader.h"
#include "engine/chat.h"

namespace fathom {
namespace {

struct EvalOptions {
  ModelArguments model;
  std::string perplexity, tasks, imatrix, text;
  std::size_t window = 512;
  std::size_t limit = 0;
  std::size_t max_tokens = 512;
  std::size_t parallel = 8;
  bool raw = false;
  bool per_token = false;
};

/// Natural logarithm of the probability that `logits` give to `id`.
double log_probability(std::span<const float> logits, TokenId id) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - best));
  return static_cast<double>(logits[static_cast<std::size_t>(value(id))] - best) - std::log(sum);
}

/// Feeds tokens[from, to) and returns the log-probability of each tokens[i] for i in
/// [scored, to]: what came before predicts it. tokens[to] need not be fed.
class Scorer {
 public:
  Scorer(Model& model, KvCache& cache) : model_(model), cache_(cache) {}

  std::vector<double> score(SequenceId sequence, std::span<const TokenId> tokens, std::size_t from,
                            std::size_t scored) {
    std::vector<double> result;
    Batch batch;
    // Logits are [rows, vocab_size]: few rows at a time keep them small.
    const std::size_t step = std::min<std::size_t>(model_.max_batch(), 128);
    const std::size_t last = tokens.size() - 1;
    for (std::size_t at = from; at < last;) {
      batch.clear();
      const std::size_t end = std::min(at + step, last);
      for (std::size_t i = at; i < end; ++i) {
        batch.add(tokens[i], sequence, Position{static_cast<std::int32_t>(i)}, i + 1 >= scored);
      }
      const Logits logits = model_.forward(batch, cache_);
      std::size_t row = 0;
      for (std::size_t i = at; i < end; ++i) {
        if (i + 1 >= scored) result.push_back(log_probability(logits.row(row++), tokens[i + 1]));
      }
      at = end;
    }
    return result;
  }

 private:
  Model& model_;
  KvCache& cache_;
};

KvCache make_cache(const EvalOptions& options, Model& model, std::size_t tokens) {
  KvCacheOptions cache;
  cache.dtype = options.model.kv_dtype();
  cache.capacity_tokens = tokens;
  return model.make_cache(cache);
}

/// Windows of `window` tokens that advance by half: the second half of each is scored, so that
/// every token has at least half a window before it.
nlohmann::ordered_json perplexity(const EvalOptions& options, LoadedModel& loaded,
                                  const Context& context) {
  const FileMap file(options.perplexity);
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::vector<TokenId> tokens =
      loaded.tokenizer.encode(text, {.add_special = false, .parse_special = false});
  const std::size_t window = std::min(options.window, loaded.context);
  require(window >= 4, ErrorCode::InvalidArgument, "a window of {} tokens is too short", window);
  require(tokens.size() >= window, ErrorCode::InvalidArgument,
          "{} has {} tokens, fewer than one window of {}", options.perplexity, tokens.size(),
          window);
  const bool bos = loaded.tokenizer.add_bos() && loaded.tokenizer.bos().has_value();
  const std::size_t half = window / 2;
  std::size_t windows = (tokens.size() - half) / half;
  if (options.limit != 0) windows = std::min(windows, options.limit);

  KvCache cache = make_cache(options, *loaded.model, window + 2 * KvCache::kPageTokens);
  Scorer scorer(*loaded.model, cache);
  double sum = 0;
  double squares = 0;
  std::size_t count = 0;
  std::size_t scored_bytes = 0;
  nlohmann::ordered_json per_token = nlohmann::ordered_json::array();
  Progress progress(context.progress(), "perplexity", windows * half, "tokens");
  for (std::size_t w = 0; w < windows; ++w) {
    const std::size_t begin = w * half;
    std::vector<TokenId> part;
    if (bos) part.push_back(*loaded.tokenizer.bos());
    part.insert(part.end(), tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                tokens.begin() + static_cast<std::ptrdiff_t>(begin + 2 * half));
    const std::size_t first = part.size() - half;
    const SequenceId sequence = cache.create();
    std::size_t at = first;
    for (const double logprob : scorer.score(sequence, part, 0, first)) {
      sum -= logprob;
      squares += logprob * logprob;
      ++count;
      if (options.per_token) per_token.push_back({value(part[at]), logprob});
      ++at;
    }
    cache.remove(sequence);
    for (std::size_t i = first; i < part.size(); ++i) {
      scored_bytes += loaded.tokenizer.piece(part[i]).size();
    }
    progress.advance(half);
  }
  progress.finish();
  const double mean = sum / static_cast<double>(count);
  const double variance = squares / static_cast<double>(count) - mean * mean;
  const double error = std::sqrt(std::max(0.0, variance) / static_cast<double>(count));
  const double value = std::exp(mean);
  nlohmann::ordered_json result{
      {"file", options.perplexity},
      {"perplexity", value},
      {"standard_error", value * error},
      {"nats_per_token", mean},
      {"bits_per_byte", sum / std::log(2.0) / static_cast<double>(scored_bytes)},
      {"tokens", count},
      {"window", 2 * half}};
  if (options.per_token) result["log_probabilities"] = std::move(per_token);
  return result;
}

/// Log-likelihood of each choice after the question; the likeliest is the model's answer.
class ChoiceJudge {
 public:
  ChoiceJudge(const EvalOptions& options, LoadedModel& loaded)
      : loaded_(loaded),
        cache_(make_cache(options, *loaded.model, loaded.context + 4 * KvCache::kPageTokens)),
        scorer_(*loaded.model, cache_) {}

  struct Verdict {
    bool right = false;             // by the sum of log-probabilities
    bool right_normalised = false;  // by the sum over the choice's bytes
  };

  Verdict judge(const Task& task) {
    const std::vector<TokenId> prompt =
        loaded_.tokenizer.encode("Question: " + task.question + "\nAnswer:", {});
    require(prompt.size() >= 2 && prompt.size() < loaded_.context, ErrorCode::InvalidArgument,
            "a question has {} tokens, but the context only {}", prompt.size(), loaded_.context);
    const SequenceId root = cache_.create();
    // All but the last token of the prompt, which predicts the choice's first.
    scorer_.score(root, prompt, 0, prompt.size());
    std::vector<double> sums;
    std::vector<double> normalised;
    for (const std::string& choice : task.choices) {
      std::vector<TokenId> tokens = prompt;
      const std::string text = " " + choice;
      const auto more =
          loaded_.tokenizer.encode(text, {.add_special = false, .parse_special = false});
      tokens.insert(tokens.end(), more.begin(), more.end());
      const SequenceId sequence = cache_.fork(root, prompt.size() - 1);
      double sum = 0;
      for (const double logprob :
           scorer_.score(sequence, tokens, prompt.size() - 1, prompt.size())) {
        sum += logprob;
      }
      cache_.remove(sequence);
      sums.push_back(sum);
      normalised.push_back(sum / static_cast<double>(text.size()));
    }
    cache_.remove(root);
    const auto best = [](const std::vector<double>& scores) {
      return static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) -
                                      scores.begin());
    };
    return {best(sums) == task.correct, best(normalised) == task.correct};
  }

 private:
  LoadedModel& loaded_;
  KvCache cache_;
  Scorer scorer_;
};

nlohmann::ordered_json score_json(const char* name, std::size_t right, std::size_t total) {
  const Interval interval = wilson_interval(right, total);
  return {{name, static_cast<double>(right) / static_cast<double>(std::max<std::size_t>(total, 1))},
          {"right", right},
          {"interval", {interval.low, interval.high}}};
}

nlohmann::ordered_json multiple_choice(const EvalOptions& options, LoadedModel& loaded,
                                       const std::vector<Task>& tasks, const Context& context) {
  ChoiceJudge judge(options, loaded);
  std::size_t right = 0;
  std::size_t right_normalised = 0;
  Progress progress(context.progress(), "multiple choice", tasks.size(), "questions");
  for (const Task& task : tasks) {
    const auto verdict = judge.judge(task);
    right += verdict.right ? 1 : 0;
    right_normalised += verdict.right_normalised ? 1 : 0;
    progress.advance(1);
  }
  return {{"kind", "multiple_choice"},
          {"questions", tasks.size()},
          {"by_likelihood", score_json("accuracy", right, tasks.size())},
          {"by_likelihood_per_byte", score_json("accuracy", right_normalised, tasks.size())}};
}

Request exact_request(const EvalOptions& options, const ChatFormat* format,
                      const Tokenizer& tokenizer, const Task& task) {
  Request request;
  request.sampling.temperature = 0;
  request.max_tokens = options.max_tokens;
  const auto ends = tokenizer.end_of_generation();
  request.stop_tokens.assign(ends.begin(), ends.end());
  if (format == nullptr) {
    request.prompt = tokenizer.encode("Question: " + task.question + "\nAnswer:", {});
    request.stop_strings = {"\nQuestion:"};
    return request;
  }
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  messages.push_back({{"role", "user"}, {"content", task.question}});
  ChatOptions chat;
  chat.now = local_time();
  ChatPrompt prompt = format->prompt(messages, chat);
  request.prompt = std::move(prompt.tokens);
  request.reasoning = std::move(prompt.reasoning);
  return request;
}

nlohmann::ordered_json exact_answers(const EvalOptions& options, LoadedModel& loaded,
                                     const std::vector<Task>& tasks, const Context& context) {
  std::unique_ptr<ChatFormat> format;
  if (!options.raw) format = ChatFormat::load(*loaded.checkpoint, loaded.tokenizer);
  const auto engine = loaded.make_engine(options.model, options.parallel);
  std::size_t right = 0;
  std::size_t cut = 0;
  Progress progress(context.progress(), "exact answers", tasks.size(), "questions");
  // As many requests as the engine computes at once are in flight; they are read in order.
  std::deque<Stream> streams;
  std::size_t submitted = 0;
  for (const Task& task : tasks) {
    while (submitted < tasks.size() && streams.size() < options.parallel) {
      streams.push_back(engine->submit(
          exact_request(options, format.get(), loaded.tokenizer, tasks[submitted++])));
    }
    std::string output;
    while (auto event = streams.front().next()) {
      if (const auto* delta = std::get_if<Delta>(&*event)) {
        if (delta->channel == Channel::Answer) output += delta->text;
      } else if (const auto* end = std::get_if<Finished>(&*event)) {
        if (end->error) throw Error(*end->error);
        cut += end->reason == FinishReason::Length ? 1 : 0;
      }
    }
    streams.pop_front();
    right += answers_exactly(task, output) ? 1 : 0;
    progress.advance(1);
  }
  nlohmann::ordered_json json{{"kind", "exact_answer"}, {"questions", tasks.size()}};
  json["exact"] = score_json("accuracy", right, tasks.size());
  json["cut_at_max_tokens"] = cut;
  return json;
}

void print_score(const char* name, const nlohmann::ordered_json& score, std::size_t total) {
  fmt::print("{}: {:.1f}% ({} of {}), 95% interval {:.1f}% to {:.1f}%\n", name,
             100 * score["accuracy"].get<double>(), score["right"].get<std::size_t>(), total,
             100 * score["interval"][0].get<double>(), 100 * score["interval"][1].get<double>());
}

void print_result(const nlohmann::ordered_json& result) {
  if (result.contains("imatrix")) {
    const auto& i = result["imatrix"];
    fmt::print("{}: importance of {} weights' columns, from {} tokens in windows of {}\n",
               i["file"].get<std::string>(), i["weights"].get<std::size_t>(),
               i["tokens"].get<std::size_t>(), i["window"].get<std::size_t>());
    const auto unused = i["unused_parts"].get<std::size_t>();
    if (unused > 0) {
      fmt::print("{} experts' matrices were never used: a longer text would reach them\n", unused);
    }
  }
  if (result.contains("perplexity")) {
    const auto& p = result["perplexity"];
    fmt::print(
        "perplexity: {:.4f} +/- {:.4f} over {} tokens in windows of {} ({:.4f} bits a byte)\n",
        p["perplexity"].get<double>(), p["standard_error"].get<double>(),
        p["tokens"].get<std::size_t>(), p["window"].get<std::size_t>(),
        p["bits_per_byte"].get<double>());
  }
  for (const auto& tasks : result.value("tasks", nlohmann::ordered_json::array())) {
    const auto total = tasks["questions"].get<std::size_t>();
    if (tasks["kind"] == "multiple_choice") {
      print_score("multiple choice, by likelihood", tasks["by_likelihood"], total);
      print_score("multiple choice, by likelihood per byte", tasks["by_likelihood_per_byte"],
                  total);
    } else {
      print_score("exact answers", tasks["exact"], total);
      const auto cut = tasks["cut_at_max_tokens"].get<std::size_t>();
      if (cut > 0) fmt::print("{} answers were cut at --max-tokens\n", cut);
    }
  }
}

void eval(const EvalOptions& options, Context& context) {
  require(!options.perplexity.empty() || !options.tasks.empty() || !options.imatrix.empty(),
          ErrorCode::InvalidArgument,
          "nothing to measure: give --perplexity FILE, --tasks FILE, --imatrix FILE, or several");
  require(options.imatrix.empty() == options.text.empty(), ErrorCode::InvalidArgument,
          "--imatrix (the file to write) and --text (what to measure it on) need each other");
  std::vector<Task> choices;
  std::vector<Task> exact;
  if (!options.tasks.empty()) {
    for (Task& task : read_tasks(options.tasks, options.limit == 0 ? SIZE_MAX : options.limit)) {
      (task.choices.empty() ? exact : choices).push_back(std::move(task));
    }
  }
  InputStatistics inputs;
  LoadedModel loaded =
      load_model(options.model, context, TellMemory::No, exact.empty() ? 1 : options.parallel,
                 options.imatrix.empty() ? nullptr : &inputs);
  nlohmann::ordered_json result{{"model", options.model.model},
                                {"precision", to_string(loaded.precision)}};
  if (!options.imatrix.empty()) {
    result["imatrix"] =
        measure_importance(loaded, inputs, options.text, options.imatrix, options.window,
                           options.limit, options.model.kv_dtype(), context);
  }
  if (!options.perplexity.empty()) result["perplexity"] = perplexity(options, loaded, context);
  if (!options.tasks.empty()) {
    result["tasks"] = nlohmann::ordered_json::array();
    if (!choices.empty()) {
      result["tasks"].push_back(multiple_choice(options, loaded, choices, context));
    }
    // Last, as the engine takes the model.
    if (!exact.empty()) result["tasks"].push_back(exact_answers(options, loaded, exact, context));
  }
  if (context.json) {
    print_json(result);
  } else {
    print_result(result);
  }
}

}  // namespace

void add_eval_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("eval", "Measure perplexity, or accuracy on tasks with known answers");
  auto options = std::make_shared<EvalOptions>();
  options->model.add_to(*command);
  options->model.add_speculation_to(*command);
  command->add_option("--perplexity", options->perplexity, "A text file to predict")
      ->type_name("FILE");
  command->add_option("--window", options->window, "Tokens of its windows; the second half counts")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--per-token", options->per_token,
                    "With --json: id and log-probability of every scored token, in nats");
  command
      ->add_option("--tasks", options->tasks,
                   "JSONL with \"question\", \"answer\" and, for multiple choice, \"choices\"")
      ->type_name("FILE");
  command
      ->add_option("--imatrix", options->imatrix,
                   "Write an importance matrix for fathom quantize, measured on --text; GGUF, or "
                   "the older form if the name ends in .dat")
      ->type_name("FILE");
  command->add_option("--text", options->text, "A text file for --imatrix")->type_name("FILE");
  command->add_option("--limit", options->limit, "Only so many tasks or windows")->type_name("N");
  command->add_option("--max-tokens", options->max_tokens, "Longest exact answer")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--parallel", options->parallel, "Exact answers written at once")
      ->type_name("N")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_flag("--raw", options->raw, "Ask for exact answers without the chat template");
  add_json_option(*command, context);
  command->footer(
      "fathom eval smollm2:135m --perplexity text.txt\n"
      "fathom eval smollm2:135m --tasks gsm8k.jsonl --limit 100\n"
      "fathom eval model-bf16.gguf --imatrix model.imatrix --text text.txt");
  command->callback([options, &context] { eval(*options, context); });
}

}  // namespace fathom
