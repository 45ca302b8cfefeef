// `fathom make-random`: a model file of true shapes and random weights, to measure speed with.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "cli/commands.h"
#include "formats/random_model.h"

namespace fathom {
namespace {

struct MakeRandomArguments {
  std::string like, output;
  std::uint32_t layers = 0;
  RandomModelOptions options;
};

std::string shape_names() {
  std::string names;
  for (const ModelShape& shape : model_shapes()) {
    names += (names.empty() ? "" : ", ") + std::string(shape.name);
  }
  return names;
}

void make_random(const MakeRandomArguments& arguments, Context& context) {
  RandomModelOptions options = arguments.options;
  options.progress = context.progress();
  if (arguments.layers > 0) options.layers = arguments.layers;
  const ModelShape& shape = find_model_shape(arguments.like);
  const ConvertReport report = make_random_gguf(shape, arguments.output, options);
  const std::uint64_t parameters = parameter_count(shape, options.layers);
  if (context.json) {
    print_json({{"output", arguments.output},
                {"like", shape.name},
                {"architecture", report.architecture},
                {"type", options.type},
                {"seed", options.seed},
                {"tensors", report.tensors.size()},
                {"parameters", parameters},
                {"bytes", report.bytes_after},
                {"bits_per_weight", report.bits_per_weight()}});
    return;
  }
  fmt::print(
      "{}: {}\n{}, {:.2f} bits a weight; the weights are random: it runs, but says nothing\n",
      arguments.output, shape.about, format_bytes(report.bytes_after), report.bits_per_weight());
}

}  // namespace

void add_make_random_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "make-random", "Make a model of true shape and random weights, to measure");
  auto arguments = std::make_shared<MakeRandomArguments>();
  command->add_option("OUTPUT", arguments->output, "The GGUF file to write")
      ->type_name("FILE")
      ->required();
  command->add_option("--like", arguments->like, "One of " + shape_names())
      ->type_name("SHAPE")
      ->required();
  RandomModelOptions& options = arguments->options;
  command->add_option("--type", options.type, "Type of the weights, as for convert")
      ->type_name("TYPE")
      ->capture_default_str();
  command->add_flag("--pure", options.pure, "That type for every matrix, no mix");
  command->add_flag("--split-kv-b", options.split_kv_b,
                    "Write latent attention's kv_b as two matrices, as newer llama.cpp wants it");
  command->add_option("--layers", arguments->layers, "So many layers, not the model's own number")
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  command->add_option("--seed", options.seed, "The same seed makes the same file")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--threads", options.threads, "All CPUs if not given")->type_name("N");
  add_json_option(*command, context);
  command->footer("fathom make-random v2-lite.gguf --like deepseek-v2-lite --type Q4_K_M");
  command->callback([arguments, &context] { make_random(*arguments, context); });
}

}  // namespace fathom
