#include "formats/quantize_mix.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "formats/file_text.h"
#include "formats/gguf_names.h"

namespace fathom {
namespace {

struct Mix {
  std::string_view name;
  DType base;
  std::uint32_t file_type;
};

/// file_type: the numbers of llama.cpp's enum llama_ftype.
constexpr std::array kMixes{
    Mix{"F32", DType::F32, 0},          Mix{"F16", DType::F16, 1},
    Mix{"BF16", DType::BF16, 32},       Mix{"Q8_0", DType::Q8_0, 7},
    Mix{"Q4_0", DType::Q4_0, 2},        Mix{"Q4_1", DType::Q4_1, 3},
    Mix{"Q5_0", DType::Q5_0, 8},        Mix{"Q5_1", DType::Q5_1, 9},
    Mix{"Q2_K", DType::Q2_K, 10},       Mix{"Q2_K_S", DType::Q2_K, 21},
    Mix{"Q3_K_S", DType::Q3_K, 11},     Mix{"Q3_K_M", DType::Q3_K, 12},
    Mix{"Q3_K_L", DType::Q3_K, 13},     Mix{"Q4_K_S", DType::Q4_K, 14},
    Mix{"Q4_K_M", DType::Q4_K, 15},     Mix{"Q5_K_S", DType::Q5_K, 16},
    Mix{"Q5_K_M", DType::Q5_K, 17},     Mix{"Q6_K", DType::Q6_K, 18},
    Mix{"IQ1_S", DType::IQ1_S, 24},     Mix{"IQ1_M", DType::IQ1_M, 31},
    Mix{"IQ2_XXS", DType::IQ2_XXS, 19}, Mix{"IQ2_XS", DType::IQ2_XS, 20},
    Mix{"IQ2_S", DType::IQ2_XS, 28},    Mix{"IQ2_M", DType::IQ2_S, 29},
    Mix{"IQ3_XXS", DType::IQ3_XXS, 23}, Mix{"IQ3_XS", DType::IQ3_S, 22},
    Mix{"IQ3_S", DType::IQ3_S, 26},     Mix{"IQ3_M", DType::IQ3_S, 27},
    Mix{"IQ4_NL", DType::IQ4_NL, 25},   Mix{"IQ4_XS", DType::IQ4_XS, 30},
};

std::string upper(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) {
    return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  });
  return result;
}

/// The first and last eighth of the layers, and every third between.
bool important_layer(std::uint32_t layer, std::uint32_t layers) {
  const std::uint32_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

/// Kept in full: they are small, and rounding them moves every token (norms) or sends tokens to
/// other experts (the router).
bool kept_in_full(std::string_view name, const Shape& shape) {
  return shape.rank() < 2 || !name.ends_with(".weight") || name.ends_with("_norm.weight") ||
         name.ends_with("ffn_gate_inp.weight") || name.ends_with("ffn_gate_inp_shexp.weight");
}

/// What stands in when a row is not a whole number of blocks of 256: the smallest blocks of 32 that
/// are not worse.
DType smaller_blocks(DType dtype) {
  switch (dtype) {
    case DType::IQ1_S:
    case DType::IQ1_M:
    case DType::IQ2_XXS:
    case DType::IQ2_XS:
    case DType::IQ2_S:
    case DType::IQ3_XXS:
    case DType::IQ3_S:
    case DType::IQ4_XS:
      return DType::IQ4_NL;
    case DType::Q2_K:
    case DType::Q3_K:
      return DType::Q4_0;
    case DType::Q4_K:
      return DType::Q5_0;
    case DType::Q5_K:
      return DType::Q5_1;
    case DType::Q6_K:
      return DType::Q8_0;
    default:
      return DType::F16;
  }
}

}  // namespace

bool needs_importance(DType dtype) {
  return dtype == DType::IQ1_S || dtype == DType::IQ1_M || dtype == DType::IQ2_XXS ||
         dtype == DType::IQ2_XS;
}

QuantizeMix::QuantizeMix(std::string_view name, bool pure) : pure_(pure) {
  std::string wanted = upper(name);
  if (wanted == "Q3_K" || wanted == "Q4_K" || wanted == "Q5_K") wanted += "_M";
  const auto* mix =
      std::find_if(kMixes.begin(), kMixes.end(), [&](const Mix& m) { return m.name == wanted; });
  require(mix != kMixes.end(), ErrorCode::InvalidArgument, "{} is not a type; known are {}",
          printable(name), fmt::join(names(), ", "));
  name_ = mix->name;
  base_ = mix->base;
  file_type_ = mix->file_type;
}

std::vector<std::string_view> QuantizeMix::names() {
  std::vector<std::string_view> names;
  for (const Mix& mix : kMixes) names.push_back(mix.name);
  return names;
}

std::string_view QuantizeMix::name_of_file_type(std::int64_t file_type) {
  for (const Mix& mix : kMixes) {
    if (std::cmp_equal(mix.file_type, file_type)) return mix.name;
  }
  return "";
}

MixChoice QuantizeMix::choose(std::string_view gguf_name, const Shape& shape,
                              const MixModel& model) const {
  if (kept_in_full(gguf_name, shape)) return {DType::F32, ""};
  DType dtype = base_;
  if (!pure_ && info(base_).quantised) dtype = mixed(gguf_name, shape, model);
  const std::uint64_t row = shape.row_elements();
  const std::size_t block = info(dtype).block_elements;
  if (row % block == 0) return {dtype, ""};
  std::string why =
      fmt::format("{} needs rows in blocks of {}, these have {}", to_string(dtype), block, row);
  dtype = smaller_blocks(dtype);
  if (row % info(dtype).block_elements != 0) dtype = DType::F16;
  return {dtype, std::move(why)};
}

DType QuantizeMix::mixed(std::string_view gguf_name, const Shape& shape,
                         const MixModel& model) const {
  const auto named = [&](std::string_view part) {
    return gguf_name.find(part) != std::string_view::npos;
  };
  const auto is = [&](std::string_view mix) { return name_ == mix; };
  const std::uint32_t layer = layer_of_tensor(gguf_name).value_or(0);
  const bool important = important_layer(layer, model.layers);

  if (name_.starts_with("IQ")) return mixed_iq(gguf_name, shape, model);
  if (gguf_name == "output.weight" || (gguf_name == "token_embd.weight" && !model.has_output)) {
    if (shape.row_elements() % info(DType::Q6_K).block_elements != 0) return DType::Q8_0;
    return base_ == DType::Q8_0 ? DType::Q8_0 : DType::Q6_K;
  }
  if (named("attn_v.weight") || named("attn_kv_b.weight") || named("attn_v_b.weight")) {
    // Few values shared by many heads are cheap to keep well.
    const bool shared = model.heads_per_kv_head >= 4;
    if (is("Q2_K")) return shared ? DType::Q4_K : DType::Q3_K;
    if (is("Q2_K_S") && shared) return DType::Q4_K;
    if (is("Q3_K_M")) return layer < 2 ? DType::Q5_K : DType::Q4_K;
    if (is("Q3_K_L")) return DType::Q5_K;
    if ((is("Q4_K_M") || is("Q5_K_M")) && important) return DType::Q6_K;
    if (is("Q4_K_S") && layer < 4) return DType::Q5_K;
    return base_;
  }
  if (named("ffn_down")) {
    if (is("Q2_K")) return DType::Q3_K;
    if (is("Q2_K_S") && layer < model.layers / 8) return DType::Q4_K;
    if (is("Q3_K_M")) return layer < model.layers / 16 ? DType::Q5_K : DType::Q4_K;
    if (is("Q3_K_L")) return DType::Q5_K;
    if ((is("Q4_K_M") || is("Q5_K_M")) && important) return DType::Q6_K;
    if (is("Q4_K_S") && layer < model.layers / 8) return DType::Q5_K;
    // Importance can drive these symmetric types wild in the first down projections.
    if (is("Q4_0") && model.has_importance && layer < model.layers / 8) return DType::Q4_1;
    if (is("Q5_0") && model.has_importance && layer < model.layers / 8) return DType::Q5_1;
    return base_;
  }
  if (named("attn_output.weight")) {
    if (is("Q2_K")) return DType::Q3_K;
    if (is("Q3_K_M")) return DType::Q4_K;
    if (is("Q3_K_L")) return DType::Q5_K;
  }
  return base_;
}

DType QuantizeMix::mixed_iq(std::string_view gguf_name, const Shape& shape,
                            const MixModel& model) const {
  const auto named = [&](std::string_view part) {
    return gguf_name.find(part) != std::string_view::npos;
  };
  const auto is = [&](std::string_view mix) { return name_ == mix; };
  const bool two_to_three = is("IQ2_S") || is("IQ2_M");
  const bool tiny = is("IQ1_S") || is("IQ1_M") || is("IQ2_XXS") || is("IQ2_XS") || two_to_three;
  const std::uint32_t layer = layer_of_tensor(gguf_name).value_or(0);
  const std::uint32_t eighth = model.layers / 8;
  const bool early = layer < eighth;
  const bool middle = layer >= eighth && layer < 7 * model.layers / 8;
  const bool shared = model.heads_per_kv_head >= 4;

  if (gguf_name == "output.weight" || (gguf_name == "token_embd.weight" && !model.has_output)) {
    if (shape.row_elements() % info(DType::Q6_K).block_elements != 0) return DType::Q8_0;
    return tiny || is("IQ3_XXS") ? DType::Q5_K : DType::Q6_K;
  }
  if (gguf_name == "token_embd.weight") {
    if (two_to_three || is("IQ3_XXS")) return DType::IQ3_S;
    return tiny ? DType::Q2_K : base_;
  }
  if (named("attn_v.weight") || named("attn_kv_b.weight") || named("attn_v_b.weight")) {
    if (tiny) {
      if (shared || model.experts >= 4) return DType::Q4_K;
      return two_to_three ? DType::IQ3_S : DType::Q2_K;
    }
    if (is("IQ3_M")) return DType::Q4_K;
    if (base_ == DType::IQ4_NL || base_ == DType::IQ4_XS) return shared ? DType::Q5_K : base_;
    if (shared) return DType::Q4_K;
    return is("IQ3_XXS") && !model.has_importance ? DType::IQ3_S : base_;
  }
  if (named("ffn_down")) {
    if (tiny) return !early ? base_ : two_to_three ? DType::IQ3_S : DType::Q2_K;
    if (is("IQ3_XXS") && !model.has_importance) return early ? DType::Q4_K : DType::Q3_K;
    if (is("IQ3_M") && early) return DType::Q4_K;
    const bool four = base_ == DType::IQ4_NL || base_ == DType::IQ4_XS;
    return four && early && !model.has_importance ? DType::Q5_K : base_;
  }
  if (named("attn_output.weight")) {
    if (is("IQ1_S") || is("IQ1_M")) return DType::IQ2_XXS;
    if (two_to_three || is("IQ3_XXS")) return DType::IQ3_S;
    return is("IQ3_M") ? DType::Q4_K : base_;
  }
  if (named("attn_q.weight") || named("attn_k.weight")) {
    if (is("IQ3_XS")) return DType::IQ3_XXS;
    return is("IQ3_XXS") ? DType::IQ2_S : base_;
  }
  if ((named("ffn_gate") || named("ffn_up")) && is("IQ3_XS") && middle) return DType::IQ3_XXS;
  return base_;
}

}  // namespace fathom
