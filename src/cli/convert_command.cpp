// `fathom convert` and `fathom quantize`: model files from model files.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <memory>

#include "base/progress.h"
#include "cli/commands.h"
#include "cli/model_loader.h"
#include "cli/model_store.h"
#include "formats/convert.h"
#include "formats/quantize.h"
#include "formats/quantize_mix.h"

namespace fathom {
namespace {

std::string type_names() {
  std::string names;
  for (const std::string_view name : QuantizeMix::names()) {
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

nlohmann::ordered_json report_json(const QuantizeReport& report, const std::string& output) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const TensorRecord& tensor : report.tensors) {
    nlohmann::ordered_json entry{{"name", tensor.name},
                                 {"from", to_string(tensor.from)},
                                 {"to", to_string(tensor.to)},
                                 {"bytes", tensor.bytes}};
    if (!tensor.fallback.empty()) entry["fallback"] = tensor.fallback;
    tensors.push_back(std::move(entry));
  }
  return {{"output", output},
          {"bytes_before", report.bytes_before},
          {"bytes_after", report.bytes_after},
          {"bits_per_weight", report.bits_per_weight()},
          {"weighted_tensors", report.weighted},
          {"tensors", std::move(tensors)}};
}

void print_report(const QuantizeReport& report, const std::string& output) {
  std::map<std::string, std::size_t> counts;
  std::size_t fallbacks = 0;
  std::string reason;
  for (const TensorRecord& tensor : report.tensors) {
    ++counts[std::string(to_string(tensor.to))];
    if (tensor.fallback.empty()) continue;
    if (fallbacks++ == 0) reason = tensor.fallback;
  }
  std::string types;
  for (const auto& [type, count] : counts) {
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", count, type);
  }
  fmt::print("{}: {} (was {}), {:.2f} bits a weight\ntensors: {}\n", output,
             format_bytes(report.bytes_after), format_bytes(report.bytes_before),
             report.bits_per_weight(), types);
  if (report.weighted > 0) {
    fmt::print("{} tensors were rounded by the importance matrix\n", report.weighted);
  }
  if (fallbacks > 0) {
    fmt::print("{} tensors got another type than asked, for instance: {}\n", fallbacks, reason);
  }
}

struct ConvertArguments {
  std::string folder, output;
  ConvertOptions convert;
};

void convert(const ConvertArguments& arguments, Context& context) {
  ConvertOptions options = arguments.convert;
  const CancelOnSignal cancel;
  options.progress = CancelOnSignal::watching(context.progress());
  const ConvertReport report = convert_to_gguf(arguments.folder, arguments.output, options);
  if (context.json) {
    nlohmann::ordered_json json = report_json(report, arguments.output);
    json["architecture"] = report.architecture;
    json["notes"] = report.notes;
    print_json(json);
    return;
  }
  print_report(report, arguments.output);
  for (const std::string& note : report.notes) print_note(context, "note: " + note);
}

struct QuantizeArguments {
  std::string input, output;
  QuantizeOptions quantize;
};

void quantize(const QuantizeArguments& arguments, Context& context) {
  QuantizeOptions options = arguments.quantize;
  const auto input = find_model(arguments.input, false, context);
  const CancelOnSignal cancel;
  options.progress = CancelOnSignal::watching(context.progress());
  const QuantizeReport report = quantize_gguf(input, arguments.output, options);
  if (context.json) {
    print_json(report_json(report, arguments.output));
  } else {
    print_report(report, arguments.output);
  }
}

}  // namespace

void add_convert_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("convert", "Make a GGUF file of a Hugging Face folder");
  auto arguments = std::make_shared<ConvertArguments>();
  command->add_option("FOLDER", arguments->folder, "With config.json and safetensors files")
      ->type_name("DIR")
      ->required();
  command->add_option("OUTPUT", arguments->output, "The GGUF file to write")
      ->type_name("FILE")
      ->required();
  ConvertOptions& options = arguments->convert;
  command->add_option("--type", options.type, "Type of the weights: " + type_names())
      ->type_name("TYPE")
      ->capture_default_str();
  command->add_flag("--pure", options.pure, "That type for every matrix, no mix");
  command->add_flag("--split-kv-b", options.split_kv_b,
                    "Write latent attention's kv_b as two matrices, as newer llama.cpp wants it");
  command
      ->add_option("--pre-tokenizer", options.pre_tokenizer,
                   "tokenizer.ggml.pre, where it cannot be told from tokenizer.json")
      ->type_name("NAME");
  command->add_option("--name", options.name, "general.name; the folder's name if not given")
      ->type_name("NAME");
  command->add_flag("--no-tokenizer", options.allow_no_tokenizer,
                    "Write a model without vocabulary if the folder has none");
  command->add_option("--threads", options.threads, "All CPUs if not given")->type_name("N");
  add_json_option(*command, context);
  command->footer("fathom convert DeepSeek-V2-Lite/ v2-lite.gguf --type Q4_K_M");
  command->callback([arguments, &context] { convert(*arguments, context); });
}

void add_quantize_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("quantize", "Write a GGUF model in a smaller type");
  auto arguments = std::make_shared<QuantizeArguments>();
  command->add_option("MODEL", arguments->input, "A GGUF file, or a name in the store")
      ->type_name("")
      ->required();
  command->add_option("OUTPUT", arguments->output, "The GGUF file to write")
      ->type_name("FILE")
      ->required();
  QuantizeOptions& options = arguments->quantize;
  command->add_option("--type", options.type, "One of " + type_names())
      ->type_name("TYPE")
      ->capture_default_str();
  command->add_flag("--pure", options.pure, "That type for every matrix, no mix");
  command->add_flag("--allow-requantize", options.allow_requantize,
                    "Take a model that is quantised already; it gets worse twice");
  command
      ->add_option(
          "--imatrix", options.imatrix,
          "Weigh errors by an importance matrix (of fathom eval --imatrix, or llama.cpp's)")
      ->type_name("FILE");
  command->add_option("--threads", options.threads, "All CPUs if not given")->type_name("N");
  add_json_option(*command, context);
  command->footer("fathom quantize model-bf16.gguf model-q4.gguf --type Q4_K_M");
  command->callback([arguments, &context] { quantize(*arguments, context); });
}

}  // namespace fathom
