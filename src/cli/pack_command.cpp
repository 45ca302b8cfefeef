// `fathom pack`: keeps a model's packed weights beside it, so that later starts map them.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/model_loader.h"
#include "cli/model_store.h"
#include "model/kept_weights.h"

namespace fathom {
namespace {

struct Options {
  std::string model;
  unsigned threads = 0;
  bool verify = false;
  bool remove = false;
};

void report(const Context& context, const char* verb, const std::filesystem::path& path,
            const KeptReport& kept) {
  if (context.json) {
    print_json({{"path", path.string()},
                {"action", verb},
                {"matrices", kept.matrices},
                {"bytes", kept.bytes}});
  } else {
    fmt::print("{} {}: {} matrices, {}\n", path.string(), verb, kept.matrices,
               format_bytes(kept.bytes));
  }
}

void run(const Options& options, const Context& context) {
  const std::filesystem::path model = find_model(options.model, false, context);
  const std::filesystem::path path = packed_path(model);
  if (options.remove) {
    require(std::filesystem::exists(path), ErrorCode::NotFound, "{}: there are no packed weights",
            path.string());
    const std::uint64_t bytes = std::filesystem::file_size(path);
    std::filesystem::remove(path);
    report(context, "removed", path, {0, bytes});
    return;
  }
  const CancelOnSignal cancel;
  const ProgressSink progress = CancelOnSignal::watching(context.progress());
  const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(model);
  if (options.verify) {
    report(context, "verified", path,
           verify_kept_weights(*checkpoint, path, options.threads, progress));
    return;
  }
  report(context, "written", path,
         keep_packed_weights(*checkpoint, path, options.threads, progress));
}

}  // namespace

void add_pack_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("pack", "Keep a model's weights packed beside it, for quick starts");
  auto options = std::make_shared<Options>();
  command
      ->add_option("MODEL", options->model,
                   "A name in the store, a GGUF file, or a Hugging Face folder")
      ->type_name("")
      ->required();
  auto* verify = command->add_flag(
      "--verify", options->verify,
      "Read the packed weights and the model, and check that the ones are the other's");
  command->add_flag("--remove", options->remove, "Delete the packed weights")->excludes(verify);
  command->add_option("--threads", options->threads, "All CPUs if not given")->type_name("N");
  add_json_option(*command, context);
  command->footer(
      "Every command that runs the model uses them as long as the model is the same. They take "
      "about the room of its quantised weights once more, and serve on every kind of CPU.\n\n"
      "fathom pack model.gguf");
  command->callback([options, &context] { run(*options, context); });
}

}  // namespace fathom
