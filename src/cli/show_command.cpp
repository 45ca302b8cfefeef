// `fathom show`: what a model file is, what it holds, and what it would need to run.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>

#include "base/memory.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/model_loader.h"
#include "engine/chat.h"
#include "engine/sampling_defaults.h"
#include "formats/describe.h"
#include "formats/file_text.h"
#include "model/model.h"

namespace fathom {
namespace {

struct ShowOptions {
  std::string model;
  bool tensors = false;
  bool metadata = false;
  bool chat_template = false;
};

/// A vocabulary is not for reading: long arrays are told by their length.
template <typename List>
nlohmann::ordered_json list(const List& values) {
  if (values.size() > 16) return fmt::format("[{} items]", values.size());
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const auto& each : values) json.push_back(each);
  return json;
}

nlohmann::ordered_json value_json(const MetaValue& value) {
  struct Visitor {
    nlohmann::ordered_json operator()(std::monostate) const { return nullptr; }
    nlohmann::ordered_json operator()(bool v) const { return v; }
    nlohmann::ordered_json operator()(std::int64_t v) const { return v; }
    nlohmann::ordered_json operator()(double v) const { return v; }
    nlohmann::ordered_json operator()(std::string_view v) const { return std::string(v); }
    nlohmann::ordered_json operator()(const MetaStrings& v) const { return list(v); }
    nlohmann::ordered_json operator()(const MetaInts& v) const { return list(v); }
    nlohmann::ordered_json operator()(const MetaFloats& v) const { return list(v); }
    nlohmann::ordered_json operator()(const MetaBools& v) const { return list(v); }
  };
  return std::visit(Visitor{}, static_cast<const MetaValue::variant&>(value));
}

/// A name from the file, quoted and escaped only if a terminal could stumble over it.
std::string safe(const std::string& name) {
  const std::string quoted = printable(name);
  return quoted == "'" + name + "'" ? name : quoted;
}

nlohmann::ordered_json metadata_json(const Checkpoint& checkpoint) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const std::string& key : checkpoint.metadata_keys()) {
    json[key] = value_json(*checkpoint.metadata(key));
  }
  return json;
}

nlohmann::ordered_json tensors_json(const Checkpoint& checkpoint) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    json.push_back({{"name", name},
                    {"dtype", std::string(to_string(tensor.dtype))},
                    {"shape", std::vector<std::uint64_t>(tensor.shape.dims().begin(),
                                                         tensor.shape.dims().end())},
                    {"bytes", tensor.data.size()}});
  }
  return json;
}

/// What running it takes, or why it cannot be run.
nlohmann::ordered_json running_json(const Checkpoint& checkpoint) {
  try {
    const ModelConfig config = read_model_config(checkpoint);
    const auto trained = static_cast<std::size_t>(config.max_position_embeddings);
    const std::size_t context = std::min(trained, ModelArguments::kDefaultContext);
    const MemoryEstimate estimate =
        estimate_memory(checkpoint, config, {}, context, DType::BF16, 512);
    const SamplingDefaults defaults = default_sampling(checkpoint);
    return {{"supported", true},
            {"memory",
             {{"total", estimate.total()},
              {"weights", estimate.weights_mapped + estimate.weights_packed},
              {"kv_cache", estimate.kv_cache},
              {"activations", estimate.activations},
              {"context", context},
              {"available", memory_limit().available}}},
            {"sampling",
             {{"temperature", defaults.params.temperature},
              {"top_k", defaults.params.top_k},
              {"top_p", defaults.params.top_p},
              {"min_p", defaults.params.min_p},
              {"source", defaults.source}}}};
  } catch (const Error& error) {
    return {{"supported", false}, {"reason", error.what()}};
  }
}

void print_running(const nlohmann::ordered_json& running) {
  if (!running["supported"].get<bool>()) {
    fmt::print("cannot be run   {}\n", running["reason"].get<std::string>());
    return;
  }
  const auto& memory = running["memory"];
  fmt::print("memory to run   {} with a context of {} tokens; {} available\n",
             format_bytes(memory["total"].get<std::uint64_t>()),
             memory["context"].get<std::size_t>(),
             format_bytes(memory["available"].get<std::uint64_t>()));
  const auto& sampling = running["sampling"];
  fmt::print("sampling        temperature {:.3g}, top-p {:.3g}, top-k {} ({})\n",
             sampling["temperature"].get<float>(), sampling["top_p"].get<float>(),
             sampling["top_k"].get<int>(), sampling["source"].get<std::string>());
}

void show(const ShowOptions& options, Context& context) {
  const auto checkpoint = open_checkpoint(find_model(options.model, false, context));
  if (options.chat_template) {
    const auto source = chat_template_source(*checkpoint);
    require(source.has_value(), ErrorCode::NotFound, "{} has no chat template", options.model);
    if (context.json) {
      print_json({{"chat_template", *source}});
    } else {
      std::fwrite(source->data(), 1, source->size(), stdout);
    }
    return;
  }
  const ModelDescription description = describe(*checkpoint);
  const nlohmann::ordered_json running = running_json(*checkpoint);
  if (context.json) {
    auto json = nlohmann::ordered_json::parse(to_json(description));
    json["running"] = running;
    if (options.metadata) json["metadata"] = metadata_json(*checkpoint);
    if (options.tensors) json["tensor_list"] = tensors_json(*checkpoint);
    print_json(json);
    return;
  }
  std::string text = to_text(description);
  if (!text.ends_with('\n')) text += '\n';
  std::fwrite(text.data(), 1, text.size(), stdout);
  print_running(running);
  if (options.metadata) {
    fmt::print("\n");
    for (const auto& [key, value] : metadata_json(*checkpoint).items()) {
      const std::string shown =
          value.is_string() ? printable(value.get_ref<const std::string&>()) : value.dump();
      fmt::print("{} = {}\n", safe(key), shown);
    }
  }
  if (options.tensors) {
    fmt::print("\n");
    for (const std::string& name : checkpoint->names()) {
      const TensorView tensor = checkpoint->tensor(name);
      fmt::print("{:<64} {:<8} {:<20} {}\n", safe(name), to_string(tensor.dtype),
                 tensor.shape.to_string(), format_bytes(tensor.data.size()));
    }
  }
}

}  // namespace

void add_show_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("show", "Tell what a model file is and needs");
  auto options = std::make_shared<ShowOptions>();
  command->add_option("MODEL", options->model, "A name in the store, a GGUF file, or a folder")
      ->type_name("")
      ->required();
  command->add_flag("--metadata", options->metadata, "Every key of the file");
  command->add_flag("--tensors", options->tensors, "Every tensor, with type, shape and size");
  command->add_flag("--template", options->chat_template, "Only the chat template's source");
  add_json_option(*command, context);
  command->footer("fathom show smollm2:135m --metadata");
  command->callback([options, &context] { show(*options, context); });
}

}  // namespace fathom
