#include "formats/random_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <numbers>
#include <random>
#include <span>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "formats/convert_parts.h"
#include "formats/memory_checkpoint.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

constexpr double kDeviation = 0.02;  // what published models begin with

/// Zeros that take no memory as long as nobody reads them.
struct Nothing {
  std::unique_ptr<std::byte, decltype(&std::free)> bytes{nullptr, &std::free};
  std::span<const std::byte> first(std::uint64_t count) const { return {bytes.get(), count}; }
  void reserve(std::uint64_t count) {
    bytes.reset(static_cast<std::byte*>(std::calloc(count, 1)));
    if (bytes == nullptr) throw std::bad_alloc();
  }
};

/// The Hugging Face tensors of a configuration, as views of `nothing`: only names and shapes count.
class TensorList {
 public:
  explicit TensorList(MemoryCheckpoint& source) : source_(source) {
    const std::uint64_t hidden = number("hidden_size");
    const std::uint64_t vocabulary = number("vocab_size");
    plan("model.embed_tokens.weight", {vocabulary, hidden});
    for (std::uint64_t layer = 0; layer < number("num_hidden_layers"); ++layer) add_layer(layer);
    plan("model.norm.weight", {hidden});
    if (!source_.get_bool("tie_word_embeddings").value_or(false)) {
      plan("lm_head.weight", {vocabulary, hidden});
    }
  }

  std::uint64_t elements() const {
    std::uint64_t sum = 0;
    for (const auto& [name, shape] : planned_) sum = checked_add(sum, shape.elements());
    return sum;
  }

  void add_to_source(Nothing& nothing) const {
    // One stretch of bytes serves every view; it is sized before the first view is made.
    std::uint64_t largest = 0;
    for (const auto& [name, shape] : planned_) {
      largest = std::max(largest, tensor_bytes(DType::BF16, shape));
    }
    nothing.reserve(largest);
    for (const auto& [name, shape] : planned_) {
      const std::uint64_t bytes = tensor_bytes(DType::BF16, shape);
      source_.add_view(name, {DType::BF16, shape, nothing.first(bytes)});
    }
  }

 private:
  std::uint64_t number(std::string_view key, std::optional<std::int64_t> absent = {}) const {
    const std::int64_t value =
        absent ? source_.get_int(key).value_or(*absent) : source_.need_int(key);
    return checked_cast<std::uint64_t>(value);
  }
  void plan(std::string name, Shape shape) { planned_.emplace_back(std::move(name), shape); }

  void add_layer(std::uint64_t layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const std::uint64_t hidden = number("hidden_size");
    plan(prefix + "input_layernorm.weight", {hidden});
    if (source_.get_int("kv_lora_rank")) {
      add_latent_attention(prefix + "self_attn.");
    } else {
      add_grouped_attention(prefix + "self_attn.");
    }
    plan(prefix + "post_attention_layernorm.weight", {hidden});
    const std::uint64_t experts = number("n_routed_experts", 0);
    if (experts == 0 || layer < number("first_k_dense_replace", 0)) {
      return add_mlp(prefix + "mlp.", number("intermediate_size"));
    }
    const std::uint64_t width = number("moe_intermediate_size");
    plan(prefix + "mlp.gate.weight", {experts, hidden});
    if (source_.get_string("topk_method") == "noaux_tc") {
      plan(prefix + "mlp.gate.e_score_correction_bias", {experts});
    }
    for (std::uint64_t expert = 0; expert < experts; ++expert) {
      add_mlp(prefix + "mlp.experts." + std::to_string(expert) + ".", width);
    }
    const std::uint64_t shared = number("n_shared_experts", 0);
    if (shared > 0) add_mlp(prefix + "mlp.shared_experts.", shared * width);
  }

  void add_latent_attention(const std::string& prefix) {
    const std::uint64_t hidden = number("hidden_size");
    const std::uint64_t heads = number("num_attention_heads");
    const std::uint64_t rope = number("qk_rope_head_dim");
    const std::uint64_t nope = number("qk_nope_head_dim");
    const std::uint64_t value = number("v_head_dim");
    const std::uint64_t rank = number("kv_lora_rank");
    const std::uint64_t q_rank = number("q_lora_rank", 0);
    if (q_rank == 0) {
      plan(prefix + "q_proj.weight", {heads * (nope + rope), hidden});
    } else {
      plan(prefix + "q_a_proj.weight", {q_rank, hidden});
      plan(prefix + "q_a_layernorm.weight", {q_rank});
      plan(prefix + "q_b_proj.weight", {heads * (nope + rope), q_rank});
    }
    plan(prefix + "kv_a_proj_with_mqa.weight", {rank + rope, hidden});
    plan(prefix + "kv_a_layernorm.weight", {rank});
    plan(prefix + "kv_b_proj.weight", {heads * (nope + value), rank});
    plan(prefix + "o_proj.weight", {hidden, heads * value});
  }

  void add_grouped_attention(const std::string& prefix) {
    const std::uint64_t hidden = number("hidden_size");
    const std::uint64_t heads = number("num_attention_heads");
    const std::uint64_t kv_heads = number("num_key_value_heads");
    const std::uint64_t dim =
        number("head_dim", checked_cast<std::int64_t>(hidden / std::max<std::uint64_t>(heads, 1)));
    const bool bias = source_.get_string("model_type") == "qwen2";
    for (const auto& [name, rows] : {std::pair{"q_proj", heads * dim},
                                     {"k_proj", kv_heads * dim},
                                     {"v_proj", kv_heads * dim}}) {
      plan(prefix + name + ".weight", {rows, hidden});
      if (bias) plan(prefix + name + ".bias", {rows});
    }
    plan(prefix + "o_proj.weight", {hidden, heads * dim});
    if (source_.get_string("model_type") == "qwen3") {
      plan(prefix + "q_norm.weight", {dim});
      plan(prefix + "k_norm.weight", {dim});
    }
  }

  void add_mlp(const std::string& prefix, std::uint64_t width) {
    const std::uint64_t hidden = number("hidden_size");
    plan(prefix + "gate_proj.weight", {width, hidden});
    plan(prefix + "up_proj.weight", {width, hidden});
    plan(prefix + "down_proj.weight", {hidden, width});
  }

  MemoryCheckpoint& source_;
  std::vector<std::pair<std::string, Shape>> planned_;
};

std::uint64_t mixed(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

/// A million normal values rounded to a type: the blocks that rows are taken from.
class BlockPool {
 public:
  BlockPool(DType dtype, std::uint64_t seed)
      : block_elements_(info(dtype).block_elements), block_bytes_(info(dtype).block_bytes) {
    std::vector<float> values(kElements);
    std::mt19937_64 random(seed);
    // Box and Muller's, as std::normal_distribution differs from one library to the next.
    for (std::size_t i = 0; i < values.size(); i += 2) {
      const double u = (static_cast<double>(random() >> 11) + 1) * 0x1p-53;
      const double angle = 2 * std::numbers::pi * static_cast<double>(random() >> 11) * 0x1p-53;
      const double radius = kDeviation * std::sqrt(-2 * std::log(u));
      values[i] = static_cast<float>(radius * std::cos(angle));
      values[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
    bytes_.resize(kElements / block_elements_ * block_bytes_);
    if (dtype == DType::F32) {
      std::memcpy(bytes_.data(), values.data(), bytes_.size());
    } else {
      quantise(dtype, values, bytes_);
    }
  }

  /// `out` holds whole blocks; they come from the place that `key` chooses.
  void fill(std::uint64_t key, std::span<std::byte> out) const {
    std::size_t at = mixed(key) % (bytes_.size() / block_bytes_) * block_bytes_;
    while (!out.empty()) {
      const std::size_t count = std::min(out.size(), bytes_.size() - at);
      std::memcpy(out.data(), bytes_.data() + at, count);
      out = out.subspan(count);
      at = 0;
    }
  }

 private:
  static constexpr std::size_t kElements = std::size_t{1} << 20;
  std::size_t block_elements_, block_bytes_;
  std::vector<std::byte> bytes_;
};

/// Rows of random blocks in whatever type the mix has chosen when they are asked for.
class RandomRows {
 public:
  explicit RandomRows(std::uint64_t seed) : seed_(seed) {}

  /// Before the threads start: the pool of a type is made here.
  RowEncoder encoder(DType dtype, const Shape& shape, std::uint64_t tensor) {
    auto& pool = pools_[dtype];
    if (!pool) pool = std::make_shared<const BlockPool>(dtype, seed_);
    const std::size_t bytes = row_bytes(dtype, shape.row_elements());
    const std::uint64_t base = mixed(seed_ ^ mixed(tensor));
    return [pool, bytes, base](std::uint64_t begin, std::uint64_t end, std::span<std::byte> out) {
      for (std::uint64_t row = begin; row < end; ++row) {
        pool->fill(base + row, out.subspan((row - begin) * bytes, bytes));
      }
    };
  }

 private:
  std::uint64_t seed_;
  std::map<DType, std::shared_ptr<const BlockPool>> pools_;
};

RowReader constant_rows(float value) {
  return [value](std::uint64_t, std::uint64_t, std::span<float> out) {
    std::ranges::fill(out, value);
  };
}

/// The 256 bytes as byte-level BPE writes them, one merge, and then names of nothing.
void made_up_vocabulary(const ModelShape& shape, std::uint32_t size, GgufMetadata& metadata) {
  require(size >= 260, ErrorCode::InvalidArgument,
          "{}: a vocabulary of {} has no room for the 256 bytes and the special tokens", shape.name,
          size);
  std::vector<std::string> tokens;
  const auto add = [&tokens](std::uint32_t code) {
    std::string text;
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {  // all are below 0x800
      text += static_cast<char>(0xC0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 0x3F));
    }
    tokens.push_back(std::move(text));
  };
  // GPT-2's rule: a printable byte stands for itself, the others for U+0100 and up.
  std::uint32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    add(printable ? byte : next++);
  }
  tokens.emplace_back("\xC4\xA0t");  // a space and a t
  std::vector<std::int32_t> types(tokens.size(), 1);
  const auto bos = static_cast<std::uint32_t>(tokens.size());
  tokens.emplace_back("<|begin of made-up text|>");
  tokens.emplace_back("<|end of made-up text|>");
  types.resize(tokens.size(), 3);
  while (tokens.size() < size)
    tokens.push_back("<|made up " + std::to_string(tokens.size()) + "|>");
  types.resize(tokens.size(), 4);
  metadata.string("tokenizer.ggml.model", "gpt2");
  metadata.string("tokenizer.ggml.pre", shape.pre_tokenizer);
  metadata.strings("tokenizer.ggml.tokens", tokens);
  metadata.i32s("tokenizer.ggml.token_type", types);
  metadata.strings("tokenizer.ggml.merges", std::array{std::string("\xC4\xA0 t")});
  metadata.u32("tokenizer.ggml.bos_token_id", bos);
  metadata.u32("tokenizer.ggml.eos_token_id", bos + 1);
  metadata.boolean("tokenizer.ggml.add_bos_token", false);
}

void require_room(const std::filesystem::path& output, std::uint64_t bytes) {
  std::error_code unknown;
  const auto folder = std::filesystem::absolute(output).parent_path();
  const std::filesystem::space_info space = std::filesystem::space(folder, unknown);
  require(unknown || bytes <= space.available, ErrorCode::InvalidArgument,
          "{}: {} are to be written, but {} are free there", output.string(), format_bytes(bytes),
          format_bytes(space.available));
}

MemoryCheckpoint configuration(const ModelShape& shape, std::optional<std::uint32_t> layers) {
  MemoryCheckpoint source{std::string(shape.name)};
  source.set_config(shape.config);
  if (layers) source.set("num_hidden_layers", std::int64_t{*layers});
  return source;
}

}  // namespace

std::uint64_t parameter_count(const ModelShape& shape, std::optional<std::uint32_t> layers) {
  MemoryCheckpoint source = configuration(shape, layers);
  return TensorList(source).elements();
}

ConvertReport make_random_gguf(const ModelShape& shape, const std::filesystem::path& output,
                               const RandomModelOptions& options) {
  ConvertOptions convert;
  convert.type = options.type;
  convert.pure = options.pure;
  convert.split_kv_b = options.split_kv_b;
  convert.name = std::string(shape.name) + " (random weights)";
  convert.threads = options.threads;
  convert.progress = options.progress;
  convert.activity = "making";

  MemoryCheckpoint source = configuration(shape, options.layers);
  Nothing nothing;
  TensorList(source).add_to_source(nothing);

  ConvertReport report;
  GgufMetadata metadata;
  const ConvertModel model = convert_config(source, convert, metadata);
  made_up_vocabulary(shape, model.vocab_size, metadata);
  std::vector<SourcedJob> jobs = convert_tensors(source, model, convert, report.notes);
  report.bytes_before = source.weight_bytes();

  choose_types(jobs, model, convert, report);
  require_room(output, report.bytes_after);

  RandomRows random(options.seed);
  std::uint64_t number = 0;
  for (SourcedJob& one : jobs) {
    TensorJob& job = one.job;
    ++number;
    if (job.plan.name == "rope_freqs.weight") continue;  // follows from the configuration
    if (job.plan.shape.rank() == 1) {
      // Norms of 1 and biases of 0 keep activations in a trained model's range.
      job.rows = constant_rows(job.plan.name.ends_with("norm.weight") ? 1.0F : 0.0F);
    } else {
      job.encoded = random.encoder(job.plan.dtype, job.plan.shape, number);
    }
  }
  write_converted(output, std::move(metadata), std::move(jobs), convert, [] {});
  return report;
}

}  // namespace fathom
