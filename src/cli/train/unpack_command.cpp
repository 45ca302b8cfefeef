// `fathom train unpack`: a GGUF file as a folder that can be trained.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli/terminal.h"
#include "cli/train/commands.h"
#include "train/torch/unpack.h"

namespace fathom {
namespace {

struct UnpackArguments {
  std::filesystem::path model, output;
  bool half = false;
};

void unpack(const UnpackArguments& arguments, Context& context) {
  const auto checkpoint = open_checkpoint(arguments.model);
  require(checkpoint->source() == CheckpointSource::Gguf, ErrorCode::InvalidArgument,
          "{} is no GGUF file: folders are trained as they are", arguments.model.string());
  const train::ModelTexts texts = train::texts_of_gguf(*checkpoint);
  const train::TorchModel model = train::TorchModel::load(*checkpoint, {});
  std::filesystem::create_directories(arguments.output);
  train::write_model_folder(arguments.output, model, texts,
                            arguments.half ? at::kBFloat16 : at::kFloat);
  if (context.json) {
    print_json({{"output", arguments.output.string()}});
  } else {
    fmt::print("{}\n", arguments.output.string());
  }
}

}  // namespace

void add_unpack_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("unpack", "A GGUF file as a folder that can be trained");
  auto arguments = std::make_shared<UnpackArguments>();
  command->add_option("MODEL", arguments->model, "The file; quantised weights become F32")
      ->type_name("FILE")
      ->required();
  command->add_option("-o,--output", arguments->output, "The folder to make")
      ->type_name("FOLDER")
      ->required();
  command->add_flag("--bf16", arguments->half, "Write BF16: half as large");
  add_json_option(*command, context);
  command->callback([arguments, &context] { unpack(*arguments, context); });
}

}  // namespace fathom
