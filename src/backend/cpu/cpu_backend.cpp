#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "backend/cpu/attention.h"
#include "backend/cpu/cpu_weights.h"
#include "backend/cpu/head_products.h"
#include "backend/cpu/kv_page.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/page_memory.h"
#include "backend/cpu/row_ops.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using namespace cpu;  // NOLINT: this file is where the two meet

/// Grows without keeping contents and without writing zeros: pages are touched as they are used.
struct CpuActivations final : Activations {
  std::unique_ptr<float[]> data;
  std::size_t capacity = 0;

  float* row(std::size_t r) { return data.get() + r * width; }
  const float* row(std::size_t r) const { return data.get() + r * width; }
};

struct CpuKvPage final : KvPage {
  explicit CpuKvPage(PageMemory::Slot memory) : slot(std::move(memory)) {}
  PageMemory::Slot slot;  // [layers], each as in kv_page.h
};

CpuActivations& cpu_of(Activations& activations) {
  return static_cast<CpuActivations&>(activations);
}
const CpuActivations& cpu_of(const Activations& activations) {
  return static_cast<const CpuActivations&>(activations);
}
const PackedMatrix& cpu_of(const Matrix& matrix) {
  return static_cast<const CpuMatrix&>(matrix).packed;
}
const float* cpu_of(const Vector& vector) {
  return static_cast<const CpuVector&>(vector).values.data();
}

Precision weight_precision(CpuPrecision precision) {
  switch (precision) {
    case CpuPrecision::F32:
      return Precision::F32;
    case CpuPrecision::Fine:
      return Precision::Int8Pair;
    case CpuPrecision::Fast:
      return Precision::Int8;
  }
  return Precision::F32;
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuBackendOptions& options)
      : pool_(options.threads, options.numa),
        level_(selected_cpu_level()),
        packer_(pool_, level_, weight_precision(options.precision), options.kept) {}

  // --- weights

  std::unique_ptr<Matrix> pack_matrix(const WeightSource& source, Rounding rounding) override {
    auto matrix = std::make_unique<CpuMatrix>();
    std::vector<std::vector<std::byte>> storage;
    matrix->packed = packer_.pack(source, precision_for(rounding), storage);
    if (!storage.empty()) matrix->storage = std::move(storage.front());
    matrix->out_features = matrix->packed.out_features();
    matrix->in_features = matrix->packed.in_features();
    return matrix;
  }
  std::unique_ptr<Vector> load_vector(const TensorView& view) override {
    auto vector = std::make_unique<CpuVector>();
    vector->values = to_f32(view);
    vector->size = vector->values.size();
    return vector;
  }
  std::unique_ptr<Table> load_table(const TensorView& view) override {
    auto table = std::make_unique<CpuTable>();
    table->view = view;
    return table;
  }
  std::unique_ptr<Ffn> pack_ffn(const FfnSource& source) override {
    auto ffn = std::make_unique<CpuFfn>();
    ffn->ffn = packer_.pack(source, ffn->storage);
    return ffn;
  }
  std::unique_ptr<Experts> pack_experts(std::span<const FfnSource> sources) override {
    auto experts = std::make_unique<CpuExperts>();
    experts->experts.reserve(sources.size());
    for (const FfnSource& source : sources) {
      experts->experts.push_back(packer_.pack(source, experts->storage));
    }
    return experts;
  }
  std::unique_ptr<LatentHeads> pack_latent_heads(const LatentHeadsSource& source,
                                                 const LatentSizes& sizes) override {
    return packer_.pack(source, sizes);
  }
  std::uint64_t packed_bytes(const WeightSource& source, Rounding rounding) const override {
    return packer_.packed_bytes(source, precision_for(rounding));
  }
  std::uint64_t packed_bytes(const LatentHeadsSource& source,
                             const LatentSizes& sizes) const override {
    return packer_.packed_bytes(source, sizes);
  }

  // --- memory

  std::unique_ptr<Activations> make_activations(std::size_t width) override {
    auto activations = std::make_unique<CpuActivations>();
    activations->width = width;
    return activations;
  }
  void set_rows(Activations& activations, std::size_t rows) override {
    CpuActivations& a = cpu_of(activations);
    if (rows * a.width > a.capacity) {
      a.data.reset();  // first, so that old and new are never held together
      a.capacity = 0;
      a.data.reset(new float[rows * a.width]);
      a.capacity = rows * a.width;
    }
    a.rows = rows;
  }
  std::unique_ptr<KvPage> make_page(const KvLayout& layout) override {
    return std::make_unique<CpuKvPage>(page_memory_.take(layout.page_bytes()));
  }
  void copy_page(const KvLayout& layout, const KvPage& from, KvPage& to,
                 std::size_t /*tokens*/) override {
    // Keys of all tokens lie side by side: the whole page is as quick.
    std::memcpy(static_cast<CpuKvPage&>(to).slot.data(),
                static_cast<const CpuKvPage&>(from).slot.data(), layout.page_bytes());
  }
  void read_page(const KvLayout& layout, const KvPage& page, std::span<std::byte> out) override {
    require(out.size() == layout.page_bytes(), ErrorCode::Internal, "a page has {} bytes, not {}",
            layout.page_bytes(), out.size());
    std::memcpy(out.data(), static_cast<const CpuKvPage&>(page).slot.data(), out.size());
  }
  void write_page(const KvLayout& layout, std::span<const std::byte> bytes, KvPage& page) override {
    require(bytes.size() == layout.page_bytes(), ErrorCode::Internal, "a page has {} bytes, not {}",
            layout.page_bytes(), bytes.size());
    std::memcpy(static_cast<CpuKvPage&>(page).slot.data(), bytes.data(), bytes.size());
  }
  std::span<const float> read(const Activations& activations) override {
    return {cpu_of(activations).data.get(), activations.rows * activations.width};
  }

  // --- operations

  void embed(const Table& table, std::span<const TokenId> tokens, Activations& out) override {
    const TensorView& view = static_cast<const CpuTable&>(table).view;
    for_rows(tokens.size(), out.width, [&](std::size_t r) {
      dequantise(view.dtype, view.row(static_cast<std::uint64_t>(value(tokens[r]))),
                 std::span(cpu_of(out).row(r), out.width));
    });
  }
  void rms_norm(const Columns& x, const Vector& weight, float epsilon,
                const Columns& out) override {
    for_rows(x.of->rows, x.count * x.size, [&](std::size_t r) {
      for (std::size_t g = 0; g < x.count; ++g) {
        rms_norm_row(cpu_of(*x.of).row(r) + x.offset + g * x.step, cpu_of(weight), x.size, epsilon,
                     cpu_of(*out.of).row(r) + out.offset + g * out.step);
      }
    });
  }
  void linear(const Activations& x, std::span<const Linear> products) override {
    std::vector<Product> list;
    list.reserve(products.size());
    for (const Linear& p : products) {
      list.push_back({&cpu_of(*p.weight), cpu_of(*p.y).row(0), p.y->width,
                      p.bias == nullptr ? nullptr : cpu_of(*p.bias), p.accumulate});
    }
    matmul(pool_, cpu_of(x).row(0), x.width, x.rows, list);
  }
  void rotations(const RopeSpec& rope, std::span<const Position> positions,
                 Activations& out) override {
    for_rows(positions.size(), 20 * out.width, [&](std::size_t r) {
      rotation_row(rope.frequencies, value(positions[r]), rope.attention_factor,
                   cpu_of(out).row(r));
    });
  }
  void rotate(const RopeSpec& rope, const Activations& rotations, const Columns& x) override {
    for_rows(x.of->rows, x.count * x.size, [&](std::size_t r) {
      for (std::size_t g = 0; g < x.count; ++g) {
        rotate_row(cpu_of(rotations).row(r), rope.frequencies.size(), rope.interleaved,
                   cpu_of(*x.of).row(r) + x.offset + g * x.step);
      }
    });
  }
  void append(const KvLayout& layout, std::size_t layer, std::span<const KvRun> runs,
              std::span<const Columns> parts) override {
    constexpr std::size_t kPage = KvLayout::kPageTokens;
    for (const KvRun& run : runs) {
      if (run.rows == 0) continue;
      // A page's tokens share words: one thread stores those of a kv head.
      const std::size_t first_page = run.first_position / kPage;
      const std::size_t pages = (run.first_position + run.rows - 1) / kPage + 1 - first_page;
      const std::size_t tokens = std::min(kPage, run.rows);
      for_rows(pages * layout.kv_heads, tokens * (layout.k_dim + layout.v_dim), [&](std::size_t i) {
        const std::size_t page = first_page + i / layout.kv_heads;
        const std::size_t head = i % layout.kv_heads;
        const std::size_t begin = std::max(run.first_position, page * kPage);
        const std::size_t end = std::min(run.first_position + run.rows, (page + 1) * kPage);
        const std::size_t row = run.first_row + begin - run.first_position;
        const auto part = [&](const Columns& x, std::size_t dim) {
          return cpu_of(*x.of).row(row) + x.offset + head * dim;
        };
        const float* k = part(parts[0], layout.k_dim);
        const float* v = layout.latent() ? nullptr : part(parts[1], layout.v_dim);
        store_tokens(layout, layer_of(layout, layer, *run.pages[page]), head, begin % kPage,
                     end - begin, k, parts[0].of->width, v,
                     layout.latent() ? 0 : parts[1].of->width);
      });
    }
  }
  void grouped_attention(const KvLayout& layout, std::size_t layer, std::span<const KvRun> runs,
                         const Activations& q, std::size_t heads, float scale,
                         Activations& out) override {
    attend(layer, runs, {layout, heads, layout.v_dim, scale, rounds()}, cpu_of(q), cpu_of(out));
  }
  void latent_attention(const KvLayout& layout, std::size_t layer, std::span<const KvRun> runs,
                        const Activations& q, const LatentHeads& latent_heads, float scale,
                        Activations& out) override {
    const auto& latent = static_cast<const CpuLatentHeads&>(latent_heads);
    const LatentSizes& s = latent.sizes;
    const std::size_t head_width = s.qk_nope_head_dim + s.qk_rope_head_dim;
    const std::size_t latent_width = s.kv_lora_rank + s.qk_rope_head_dim;
    latent_q_.width = s.heads * latent_width;
    latent_out_.width = s.heads * s.kv_lora_rank;
    set_rows(latent_q_, q.rows);
    set_rows(latent_out_, q.rows);

    // q . (k_b c) = (k_b^T q) . c: the query goes to the cache's space instead of the cache to its.
    head_products_.clear();
    for (std::size_t h = 0; h < s.heads; ++h) {
      head_products_.push_back({&latent.k_b[h], cpu_of(q).row(0) + h * head_width, q.width,
                                latent_q_.row(0) + h * latent_width, latent_q_.width});
    }
    matmul_heads(pool_, q.rows, head_products_);
    for_rows(q.rows, s.heads * s.qk_rope_head_dim, [&](std::size_t r) {
      for (std::size_t h = 0; h < s.heads; ++h) {
        std::copy_n(cpu_of(q).row(r) + h * head_width + s.qk_nope_head_dim, s.qk_rope_head_dim,
                    latent_q_.row(r) + h * latent_width + s.kv_lora_rank);
      }
    });

    attend(layer, runs, {layout, s.heads, s.kv_lora_rank, scale, rounds()}, latent_q_, latent_out_);

    head_products_.clear();
    for (std::size_t h = 0; h < s.heads; ++h) {
      head_products_.push_back({&latent.v_b[h], latent_out_.row(0) + h * s.kv_lora_rank,
                                latent_out_.width, cpu_of(out).row(0) + h * s.v_head_dim,
                                out.width});
    }
    matmul_heads(pool_, q.rows, head_products_);
  }
  void feed_forward(const Activations& x, const Ffn& ffn, Activations& y,
                    bool accumulate) override {
    cpu::feed_forward(pool_, static_cast<const CpuFfn&>(ffn).ffn, cpu_of(x).row(0), x.rows,
                      cpu_of(y).row(0), accumulate);
  }
  void route(const Activations& x, const Matrix& gate, const Vector* bias, const GateSpec& spec,
             Choice& choice) override {
    gate_logits_.width = spec.experts;
    set_rows(gate_logits_, x.rows);
    const Product product{&cpu_of(gate), gate_logits_.row(0), spec.experts, nullptr, false};
    matmul(pool_, cpu_of(x).row(0), x.width, x.rows, {&product, 1});
    choice.per_token = spec.per_token;
    choice.ids.resize(x.rows * spec.per_token);
    choice.weights.resize(x.rows * spec.per_token);
    for_rows(x.rows, 20 * spec.experts, [&](std::size_t r) {
      choose_experts(spec, gate_logits_.row(r), bias == nullptr ? nullptr : cpu_of(*bias),
                     &choice.ids[r * spec.per_token], &choice.weights[r * spec.per_token]);
    });
  }
  void mixture_of_experts(const Activations& x, const Experts& experts, const Ffn* shared,
                          const Choice& choice, Activations& y) override {
    cpu::mixture_of_experts(
        pool_, static_cast<const CpuExperts&>(experts).experts,
        shared == nullptr ? nullptr : &static_cast<const CpuFfn*>(shared)->ffn, cpu_of(x).row(0),
        x.rows, {choice.ids.data(), choice.weights.data(), choice.per_token}, cpu_of(y).row(0));
  }
  void select(const Activations& x, std::span<const std::size_t> rows, Activations& out) override {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::copy_n(cpu_of(x).row(rows[i]), x.width, cpu_of(out).row(i));
    }
  }
  void for_each(std::size_t count, FunctionRef<void(std::size_t)> body) override {
    pool_.run(count, [&](std::size_t i, unsigned) { body(i); });
  }

 private:
  /// Whether attention may round queries and weights to BF16.
  bool rounds() const { return packer_.precision() == Precision::Int8; }

  Precision precision_for(Rounding rounding) const {
    return rounding == Rounding::Never ? Precision::F32 : packer_.precision();
  }

  /// body(row) for each row; on all threads when there is enough to do (`work`: elements a row).
  template <typename Body>
  void for_rows(std::size_t rows, std::size_t work, const Body& body) {
    constexpr std::size_t kWorthAChunk = 1 << 14;  // elements; a chunk costs about a microsecond
    const std::size_t grain =
        std::max<std::size_t>(1, kWorthAChunk / std::max<std::size_t>(1, work));
    if (rows <= grain) {
      for (std::size_t r = 0; r < rows; ++r) body(r);
      return;
    }
    pool_.for_ranges(rows, grain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t r = begin; r < end; ++r) body(r);
    });
  }

  static std::byte* layer_of(const KvLayout& layout, std::size_t layer, KvPage& page) {
    return static_cast<CpuKvPage&>(page).slot.data() + layer * layout.layer_bytes();
  }

  void attend(std::size_t layer, std::span<const KvRun> runs, const AttentionShape& shape,
              const CpuActivations& q, CpuActivations& out) {
    std::size_t pages = 0;
    for (const KvRun& run : runs) pages += run.pages.size();
    page_pointers_.clear();
    page_pointers_.reserve(pages);  // spans below view it
    spans_.clear();
    for (const KvRun& run : runs) {
      const std::size_t first = page_pointers_.size();
      for (KvPage* page : run.pages) page_pointers_.push_back(layer_of(shape.kv, layer, *page));
      spans_.push_back({std::span(page_pointers_).subspan(first), run.first_position, run.rows,
                        q.row(run.first_row), out.row(run.first_row)});
    }
    attention(pool_, level_, shape, spans_);
  }

  ThreadPool pool_;
  CpuLevel level_;
  WeightPacker packer_;
  // Scratch, kept between calls.
  CpuActivations latent_q_;    // [rows, heads * (kv_lora_rank + qk_rope_head_dim)]
  CpuActivations latent_out_;  // [rows, heads * kv_lora_rank]
  CpuActivations gate_logits_;
  std::vector<HeadProduct> head_products_;
  PageMemory page_memory_;
  std::vector<const std::byte*> page_pointers_;
  std::vector<AttentionSpan> spans_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace fathom
