#include "cli/model_loader.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "base/cpu_features.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/version.h"
#include "cli/terminal.h"
#include "config/model_config.h"
#include "engine/tokenizer_loader.h"
#include "model/fingerprint.h"
#include "model/kept_weights.h"

namespace fathom {
namespace {

constexpr std::size_t kBatchTokens = 512;
constexpr std::size_t kLeastContext = 512;
constexpr double kLongLoad = 5;  // seconds, from which on a person is told of `fathom pack`

std::string describe(const MemoryEstimate& estimate, std::size_t context) {
  return fmt::format("{} ({} weights, {} for {} tokens of context, {} to compute)",
                     format_bytes(estimate.total()),
                     format_bytes(estimate.weights_mapped + estimate.weights_packed),
                     format_bytes(estimate.kv_cache), context, format_bytes(estimate.activations));
}

/// "auto": a small model answers quickly enough either way, and its close calls are the ones that
/// rounding tips (docs/performance.md has the figures).
ActivationPrecision choose_precision(const std::string& asked, const Checkpoint& checkpoint) {
  if (asked == "f32") return ActivationPrecision::F32;
  if (asked == "fine") return ActivationPrecision::Fine;
  if (asked == "fast") return ActivationPrecision::Fast;
  return checkpoint.weight_bytes() <= ModelArguments::kSmallModel ? ActivationPrecision::Fine
                                                                  : ActivationPrecision::Fast;
}

ModelOptions model_options(const ModelArguments& arguments, const Checkpoint& checkpoint,
                           const Context& context) {
  ModelOptions options;
  options.precision = choose_precision(arguments.precision, checkpoint);
  options.threads = arguments.threads;
  // The machine is not even looked at if nobody wants to know.
  if (arguments.numa_mode() != NumaMode::Off) options.numa = numa_options(arguments.numa_mode());
  options.progress = context.passing_progress();
  return options;
}

/// What `fathom pack` keeps of the model. What cannot be used is said, and done without.
KeptWeights kept_weights(const Checkpoint& checkpoint, const std::filesystem::path& path,
                         const Context& context) {
  try {
    const auto kept = find_kept_weights(checkpoint, packed_path(path));
    if (kept && kept->check_sources) {
      print_note(context,
                 "the model's file has been touched since its weights were packed: they "
                 "are compared; 'fathom pack' makes later starts quick again");
    }
    return kept.value_or(KeptWeights{});
  } catch (const Error& error) {
    print_note(context, fmt::format("packed weights are not used: {}", error.what()));
    return {};
  }
}

/// The context that was asked for, or the largest usual one that fits; and what it takes.
MemoryEstimate fit_memory(const ModelArguments& arguments, const Checkpoint& checkpoint,
                          const ModelConfig& config, const ModelOptions& options,
                          std::size_t sequences, std::size_t& context, const MemoryLimit& limit) {
  const auto trained =
      static_cast<std::size_t>(std::max<std::int64_t>(config.max_position_embeddings, 1));
  require(arguments.context <= trained, ErrorCode::InvalidArgument,
          "a context of {} tokens is more than the {} that this model was made for",
          arguments.context, trained);
  context = arguments.context != 0 ? arguments.context
                                   : std::min(trained, ModelArguments::kDefaultContext);
  while (true) {
    const MemoryEstimate estimate =
        estimate_memory(checkpoint, config, options, (context + KvCache::kPageTokens) * sequences,
                        arguments.kv_dtype(), kBatchTokens);
    if (estimate.total() <= limit.available || arguments.ignore_memory) return estimate;
    if (arguments.context == 0 && context / 2 >= kLeastContext) {
      context /= 2;
      continue;
    }
    fail(ErrorCode::ResourceLimit,
         "{} needs {}, but {} has {} available; a smaller model or a coarser quantisation fits, or "
         "a shorter --context (--ignore-memory tries regardless)",
         checkpoint.path().string(), describe(estimate, context), limit.source,
         format_bytes(limit.available));
  }
}

/// Everything that changes what the cache's pages hold, or how.
std::string page_fingerprint(const Checkpoint& checkpoint, ActivationPrecision precision,
                             DType kv_type) {
  return fmt::format("{} {} {} {} {} {}", content_fingerprint(checkpoint), checkpoint.modified_ns(),
                     to_string(precision), to_string(kv_type), to_string(selected_cpu_level()),
                     kVersion);
}

}  // namespace

const char* to_string(ActivationPrecision precision) {
  switch (precision) {
    case ActivationPrecision::F32:
      return "f32";
    case ActivationPrecision::Fine:
      return "fine";
    case ActivationPrecision::Fast:
      return "fast";
  }
  return "fast";
}

void ModelArguments::add_to(CLI::App& command) {
  command
      .add_option("MODEL", model,
                  "A name in the store (see 'fathom list'), a GGUF file, or a Hugging Face folder")
      ->type_name("")
      ->required();
  add_options_to(command);
}

void ModelArguments::add_options_to(CLI::App& command) {
  const char* group = "Model";
  command.add_flag("--pull", pull, "Fetch the model if it is not here")->group(group);
  command
      .add_option("-c,--context", context, "Tokens of prompt and answer that it can look back on")
      ->type_name("N")
      ->group(group);
  command.add_option("--threads", threads, "Threads to compute with; all CPUs if not given")
      ->type_name("N")
      ->group(group);
  command
      .add_option(
          "--kv-type", kv_type,
          "How the context is kept in memory: bf16 or f16; q8, in half of their memory; f32")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"bf16", "f16", "q8", "f32"}))
      ->group(group);
  command
      .add_option(
          "--precision", precision,
          "Rounding of activations before quantised weights: fast to 8 bits, fine to 15, f32 "
          "none; auto is fine for models of up to 512 MiB, and fast for larger ones")
      ->type_name("MODE")
      ->check(CLI::IsMember({"auto", "fast", "fine", "f32"}))
      ->group(group);
  command
      .add_option("--numa", numa,
                  "On a machine with several NUMA nodes: spread the weights over their memory "
                  "(the default), replicate them on each, or off: leave all to the kernel")
      ->type_name("MODE")
      ->check(CLI::IsMember({"off", "spread", "replicate"}))
      ->group(group);
  command
      .add_flag("--ignore-packed", ignore_packed,
                "Pack the weights anew, even if 'fathom pack' keeps them")
      ->group(group);
  command.add_flag("--ignore-memory", ignore_memory, "Load even if the memory seems too small")
      ->group(group);
}

void ModelArguments::add_speculation_to(CLI::App& command) {
  command
      .add_option(
          "--speculate", speculate,
          "Next tokens to guess from the text so far, and to check in one pass where that is "
          "quicker; answers stay the same to the bit. 0: none")
      ->type_name("N")
      ->check(CLI::Range(0, 7))
      ->group("Model");
}

NumaMode ModelArguments::numa_mode() const {
  if (numa == "off") return NumaMode::Off;
  return numa == "replicate" ? NumaMode::Replicate : NumaMode::Spread;
}

DType ModelArguments::kv_dtype() const {
  if (kv_type == "f32") return DType::F32;
  if (kv_type == "f16") return DType::F16;
  return kv_type == "q8" ? DType::Q8_0 : DType::BF16;
}

MemoryEstimate model_memory(const ModelArguments& arguments, const Context& context,
                            std::size_t sequences) {
  const std::filesystem::path path = find_model(arguments.model, arguments.pull, context);
  const auto checkpoint = open_checkpoint(path);
  const ModelConfig config = read_model_config(*checkpoint);
  ModelOptions options = model_options(arguments, *checkpoint, context);
  if (!arguments.ignore_packed) options.kept = kept_weights(*checkpoint, path, context);
  MemoryLimit unlimited;
  unlimited.available = std::numeric_limits<std::uint64_t>::max();
  std::size_t tokens = 0;
  return fit_memory(arguments, *checkpoint, config, options, sequences, tokens, unlimited);
}

LoadedModel load_model(const ModelArguments& arguments, const Context& context, TellMemory tell,
                       std::size_t sequences, InputStatistics* inputs) {
  const std::filesystem::path path = find_model(arguments.model, arguments.pull, context);
  std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(path);
  const ModelConfig config = read_model_config(*checkpoint);
  ModelOptions options = model_options(arguments, *checkpoint, context);
  options.inputs = inputs;
  if (!arguments.ignore_packed) options.kept = kept_weights(*checkpoint, path, context);
  const MemoryLimit limit = memory_limit();
  std::size_t tokens = 0;
  const MemoryEstimate estimate =
      fit_memory(arguments, *checkpoint, config, options, sequences, tokens, limit);
  if (!arguments.ignore_memory) {
    options.numa.require_room(estimate.weights_packed / options.numa.copies());
  }
  if (tell != TellMemory::No) {
    print_note(context,
               fmt::format("memory: {}; {} available",
                           tell == TellMemory::Parts ? describe(estimate, tokens)
                                                     : format_bytes(estimate.total()) + " needed",
                           format_bytes(limit.available)));
  }
  Tokenizer tokenizer = load_tokenizer(*checkpoint);
  usable_vocabulary(config, tokenizer);  // before the work of loading
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<Model> model = Model::load(checkpoint, options);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  if (taken.count() > kLongLoad && options.kept.file == nullptr && !arguments.ignore_packed) {
    print_note(context, fmt::format("loading took {}; 'fathom pack {}' makes it a moment",
                                    format_duration(taken.count()), arguments.model));
  }
  return {path,
          std::move(checkpoint),
          std::move(model),
          std::move(tokenizer),
          estimate,
          tokens,
          options.precision,
          options.kept.file != nullptr};
}

std::unique_ptr<Engine> LoadedModel::make_engine(const ModelArguments& arguments,
                                                 std::size_t parallel,
                                                 std::shared_ptr<ContextStore> store) {
  SchedulerOptions options;
  options.context_tokens = context;
  options.cache.dtype = arguments.kv_dtype();
  // A page more for each: growing into a page that an earlier turn shares takes a copy of it.
  options.cache.capacity_tokens = (context + KvCache::kPageTokens) * parallel;
  options.max_active = parallel;
  options.speculate = arguments.speculate;
  if (store) {
    options.context_store = std::move(store);
    options.context_fingerprint = page_fingerprint(*checkpoint, precision, arguments.kv_dtype());
  }
  return std::make_unique<Engine>(std::move(model), tokenizer, options);
}

}  // namespace fathom
