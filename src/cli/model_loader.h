// From the MODEL argument to a model that is ready to run, with the memory it needs told first.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/context.h"
#include "engine/engine.h"
#include "formats/checkpoint.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace fathom {

/// The options of every command that runs a model.
struct ModelArguments {
  std::string model;
  bool pull = false;        // fetch a model that is not here
  std::size_t context = 0;  // tokens; 0: what the model allows, at most kDefaultContext
  unsigned threads = 0;     // 0: all CPUs
  std::string kv_type = "bf16";
  std::string precision = "auto";
  std::string numa = "spread";
  bool ignore_packed = false;
  bool ignore_memory = false;
  std::size_t speculate = 7;  // SchedulerOptions::speculate

  static constexpr std::size_t kDefaultContext = 8192;
  /// Bytes of weights up to which "auto" is "fine".
  static constexpr std::uint64_t kSmallModel = std::uint64_t{512} << 20;

  /// Adds MODEL and the options.
  void add_to(CLI::App& command);
  /// Adds the options alone.
  void add_options_to(CLI::App& command);
  /// Adds --speculate, for commands with an engine.
  void add_speculation_to(CLI::App& command);
  DType kv_dtype() const;
  NumaMode numa_mode() const;
};

/// "f32", "fine", "fast".
const char* to_string(ActivationPrecision precision);

struct LoadedModel {
  std::filesystem::path path;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<Model> model;
  Tokenizer tokenizer;
  MemoryEstimate memory;
  std::size_t context = 0;  // tokens
  ActivationPrecision precision = ActivationPrecision::Fast;
  bool packed = false;  // the weights are mapped from where `fathom pack` keeps them

  /// An engine that takes the model; `parallel` requests of `context` tokens each find room. What
  /// its cache forgets goes to `store`, if there is one.
  std::unique_ptr<Engine> make_engine(const ModelArguments& arguments, std::size_t parallel = 1,
                                      std::shared_ptr<ContextStore> store = {});
};

/// The file or folder that MODEL names: a path, or a model in the store. With `pull`, or when a
/// person at the terminal agrees, a model that is not here is fetched. Throws Error(NotFound).
std::filesystem::path find_model(const std::string& model, bool pull, const Context& context);

/// What load_model() would want, told from the files' headers. Throws as it does, but for
/// Error(ResourceLimit).
MemoryEstimate model_memory(const ModelArguments& arguments, const Context& context,
                            std::size_t sequences);

enum class TellMemory { No, Total, Parts };

/// Finds, estimates, loads. Throws Error(ResourceLimit), before anything large is allocated, when
/// the memory does not suffice: it says what is needed and what there is. `sequences`: how many of
/// `context` tokens the cache will hold. `tell`: whether a line on stderr says what will be needed.
/// `inputs`, if not null, is filled by the model's forward passes and outlives it.
LoadedModel load_model(const ModelArguments& arguments, const Context& context, TellMemory tell,
                       std::size_t sequences = 1, InputStatistics* inputs = nullptr);

}  // namespace fathom
