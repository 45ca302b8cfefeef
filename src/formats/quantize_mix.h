// Which type each tensor of a model gets: "Q4_K_M" and its kin, as llama.cpp mixes them.
//
// The mixes give more bits to what hurts most when rounded: the output matrix, the values of
// attention and the down projections, these in the first and last eighth of the layers and in every
// third between.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace fathom {

/// What a mix needs to know about the model.
struct MixModel {
  std::uint32_t layers = 0;
  std::uint32_t experts = 0;
  std::uint32_t heads_per_kv_head = 1;
  bool has_output = true;       // false: token_embd is the output matrix too
  bool has_importance = false;  // errors are weighed by an importance matrix
};

struct MixChoice {
  DType dtype;
  /// Why the tensor did not get the type that the mix gives it: "rows of 576 are not a multiple of
  /// 256". Empty otherwise.
  std::string fallback;
};

/// Types so coarse that rounding without knowing what matters makes nonsense of a model; the peers
/// refuse the same.
bool needs_importance(DType dtype);

class QuantizeMix {
 public:
  /// "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q2_K_S", "Q3_K_S",
  /// "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ1_S", "IQ1_M",
  /// "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL",
  /// "IQ4_XS"; in either case; "Q3_K",
  /// "Q4_K" and "Q5_K" mean the _M mix. `pure`: every matrix gets the base type. Throws
  /// Error(InvalidArgument), listing the names, for another word.
  explicit QuantizeMix(std::string_view name, bool pure = false);

  std::string_view name() const { return name_; }
  DType base() const { return base_; }
  /// GGUF's general.file_type.
  std::uint32_t file_type() const { return file_type_; }

  /// The type for the tensor with this GGUF name. Norms, biases, routers and everything of one
  /// dimension are F32.
  MixChoice choose(std::string_view gguf_name, const Shape& shape, const MixModel& model) const;

  /// The mix that a file's general.file_type names; "" for a number not known here.
  static std::string_view name_of_file_type(std::int64_t file_type);

  /// All names the constructor takes.
  static std::vector<std::string_view> names();

 private:
  DType mixed(std::string_view gguf_name, const Shape& shape, const MixModel& model) const;
  DType mixed_iq(std::string_view gguf_name, const Shape& shape, const MixModel& model) const;

  std::string name_;
  DType base_;
  std::uint32_t file_type_;
  bool pure_;
};

}  // namespace fathom
