// Hugging Face's tensors as GGUF's: renamed, experts stacked, q and k permuted, kv_b split, FP8
// multiplied out.
#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "base/checked.h"
#include "formats/convert_parts.h"
#include "formats/file_text.h"
#include "formats/gguf_names.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

/// "Q4_K_M" wants F32 rows whatever the source holds; this is where they come from.
struct Source {
  TensorView view;
  RowReader rows;
};

class TensorConverter {
 public:
  TensorConverter(const Checkpoint& source, const ConvertModel& model,
                  const ConvertOptions& options, std::vector<std::string>& notes)
      : source_(source), model_(model), options_(options), notes_(notes) {}

  std::vector<SourcedJob> run() {
    for (const std::string& name : source_.names()) {
      if (!passed_over(name)) convert(name);
    }
    require(model_.tied || has("lm_head.weight"), ErrorCode::Corrupt,
            "{}: has no lm_head.weight, but config.json does not say tie_word_embeddings",
            source_.path().string());
    add_rope_freqs();
    check_complete();
    sort_jobs();
    if (next_layers_ > 0) {
      notes_.push_back(
          fmt::format("{} tensors of layers from {} on (multi-token prediction) are left out",
                      next_layers_, model_.layers));
    }
    return std::move(jobs_);
  }

 private:
  bool has(std::string_view name) const { return source_.find(name).has_value(); }

  bool passed_over(const std::string& name) {
    if (name.ends_with(".weight_scale_inv")) {
      // Read with its weight; alone it is a contradiction.
      const std::string weight =
          name.substr(0, name.size() - std::string_view("_scale_inv").size());
      require(has(weight), ErrorCode::Corrupt, "{}: has {} but not {}", source_.path().string(),
              printable(name), printable(weight));
      return true;
    }
    if (name.ends_with(".rotary_emb.inv_freq")) return true;  // follows from rope_theta
    const auto layer = layer_of_tensor(name);
    if (layer && *layer >= model_.layers) {
      ++next_layers_;
      return true;
    }
    if (name == "lm_head.weight" && model_.tied) {
      notes_.push_back("lm_head.weight is left out: config.json ties it to the embedding");
      return true;
    }
    return false;
  }

  /// The tensor's rows as F32, FP8 scales applied.
  Source open(const std::string& name) const {
    const TensorView view = source_.tensor(name);
    if (view.dtype != DType::F8_E4M3) {
      const bool readable =
          view.dtype == DType::F32 || view.dtype == DType::F16 || view.dtype == DType::BF16;
      require(readable, ErrorCode::Unsupported, "{}: tensor {} has type {}",
              source_.path().string(), printable(name), to_string(view.dtype));
      return {view, rows_of(view)};
    }
    const auto scale = source_.find(name + "_scale_inv");
    require(scale.has_value(), ErrorCode::Corrupt, "{}: tensor {} is FP8 but has no {}",
            source_.path().string(), printable(name), printable(name + "_scale_inv"));
    check_fp8_blocks();
    return {view,
            [view, scale = *scale](std::uint64_t begin, std::uint64_t end, std::span<float> out) {
              dequantise_fp8_blocks(view, scale, begin, end, out);
            }};
  }

  void check_fp8_blocks() const {
    const MetaValue* sides = source_.metadata("quantization_config.weight_block_size");
    if (sides == nullptr) return;
    const auto* list = std::get_if<MetaInts>(sides);
    const bool known = list != nullptr && *list == MetaInts{kFp8Block, kFp8Block};
    require(known, ErrorCode::Unsupported,
            "{}: quantization_config.weight_block_size is not [128, 128]", source_.path().string());
  }

  void add(std::string gguf_name, Shape shape, DType from, RowReader rows,
           std::uint64_t together = 1) {
    jobs_.push_back(
        {{{std::move(gguf_name), DType::F32, shape}, {}, std::move(rows), together}, from});
  }

  void convert(const std::string& name) {
    if (const auto expert = stack_of_expert(name)) return convert_expert(name, *expert);
    const auto gguf_name = gguf_tensor_name(model_.architecture, name);
    require(gguf_name.has_value(), ErrorCode::Unsupported,
            "{}: tensor {} has no place in a GGUF file of architecture '{}'",
            source_.path().string(), printable(name), model_.architecture);
    const Source tensor = open(name);
    if (model_.permute_rope && is_rotated(name)) return convert_rotated(*gguf_name, name, tensor);
    if (options_.split_kv_b && name.ends_with(".self_attn.kv_b_proj.weight")) {
      return split_kv_b(name, tensor);
    }
    add(*gguf_name, tensor.view.shape, tensor.view.dtype, tensor.rows);
  }

  static bool is_rotated(std::string_view name) {
    return name.ends_with(".q_proj.weight") || name.ends_with(".q_proj.bias") ||
           name.ends_with(".k_proj.weight") || name.ends_with(".k_proj.bias");
  }

  /// Hugging Face's rope pairs element i of a head with i + head_dim/2, GGUF's 2i with 2i + 1: the
  /// rows of each head are dealt out anew. A bias is dealt out like a column of rows.
  void convert_rotated(const std::string& gguf_name, const std::string& name,
                       const Source& tensor) {
    const Shape& shape = tensor.view.shape;
    const std::uint64_t heads =
        name.find(".k_proj.") != std::string::npos ? model_.kv_heads : model_.heads;
    require(shape.rank() >= 1 && shape[0] == heads * model_.head_dim, ErrorCode::Corrupt,
            "{}: tensor {} has shape {}, expected {} heads of {} rows", source_.path().string(),
            printable(name), shape.to_string(), heads, model_.head_dim);
    const std::uint64_t dim = model_.head_dim;
    const auto origin = [dim](std::uint64_t row) {
      const std::uint64_t within = row % dim;
      return row - within + (within % 2) * (dim / 2) + within / 2;
    };
    const RowReader rows = tensor.rows;
    if (shape.rank() == 1) {
      add(gguf_name, shape, tensor.view.dtype,
          [rows, origin](std::uint64_t, std::uint64_t, std::span<float> out) {
            std::vector<float> all(out.size());
            rows(0, 1, all);
            for (std::uint64_t i = 0; i < out.size(); ++i) out[i] = all[origin(i)];
          });
      return;
    }
    const std::uint64_t columns = shape.row_elements();
    add(gguf_name, shape, tensor.view.dtype,
        [rows, origin, columns](std::uint64_t begin, std::uint64_t end, std::span<float> out) {
          for (std::uint64_t row = begin; row < end; ++row) {
            rows(origin(row), origin(row) + 1, out.subspan((row - begin) * columns, columns));
          }
        });
  }

  /// kv_b [heads * (qk_nope + v), kv_lora_rank] becomes k_b [heads, kv_lora_rank, qk_nope], each
  /// head transposed as absorbed attention multiplies it, and v_b [heads, v, kv_lora_rank].
  void split_kv_b(const std::string& name, const Source& tensor) {
    const std::uint64_t heads = model_.heads;
    const std::uint64_t rank = model_.kv_lora_rank;
    const std::uint64_t nope = model_.qk_nope_head_dim;
    const std::uint64_t value = model_.v_head_dim;
    require(tensor.view.shape == (Shape{heads * (nope + value), rank}), ErrorCode::Corrupt,
            "{}: tensor {} has shape {}, expected [{}, {}]", source_.path().string(),
            printable(name), tensor.view.shape.to_string(), heads * (nope + value), rank);
    const std::string prefix = fmt::format("blk.{}.", *layer_of_tensor(name));
    const RowReader rows = tensor.rows;
    const auto keys = [=](std::uint64_t begin, std::uint64_t end, std::span<float> out) {
      std::vector<float> head(nope * rank);
      for (std::uint64_t row = begin; row < end; ++row) {
        const std::uint64_t h = row / rank;
        const bool new_head = row == begin || row % rank == 0;
        if (new_head) rows(h * (nope + value), h * (nope + value) + nope, head);
        for (std::uint64_t d = 0; d < nope; ++d) {
          out[(row - begin) * nope + d] = head[d * rank + row % rank];
        }
      }
    };
    const auto values = [=](std::uint64_t begin, std::uint64_t end, std::span<float> out) {
      for (std::uint64_t row = begin; row < end; ++row) {
        const std::uint64_t from = row / value * (nope + value) + nope + row % value;
        rows(from, from + 1, out.subspan((row - begin) * rank, rank));
      }
    };
    add(prefix + "attn_k_b.weight", Shape{heads, rank, nope}, tensor.view.dtype, keys, rank);
    add(prefix + "attn_v_b.weight", Shape{heads, value, rank}, tensor.view.dtype, values);
  }

  /// The first expert of a stack brings in all; the others are passed over.
  void convert_expert(const std::string& name, const ExpertOfStack& expert) {
    const auto gguf_name = gguf_tensor_name(model_.architecture, expert.stack);
    require(gguf_name.has_value() && expert.expert < model_.experts, ErrorCode::Corrupt,
            "{}: tensor {} is of expert {}, but config.json has n_routed_experts = {}",
            source_.path().string(), printable(name), expert.expert, model_.experts);
    if (!stacks_.insert(expert.stack).second) return;
    const std::size_t dot = expert.stack.find(".experts.") + std::string_view(".experts.").size();
    const std::string head = expert.stack.substr(0, dot);
    const std::string tail = expert.stack.substr(dot);
    auto experts = std::make_shared<std::vector<RowReader>>();
    std::optional<TensorView> first;
    for (std::uint32_t e = 0; e < model_.experts; ++e) {
      const std::string part = fmt::format("{}{}.{}", head, e, tail);
      Source one = open(part);
      if (!first) first = one.view;
      require(one.view.shape == first->shape && one.view.shape.rank() == 2, ErrorCode::Corrupt,
              "{}: tensor {} has shape {}, but expert 0's has {}", source_.path().string(),
              printable(part), one.view.shape.to_string(), first->shape.to_string());
      experts->push_back(std::move(one.rows));
    }
    const std::uint64_t each = first->shape[0];
    const std::uint64_t columns = first->shape[1];
    add(*gguf_name, Shape{model_.experts, each, columns}, first->dtype,
        [experts, each, columns](std::uint64_t begin, std::uint64_t end, std::span<float> out) {
          while (begin < end) {
            const std::uint64_t e = begin / each;
            const std::uint64_t stop = std::min(end, (e + 1) * each);
            const std::uint64_t count = (stop - begin) * columns;
            (*experts)[e](begin - e * each, stop - e * each, out.first(count));
            out = out.subspan(count);
            begin = stop;
          }
        });
  }

  void add_rope_freqs() {
    if (model_.rope_freqs.empty()) return;
    const std::vector<float>& values = model_.rope_freqs;
    add("rope_freqs.weight", Shape{values.size()}, DType::F32,
        [&values](std::uint64_t, std::uint64_t, std::span<float> out) {
          std::copy(values.begin(), values.end(), out.begin());
        });
  }

  /// A folder with a layer missing would give a file that loads nowhere.
  void check_complete() const {
    std::set<std::uint32_t> layers;
    for (const SourcedJob& sourced : jobs_) {
      if (const auto layer = layer_of_tensor(sourced.job.plan.name)) layers.insert(*layer);
    }
    require(layers.size() == model_.layers && has("model.embed_tokens.weight") &&
                has("model.norm.weight"),
            ErrorCode::Corrupt,
            "{}: config.json has {} layers, the tensors {}; the download is probably incomplete",
            source_.path().string(), model_.layers, layers.size());
    const TensorView embedding = source_.tensor("model.embed_tokens.weight");
    require(embedding.shape == (Shape{model_.vocab_size, model_.hidden_size}), ErrorCode::Corrupt,
            "{}: model.embed_tokens.weight has shape {}, but config.json gives [{}, {}]",
            source_.path().string(), embedding.shape.to_string(), model_.vocab_size,
            model_.hidden_size);
  }

  /// Layer by layer: a reader then finds what it needs together, whatever order the shards had.
  void sort_jobs() {
    std::map<std::int64_t, std::vector<SourcedJob>> layers;
    for (SourcedJob& sourced : jobs_) {
      const auto layer = layer_of_tensor(sourced.job.plan.name);
      layers[layer ? std::int64_t{*layer} : -1].push_back(std::move(sourced));
    }
    jobs_.clear();
    for (auto& [layer, jobs] : layers)
      std::move(jobs.begin(), jobs.end(), std::back_inserter(jobs_));
  }

  const Checkpoint& source_;
  const ConvertModel& model_;
  const ConvertOptions& options_;
  std::vector<std::string>& notes_;
  std::vector<SourcedJob> jobs_;
  std::set<std::string> stacks_;
  std::size_t next_layers_ = 0;
};

}  // namespace

std::vector<SourcedJob> convert_tensors(const Checkpoint& source, const ConvertModel& model,
                                        const ConvertOptions& options,
                                        std::vector<std::string>& notes) {
  return TensorConverter(source, model, options, notes).run();
}

}  // namespace fathom
