#include "formats/describe.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/json_guard.h"
#include "base/progress.h"
#include "formats/file_text.h"
#include "formats/gguf_checkpoint.h"
#include "formats/hf_checkpoint.h"
#include "formats/quantize_mix.h"

namespace fathom {
namespace {

/// An integer, or absent: also when it is something else, as per-layer lists are in some models.
std::optional<std::int64_t> integer(const Checkpoint& checkpoint, const std::string& key) {
  const MetaValue* value = checkpoint.metadata(key);
  const auto* number = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  return number == nullptr ? std::nullopt : std::optional(*number);
}

std::string text(const Checkpoint& checkpoint, const std::string& key) {
  return std::string(checkpoint.get_string(key).value_or(""));
}

void read_gguf_keys(const Checkpoint& checkpoint, ModelDescription& d) {
  d.architecture = text(checkpoint, "general.architecture");
  d.name = text(checkpoint, "general.name");
  d.license = text(checkpoint, "general.license");
  const auto key = [&](const char* name) {
    return integer(checkpoint, d.architecture + "." + name);
  };
  d.context_length = key("context_length");
  d.layers = key("block_count");
  d.hidden_size = key("embedding_length");
  d.heads = key("attention.head_count");
  d.kv_heads = key("attention.head_count_kv");
  d.kv_lora_rank = key("attention.kv_lora_rank");
  d.vocab_size = key("vocab_size");
  d.experts = key("expert_count");
  d.experts_used = key("expert_used_count");
  d.shared_experts = key("expert_shared_count");
  d.tokenizer = text(checkpoint, "tokenizer.ggml.model");
  if (d.tokenizer == "none") d.tokenizer.clear();
  d.pre_tokenizer = text(checkpoint, "tokenizer.ggml.pre");
  d.chat_template = checkpoint.metadata("tokenizer.chat_template") != nullptr;
  if (!d.vocab_size) {
    const MetaValue* tokens = checkpoint.metadata("tokenizer.ggml.tokens");
    const auto* list = tokens == nullptr ? nullptr : std::get_if<MetaStrings>(tokens);
    if (list != nullptr) d.vocab_size = static_cast<std::int64_t>(list->size());
  }
  if (const auto file_type = integer(checkpoint, "general.file_type")) {
    d.quantisation = QuantizeMix::name_of_file_type(*file_type);
  }
}

void read_config_keys(const Checkpoint& checkpoint, ModelDescription& d) {
  d.architecture = text(checkpoint, "model_type");
  const auto key = [&](const char* name) { return integer(checkpoint, name); };
  d.context_length = key("max_position_embeddings");
  d.layers = key("num_hidden_layers");
  d.hidden_size = key("hidden_size");
  d.heads = key("num_attention_heads");
  d.kv_heads = key("num_key_value_heads");
  d.kv_lora_rank = key("kv_lora_rank");
  d.vocab_size = key("vocab_size");
  d.experts = key("n_routed_experts");
  d.experts_used = key("num_experts_per_tok");
  d.shared_experts = key("n_shared_experts");
  if (text(checkpoint, "quantization_config.quant_method") == "fp8") {
    const MetaValue* block = checkpoint.metadata("quantization_config.weight_block_size");
    const auto* sides = block == nullptr ? nullptr : std::get_if<MetaInts>(block);
    d.quantisation = sides != nullptr && sides->size() == 2
                         ? fmt::format("FP8 {}x{}", (*sides)[0], (*sides)[1])
                         : "FP8";
  }
}

void read_tokenizer_files(const std::filesystem::path& folder, ModelDescription& d) {
  const auto present = [&](const char* name) { return is_present(folder / name); };
  d.name = std::filesystem::absolute(folder).lexically_normal().filename().string();
  if (present("tokenizer.model")) d.tokenizer = "tokenizer.model";
  if (present("tokenizer.json")) d.tokenizer = "tokenizer.json";
  d.chat_template = present("chat_template.jinja");
  if (d.chat_template || !present("tokenizer_config.json")) return;
  const auto file = resolve_inside(folder, "tokenizer_config.json", folder);
  MetadataMap config;
  config.add_json(read_text_file(file, 16u << 20), "", file);
  d.chat_template = config.contains("chat_template") || config.contains("chat_template.0.template");
}

/// A fraction of a count that may be large, without overflow.
std::uint64_t share(std::uint64_t count, std::int64_t used, std::int64_t of) {
  return static_cast<std::uint64_t>(static_cast<long double>(count) *
                                    static_cast<long double>(used) / static_cast<long double>(of));
}

void count_tensors(const Checkpoint& checkpoint, ModelDescription& d) {
  std::map<DType, TypeUse> uses;
  const std::int64_t experts = d.experts.value_or(0);
  const std::int64_t used = std::clamp<std::int64_t>(d.experts_used.value_or(0), 0, experts);
  for (const std::string& name : checkpoint.names()) {
    const TensorView view = checkpoint.tensor(name);
    TypeUse& use = uses.emplace(view.dtype, TypeUse{view.dtype}).first->second;
    ++use.tensors;
    use.elements += view.shape.elements();
    use.bytes += view.data.size();
    ++d.tensors;
    if (name.ends_with("_scale_inv") || name == "rope_freqs.weight") continue;
    d.parameters += view.shape.elements();
    const bool routed = name.find(".mlp.experts.") != std::string::npos && experts > 0;
    d.active_parameters +=
        routed ? share(view.shape.elements(), used, experts) : view.shape.elements();
  }
  for (const auto& [dtype, use] : uses) d.types.push_back(use);
  std::sort(d.types.begin(), d.types.end(), [](const TypeUse& a, const TypeUse& b) {
    return std::pair(b.bytes, a.dtype) < std::pair(a.bytes, b.dtype);
  });
  if (d.quantisation.empty() && !d.types.empty()) d.quantisation = to_string(d.types[0].dtype);
}

std::string grouped(std::uint64_t number) {
  if (number >= 1'000'000'000) return fmt::format("{:.2f} B", static_cast<double>(number) / 1e9);
  if (number >= 1'000'000) return fmt::format("{:.1f} M", static_cast<double>(number) / 1e6);
  return std::to_string(number);
}

/// Text of a file for a terminal: printable() without its quotes.
std::string plain(std::string_view text) {
  const std::string quoted = printable(text);
  return quoted.ends_with('\'') ? quoted.substr(1, quoted.size() - 2) : quoted.substr(1);
}

}  // namespace

double ModelDescription::bits_per_weight() const {
  return parameters == 0
             ? 0
             : 8.0 * static_cast<double>(weight_bytes) / static_cast<double>(parameters);
}

ModelDescription describe(const Checkpoint& checkpoint) {
  ModelDescription d;
  d.path = checkpoint.path();
  d.weight_bytes = checkpoint.weight_bytes();
  if (const auto* gguf = dynamic_cast<const GgufCheckpoint*>(&checkpoint)) {
    d.format = fmt::format("GGUF v{}", gguf->files().front().version());
    for (const GgufFile& file : gguf->files()) d.files.push_back({file.path(), file.map().size()});
  } else if (const auto* hf = dynamic_cast<const HfCheckpoint*>(&checkpoint)) {
    d.format = "safetensors";
    for (const SafetensorsFile& file : hf->files()) {
      d.files.push_back({file.path(), file.map().size()});
    }
    if (std::filesystem::is_directory(d.path)) read_tokenizer_files(d.path, d);
  } else {
    d.format = "memory";
  }
  if (checkpoint.source() == CheckpointSource::Gguf) {
    read_gguf_keys(checkpoint, d);
  } else {
    read_config_keys(checkpoint, d);
  }
  count_tensors(checkpoint, d);
  return d;
}

std::string to_json(const ModelDescription& d) {
  nlohmann::ordered_json j;
  j["path"] = d.path.string();
  j["format"] = d.format;
  j["architecture"] = d.architecture;
  j["name"] = d.name;
  j["license"] = d.license;
  j["quantisation"] = d.quantisation;
  j["parameters"] = d.parameters;
  j["active_parameters"] = d.active_parameters;
  j["weight_bytes"] = d.weight_bytes;
  j["bits_per_weight"] = d.bits_per_weight();
  j["tensors"] = d.tensors;
  j["types"] = nlohmann::ordered_json::array();
  for (const TypeUse& use : d.types) {
    j["types"].push_back({{"type", to_string(use.dtype)},
                          {"tensors", use.tensors},
                          {"elements", use.elements},
                          {"bytes", use.bytes}});
  }
  j["files"] = nlohmann::ordered_json::array();
  for (const FileUse& file : d.files) {
    j["files"].push_back({{"path", file.path.string()}, {"bytes", file.bytes}});
  }
  const auto put = [&](const char* key, const std::optional<std::int64_t>& value) {
    j[key] = value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
  };
  put("context_length", d.context_length);
  put("layers", d.layers);
  put("hidden_size", d.hidden_size);
  put("heads", d.heads);
  put("kv_heads", d.kv_heads);
  put("kv_lora_rank", d.kv_lora_rank);
  put("vocab_size", d.vocab_size);
  put("experts", d.experts);
  put("experts_used", d.experts_used);
  put("shared_experts", d.shared_experts);
  j["tokenizer"] = d.tokenizer;
  j["pre_tokenizer"] = d.pre_tokenizer;
  j["chat_template"] = d.chat_template;
  // A file's text need not be UTF-8; JSON must be.
  return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string to_text(const ModelDescription& d) {
  std::string out;
  const auto line = [&](std::string_view label, const std::string& value) {
    if (!value.empty()) out += fmt::format("{:<16}{}\n", label, value);
  };
  const auto number = [](const std::optional<std::int64_t>& value) {
    return value ? std::to_string(*value) : std::string();
  };
  line("name in file", plain(d.name));  // its maker's, which may be an odd one
  line("architecture", plain(d.architecture));
  line("format", d.format);
  line("quantisation",
       fmt::format("{}, {:.2f} bits a weight", plain(d.quantisation), d.bits_per_weight()));
  std::string parameters = grouped(d.parameters);
  if (d.active_parameters != d.parameters)
    parameters += ", " + grouped(d.active_parameters) + " active a token";
  line("parameters", parameters);
  line("weights", fmt::format("{} in {} tensors", format_bytes(d.weight_bytes), d.tensors));
  for (const TypeUse& use : d.types) {
    line("", fmt::format("{:<8} {:>6} tensors  {:>12}", to_string(use.dtype), use.tensors,
                         format_bytes(use.bytes)));
  }
  line("context", number(d.context_length));
  line("layers", number(d.layers));
  line("hidden size", number(d.hidden_size));
  std::string heads = number(d.heads);
  if (d.kv_heads && d.kv_heads != d.heads)
    heads += ", " + number(d.kv_heads) + " for keys and values";
  if (d.kv_lora_rank) heads += ", latent of " + number(d.kv_lora_rank);
  line("heads", heads);
  if (d.experts.value_or(0) > 0) {
    line("experts", fmt::format("{} routed, {} used, {} shared", *d.experts,
                                d.experts_used.value_or(0), d.shared_experts.value_or(0)));
  }
  line("vocabulary", number(d.vocab_size));
  std::string tokenizer = plain(d.tokenizer.empty() ? "none" : d.tokenizer);
  if (!d.pre_tokenizer.empty()) tokenizer += ", " + plain(d.pre_tokenizer);
  line("tokenizer", tokenizer);
  line("chat template", d.chat_template ? "yes" : "no");
  line("licence", plain(d.license));
  for (const FileUse& file : d.files) {
    line("file", fmt::format("{}  {}", plain(file.path.string()), format_bytes(file.bytes)));
  }
  return out;
}

}  // namespace fathom
