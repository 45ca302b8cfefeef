// The dozen coarse operations that a transformer needs from a device.
//
// Weights, activations and KV pages live on the device: model/ holds handles, says what to do with
// them, and never sees a pointer into them. Operations are coarse, so that a CPU can fuse them in
// its caches and a GPU can queue them: one may return before it is done, and only read() waits.
//
// Shapes are [rows, elements], row-major; all activations are F32. Operations neither check what
// model/ has checked at load nor throw, except for lack of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/input_sums.h"
#include "base/function_ref.h"
#include "base/ids.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace fathom {

// --- What lives on the device -------------------------------------------------------------------

struct DeviceObject {
  DeviceObject() = default;
  virtual ~DeviceObject() = default;
  DeviceObject(const DeviceObject&) = delete;
  DeviceObject& operator=(const DeviceObject&) = delete;
};
/// A linear layer's weight [out_features, in_features], laid out for the device's kernels.
struct Matrix : DeviceObject {
  std::size_t out_features = 0;
  std::size_t in_features = 0;
};
/// An F32 vector: a norm's weight, a bias.
struct Vector : DeviceObject {
  std::size_t size = 0;
};
/// Rows to look up [vocab_size, hidden_size].
struct Table : DeviceObject {};
/// A SwiGLU network: gate and up [intermediate, hidden], down [hidden, intermediate].
struct Ffn : DeviceObject {};
/// Equal SwiGLU networks, of which each token uses a few.
struct Experts : DeviceObject {};
/// Latent attention's up-projections, split by head so that they can be absorbed: k_b takes a
/// query's qk_nope_head_dim elements into the latent space, v_b takes a latent value out of it.
struct LatentHeads : DeviceObject {};
/// Activations [rows, width].
struct Activations : DeviceObject {
  std::size_t rows = 0;
  std::size_t width = 0;
};
/// Keys and values of 64 tokens of one sequence, all layers.
struct KvPage : DeviceObject {};

// --- What operations are told -------------------------------------------------------------------

/// A weight as the checkpoint has it. scale_inv: the 128x128 block scales of native FP8.
struct WeightSource {
  TensorView weight;
  std::optional<TensorView> scale_inv;
  InputSums* inputs = nullptr;  // if not null, gets every product's inputs; outlives the handle
  std::string name = {};        // the tensor's; tells weights apart that are kept packed
};
struct FfnSource {
  WeightSource gate, up, down;
};
/// Either kv_b [heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank], or its parts as newer GGUF
/// files store them: k_b [heads * kv_lora_rank, qk_nope_head_dim] (transposed by head) and
/// v_b [heads * v_head_dim, kv_lora_rank].
struct LatentHeadsSource {
  std::optional<WeightSource> kv_b;
  std::optional<TensorView> k_b, v_b;
  std::span<InputSums> k_b_inputs, v_b_inputs;  // as WeightSource::inputs, by head; or empty
  std::string name = {};                        // of all of it, ending in a dot
};
struct LatentSizes {
  std::size_t heads = 0;
  std::size_t kv_lora_rank = 0;
  std::size_t qk_nope_head_dim = 0;
  std::size_t qk_rope_head_dim = 0;
  std::size_t v_head_dim = 0;
};

/// Whether a product may round its activations to INT8 blocks, if the backend was made to.
enum class Rounding { Allowed, Never };

/// y = weight x + bias, or y += with `accumulate`.
struct Linear {
  const Matrix* weight = nullptr;
  const Vector* bias = nullptr;  // may be null
  Activations* y = nullptr;      // [rows, out_features]
  bool accumulate = false;
};

/// Some columns of activations, seen as `count` groups of `size` elements a row (heads, mostly),
/// `step` elements apart.
struct Columns {
  Activations* of = nullptr;
  std::size_t offset = 0;
  std::size_t count = 1;
  std::size_t size = 0;
  std::size_t step = 0;
};

/// cos and sin of each row's angles, made once for a batch by rotations().
/// frequencies: [dims / 2], radians per position; attention_factor multiplies cos and sin.
struct RopeSpec {
  std::vector<float> frequencies;
  float attention_factor = 1;
  bool interleaved = false;  // pairs (2i, 2i + 1) instead of (i, i + dims / 2)
};

/// What a token leaves in the cache, a layer: keys and values of each kv head, or (v_dim 0) one
/// entry for all heads whose first elements are the value too, as latent attention has it. How a
/// device lays them out in a page is its own affair.
struct KvLayout {
  std::size_t layers = 0;
  std::size_t kv_heads = 0;
  std::size_t k_dim = 0;      // elements of a key, or of the entry
  std::size_t v_dim = 0;      // elements of a value; 0: values are part of the entry
  DType dtype = DType::BF16;  // F32, BF16, F16 or Q8_0
  static constexpr std::size_t kPageTokens = 64;

  bool latent() const { return v_dim == 0; }
  /// Elements that share a word of 32 bits: a key's own ones, or one of so many tokens' values.
  std::size_t word_elements() const {
    return dtype == DType::Q8_0 ? 4 : dtype == DType::F32 ? 1 : 2;
  }
  /// Keys fill whole words.
  std::size_t stored_k_dim() const {
    const std::size_t word = word_elements();
    return latent() ? k_dim : (k_dim + word - 1) / word * word;
  }
  /// Bytes of 64 tokens' keys, values or entries of `dim` elements: Q8_0 has a scale in F16 for
  /// each 32 elements (or what is left of them) of a token.
  std::size_t side_bytes(std::size_t dim) const {
    if (dtype == DType::Q8_0) return kPageTokens * (dim + (dim + 31) / 32 * 2);
    return kPageTokens * dim * info(dtype).block_bytes;
  }
  std::size_t layer_bytes() const {
    return kv_heads * (side_bytes(stored_k_dim()) + side_bytes(v_dim));
  }
  std::size_t page_bytes() const { return layers * layer_bytes(); }
};

/// Consecutive rows of the batch that are consecutive tokens of one sequence.
struct KvRun {
  std::vector<KvPage*> pages;      // of the whole sequence, these tokens included
  std::size_t first_position = 0;  // tokens of the sequence before these
  std::size_t first_row = 0;       // in the batch
  std::size_t rows = 0;
};

/// How a gate turns scores into chosen experts and their weights.
struct GateSpec {
  std::size_t experts = 0;
  std::size_t per_token = 0;
  bool sigmoid = false;  // scores are sigmoid(logits), else softmax over all experts
  /// More than one: only the experts of the best `groups_used` groups can be chosen. A group's
  /// score is the sum of its best `group_terms` scores (1: DeepSeek-V2, 2: V3).
  std::size_t groups = 1;
  std::size_t groups_used = 1;
  std::size_t group_terms = 1;
  bool normalise = false;  // the chosen weights sum to 1 before `scale`
  float scale = 1;
};

/// The experts of each row; on the host, since observers read it. [rows, per_token], by descending
/// score.
struct Choice {
  std::size_t per_token = 0;
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

// --- The operations -----------------------------------------------------------------------------

class Backend {
 public:
  virtual ~Backend() = default;

  // Weights. Views may be kept: the checkpoint must outlive the handle. Throw Error(Corrupt |
  // Unsupported) for types or shapes that the device cannot take.
  virtual std::unique_ptr<Matrix> pack_matrix(const WeightSource& source, Rounding rounding) = 0;
  virtual std::unique_ptr<Vector> load_vector(const TensorView& vector) = 0;
  virtual std::unique_ptr<Table> load_table(const TensorView& table) = 0;
  virtual std::unique_ptr<Ffn> pack_ffn(const FfnSource& source) = 0;
  virtual std::unique_ptr<Experts> pack_experts(std::span<const FfnSource> sources) = 0;
  virtual std::unique_ptr<LatentHeads> pack_latent_heads(const LatentHeadsSource& source,
                                                         const LatentSizes& sizes) = 0;
  /// Bytes that pack_matrix() would allocate for this weight.
  virtual std::uint64_t packed_bytes(const WeightSource& source, Rounding rounding) const = 0;
  /// Likewise pack_latent_heads().
  virtual std::uint64_t packed_bytes(const LatentHeadsSource& source,
                                     const LatentSizes& sizes) const = 0;

  // Memory.
  virtual std::unique_ptr<Activations> make_activations(std::size_t width) = 0;
  /// Contents become unspecified. Memory grows as needed and is kept.
  virtual void set_rows(Activations& activations, std::size_t rows) = 0;
  virtual std::unique_ptr<KvPage> make_page(const KvLayout& layout) = 0;
  /// Copies (at least) the first `tokens` tokens of every layer.
  virtual void copy_page(const KvLayout& layout, const KvPage& from, KvPage& to,
                         std::size_t tokens) = 0;
  /// The page as this device lays it out, layout.page_bytes(): for the same layout and kind of
  /// device write_page() makes an equal page of it.
  virtual void read_page(const KvLayout& layout, const KvPage& page, std::span<std::byte> out) = 0;
  virtual void write_page(const KvLayout& layout, std::span<const std::byte> bytes,
                          KvPage& page) = 0;
  /// Waits, then views [rows, width] until the next operation on `activations`.
  virtual std::span<const float> read(const Activations& activations) = 0;

  // Operations. Outputs have as many rows as inputs unless said.

  /// out[r] = table[tokens[r]]
  virtual void embed(const Table& table, std::span<const TokenId> tokens, Activations& out) = 0;
  /// Each group of `x`, divided by its root mean square, times weight; to the same group of `out`,
  /// which may be `x`. (arXiv 1910.07467)
  virtual void rms_norm(const Columns& x, const Vector& weight, float epsilon,
                        const Columns& out) = 0;
  /// Products of the same activations x [rows, in_features], in one pass.
  virtual void linear(const Activations& x, std::span<const Linear> products) = 0;
  /// out: [rows, dims], cosines then sines.
  virtual void rotations(const RopeSpec& rope, std::span<const Position> positions,
                         Activations& out) = 0;
  /// Turns each group of `x` (dims elements) by its row's angles. (arXiv 2104.09864)
  virtual void rotate(const RopeSpec& rope, const Activations& rotations, const Columns& x) = 0;
  /// Stores each row as its token's entry in layer `layer`. parts: keys [kv_heads * k_dim] and
  /// values [kv_heads * v_dim], or the latent entry alone. A sequence's tokens come in order, and
  /// what stood in later tokens' places may be overwritten.
  virtual void append(const KvLayout& layout, std::size_t layer, std::span<const KvRun> runs,
                      std::span<const Columns> parts) = 0;
  /// out[heads * v_dim] = causal softmax(scale * q k) v. q: [rows, heads * k_dim]; scale > 0
  virtual void grouped_attention(const KvLayout& layout, std::size_t layer,
                                 std::span<const KvRun> runs, const Activations& q,
                                 std::size_t heads, float scale, Activations& out) = 0;
  /// The same over compressed entries [kv_lora_rank + qk_rope_head_dim] (DeepSeek-V2, arXiv
  /// 2405.04434, 2.1). q: [rows, heads * (qk_nope_head_dim + qk_rope_head_dim)], rotated;
  /// out: [rows, heads * v_head_dim]
  virtual void latent_attention(const KvLayout& layout, std::size_t layer,
                                std::span<const KvRun> runs, const Activations& q,
                                const LatentHeads& latent, float scale, Activations& out) = 0;
  /// y (+)= down(silu(gate(x)) * up(x)). x, y: [rows, hidden]
  virtual void feed_forward(const Activations& x, const Ffn& ffn, Activations& y,
                            bool accumulate) = 0;
  /// Chooses each row's experts from x by the gate's weight [experts, hidden]. `bias`, if any,
  /// [experts], is added to scores for choosing only (arXiv 2412.19437, 2.1.2).
  virtual void route(const Activations& x, const Matrix& gate, const Vector* bias,
                     const GateSpec& spec, Choice& choice) = 0;
  /// y += sum of the chosen experts' outputs times their weights, then += shared(x) unless that is
  /// null. x, y: [rows, hidden]
  virtual void mixture_of_experts(const Activations& x, const Experts& experts, const Ffn* shared,
                                  const Choice& choice, Activations& y) = 0;
  /// out[i] = x[rows[i]]
  virtual void select(const Activations& x, std::span<const std::size_t> rows,
                      Activations& out) = 0;

  /// body(i) for each i below `count`, at once on all threads that this device's work leaves to the
  /// host. The first exception thrown by a body is rethrown at the end.
  virtual void for_each(std::size_t count, FunctionRef<void(std::size_t)> body) = 0;
};

}  // namespace fathom
