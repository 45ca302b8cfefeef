// `fathom bench`: how fast a model reads prompts and writes answers here, by batch and depth,
// beside what this machine could do at most.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "backend/cpu/kernel_trace.h"
#include "backend/cpu/limits.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/bench_cost.h"
#include "cli/commands.h"
#include "cli/model_loader.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  ModelArguments model;
  std::vector<std::size_t> prompts{16, 128, 512};
  std::vector<std::size_t> batches{1, 4};
  std::vector<std::size_t> depths{0, 1024};
  std::size_t tokens = 32;
  std::size_t repeat = 3;
  bool same_tokens = false;
};

/// One line of the result: median, and the slowest and fastest run.
struct Measurement {
  std::string what;  // "prompt" or "generation"
  std::size_t tokens = 0, batch = 1, depth = 0;
  double median = 0, slowest = 0, fastest = 0;  // tokens a second
  double written = 0;                           // tokens a run counts
  double bytes = 0;                             // that a run must at least read
  LeastTime least;                              // of a run

  double limit() const { return written / least.seconds(); }
  double percent_of(double seconds) const { return 100 * median * seconds / written; }
};

class Bench {
 public:
  Bench(const LoadedModel& loaded, const ModelWork& work, const cpu::MachineLimits& limits,
        const BenchOptions& options)
      : model_(*loaded.model),
        vocabulary_(loaded.tokenizer.vocab_size()),
        precision_(loaded.precision),
        work_(work),
        limits_(limits),
        options_(options) {
    KvCacheOptions cache;
    cache.dtype = options.model.kv_dtype();
    const std::size_t deepest = *std::max_element(options.depths.begin(), options.depths.end());
    const std::size_t widest = *std::max_element(options.batches.begin(), options.batches.end());
    const std::size_t longest = *std::max_element(options.prompts.begin(), options.prompts.end());
    const auto trained = static_cast<std::size_t>(model_.config().max_position_embeddings);
    require(std::max(longest, deepest + options.tokens) <= trained, ErrorCode::InvalidArgument,
            "this model was made for {} tokens; prompts and depths may not go past them", trained);
    // A page for each sequence's open one, which forks copy.
    cache.capacity_tokens = std::max(longest, deepest + widest * (options.tokens + 128)) + 128;
    cache_.emplace(model_.make_cache(cache));
  }

  /// Reads a prompt of `tokens`.
  Measurement prompt(std::size_t tokens) {
    return measure("prompt", tokens, 1, 0, [&](WorkCounter* counter) {
      const SequenceId sequence = cache_->create();
      const double seconds = time([&] { feed(sequence, tokens, counter); });
      cache_->remove(sequence);
      return seconds;
    });
  }

  /// Writes `options.tokens` tokens in each of `batch` sequences that hold `depth` tokens already.
  Measurement generation(std::size_t batch, std::size_t depth) {
    const SequenceId root = cache_->create();
    if (depth > 0) feed(root, depth, nullptr);
    const auto run = [&](WorkCounter* counter) {
      std::vector<SequenceId> sequences;
      for (std::size_t i = 0; i < batch; ++i) sequences.push_back(cache_->fork(root, depth));
      const double seconds = time([&] {
        Batch step;
        for (std::size_t t = 0; t < options_.tokens; ++t) {
          step.clear();
          for (std::size_t i = 0; i < batch; ++i) {
            const std::size_t which = options_.same_tokens ? t : t * batch + i;
            step.add(token(which), sequences[i], Position{static_cast<std::int32_t>(depth + t)},
                     true);
          }
          forward(step, depth + t * batch, counter);
        }
      });
      for (const SequenceId sequence : sequences) cache_->remove(sequence);
      return seconds;
    };
    const Measurement result = measure("generation", options_.tokens, batch, depth, run);
    cache_->remove(root);
    return result;
  }

 private:
  /// Some token; which does not matter, but a real text does not repeat one.
  TokenId token(std::size_t i) const {
    return TokenId{static_cast<std::int32_t>((i * 2654435761U + 97) % vocabulary_)};
  }

  /// `cached`: tokens whose keys and values the pass reads. `counter` may be null.
  void forward(const Batch& batch, std::size_t cached, WorkCounter* counter) {
    if (counter != nullptr) counter->pass(batch, cached);
    model_.forward(batch, *cache_, counter);
  }

  void feed(SequenceId sequence, std::size_t tokens, WorkCounter* counter) {
    Batch batch;
    for (std::size_t done = 0; done < tokens;) {
      batch.clear();
      const std::size_t cached = done;
      const std::size_t count = std::min(tokens - done, model_.max_batch());
      for (std::size_t i = 0; i < count; ++i, ++done) {
        batch.add(token(done), sequence, Position{static_cast<std::int32_t>(done)},
                  done + 1 == tokens);
      }
      forward(batch, cached, counter);
    }
  }

  template <typename Work>
  static double time(const Work& work) {
    const auto start = Clock::now();
    work();
    return std::max(1e-9, std::chrono::duration<double>(Clock::now() - start).count());
  }

  /// `run` is given a counter or null, and returns the seconds it took.
  template <typename Run>
  Measurement measure(const char* what, std::size_t tokens, std::size_t batch, std::size_t depth,
                      const Run& run) {
    // The first run counts its work, faults pages in and warms caches; its time does not count.
    WorkCounter counter(work_);
    run(&counter);
    const auto written = static_cast<double>(tokens * batch);
    std::vector<double> rates;
    for (std::size_t i = 0; i < options_.repeat; ++i) rates.push_back(written / run(nullptr));
    std::sort(rates.begin(), rates.end());
    const std::size_t middle = rates.size() / 2;
    const double median =
        rates.size() % 2 == 1 ? rates[middle] : (rates[middle - 1] + rates[middle]) / 2;
    return {what,
            tokens,
            batch,
            depth,
            median,
            rates.front(),
            rates.back(),
            written,
            counter.bytes(),
            least_time(counter, limits_, precision_)};
  }

  Model& model_;
  std::size_t vocabulary_;
  ActivationPrecision precision_;
  const ModelWork& work_;
  const cpu::MachineLimits& limits_;
  const BenchOptions& options_;
  std::optional<KvCache> cache_;
};

void bench(BenchOptions options, Context& context) {
  // Zero leaves a measurement out: --prompts 0 measures generation alone.
  std::erase(options.prompts, 0);
  std::erase(options.batches, 0);
  LoadedModel loaded = load_model(options.model, context, TellMemory::No, 1);
  const ModelConfig& config = loaded.model->config();
  const ModelWork work = model_work(*loaded.checkpoint, config, options.model.kv_dtype());
  const MatrixWork cost = work.token();

  cpu::MachineLimits limits;
  {
    ThreadPool pool(options.model.threads);
    limits = cpu::measure_limits(pool, selected_cpu_level());
  }
  Bench bench(loaded, work, limits, options);
  const std::size_t total = options.prompts.size() + options.batches.size() * options.depths.size();
  std::vector<Measurement> results;
  {
    Progress progress(context.progress(), "measuring", total, "measurements");
    for (const std::size_t tokens : options.prompts) {
      results.push_back(bench.prompt(tokens));
      progress.advance(1);
    }
    for (const std::size_t depth : options.depths) {
      for (const std::size_t batch : options.batches) {
        results.push_back(bench.generation(batch, depth));
        progress.advance(1);
      }
    }
  }

  if (context.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Measurement& m : results) {
      list.push_back({{"kind", m.what},
                      {"tokens", m.tokens},
                      {"batch", m.batch},
                      {"depth", m.depth},
                      {"tokens_per_second", m.median},
                      {"slowest", m.slowest},
                      {"fastest", m.fastest},
                      {"read_bytes", m.bytes},
                      {"memory_percent", m.percent_of(m.least.reading)},
                      {"arithmetic_percent", m.percent_of(m.least.computing)},
                      {"limit", m.limit()},
                      {"bound_by", m.least.bound_by()}});
    }
    print_json({{"model", options.model.model},
                {"precision", to_string(loaded.precision)},
                {"kernels", cpu::product_kernels_ran()},
                {"threads", limits.threads},
                {"repeat", options.repeat},
                {"limits",
                 {{"read_bytes_per_second", limits.read_bytes_per_s},
                  {"f32_operations_per_second", limits.f32_flop_per_s},
                  {"int8_operations_per_second", limits.int8_op_per_s},
                  {"tile_int8_operations_per_second", limits.tile_int8_op_per_s},
                  {"tile_bf16_operations_per_second", limits.tile_bf16_flop_per_s}}},
                {"token", {{"operations", cost.operations}, {"weight_bytes", cost.bytes}}},
                {"peak_memory_bytes", resident_memory().peak},
                {"measurements", std::move(list)}});
    return;
  }
  const std::string tiles =
      limits.tile_int8_op_per_s == 0
          ? ""
          : fmt::format(", AMX {:.2f} TOP/s (int8) and {:.2f} TFLOP/s (bf16)",
                        limits.tile_int8_op_per_s / 1e12, limits.tile_bf16_flop_per_s / 1e12);
  fmt::print(
      "{}: {:.1f} M operations and {} of weights a token; {} activations\n"
      "this machine: {} kernels, {} threads; reads {:.1f} GB/s, {:.2f} TFLOP/s (f32), {:.2f} TOP/s "
      "(int8){}\n\n"
      "{:<12}{:>8}{:>7}{:>8}{:>12}{:>18}{:>10}{:>12}\n",
      options.model.model, cost.operations / 1e6,
      format_bytes(static_cast<std::uint64_t>(cost.bytes)), to_string(loaded.precision),
      cpu::product_kernels_ran(), limits.threads, limits.read_bytes_per_s / 1e9,
      limits.f32_flop_per_s / 1e12, limits.int8_op_per_s / 1e12, tiles, "", "tokens", "batch",
      "depth", "tokens/s", "(range)", "memory", "arithmetic");
  for (const Measurement& m : results) {
    fmt::print("{:<12}{:>8}{:>7}{:>8}{:>12.1f}{:>18}{:>10}{:>12}\n", m.what, m.tokens, m.batch,
               m.depth, m.median, fmt::format("({:.1f} - {:.1f})", m.slowest, m.fastest),
               fmt::format("{:.0f}%", m.percent_of(m.least.reading)),
               fmt::format("{:.0f}%", m.percent_of(m.least.computing)));
  }
  fmt::print("\nmedians of {}; percentages are of this machine's measured limits; peak memory {}\n",
             options.repeat, format_bytes(resident_memory().peak));
}

}  // namespace

void add_bench_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("bench", "Measure a model's speed, beside this machine's measured limits");
  auto options = std::make_shared<BenchOptions>();
  options->model.add_to(*command);
  const auto list = [&](const char* name, std::vector<std::size_t>& into, const char* help) {
    command->add_option(name, into, help)
        ->type_name("N,N")
        ->delimiter(',')
        ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 20))
        ->capture_default_str();
  };
  list("--prompts", options->prompts, "Lengths of prompts to read");
  list("--batches", options->batches, "How many answers are written at once");
  list("--depths", options->depths, "Tokens already in the context when writing begins");
  command->add_option("--tokens", options->tokens, "Tokens to write in each run")
      ->type_name("N")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--repeat", options->repeat, "Runs of which the median is told")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--same-tokens", options->same_tokens,
                    "Answers that are written at once are the same: of a mixture all choose the "
                    "same experts, as in some programs' benchmarks");
  add_json_option(*command, context);
  command->footer("fathom bench smollm2:135m --prompts 128,512 --batches 1,8 --depths 0,4096");
  command->callback([options, &context] { bench(*options, context); });
}

}  // namespace fathom
