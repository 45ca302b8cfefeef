#include "backend/cpu/cpu_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "backend/cpu/pack.h"
#include "base/content_digest.h"
#include "base/error.h"
#include "tensor/quantise.h"

namespace fathom::cpu {
namespace {

using Storage = std::vector<std::vector<std::byte>>;

/// A tensor of this type and shape with its own bytes.
TensorView allocate(DType dtype, const Shape& shape, Storage& storage) {
  storage.emplace_back(tensor_bytes(dtype, shape));
  return {dtype, shape, storage.back()};
}

std::span<std::byte> mutable_row(const TensorView& view, Storage& storage, std::uint64_t row) {
  const std::size_t bytes = row_bytes(view.dtype, view.shape.row_elements());
  return std::span(storage.back()).subspan(row * bytes, bytes);
}

/// [.., .., n] as [rows, n].
TensorView flattened(const TensorView& view) {
  return {view.dtype, Shape{view.shape.rows(), view.shape.row_elements()}, view.data};
}

/// Rows [begin, begin + rows) of a rank-2 tensor, each of `size` elements, as [size, rows].
TensorView transpose(ThreadPool& pool, const TensorView& source, std::size_t begin,
                     std::size_t rows, DType to, Storage& storage) {
  const auto size = static_cast<std::size_t>(source.shape.row_elements());
  std::vector<float> turned(size * rows);
  pool.for_ranges(rows, 16, [&](std::size_t first, std::size_t last) {
    std::vector<float> row(size);
    for (std::size_t r = first; r < last; ++r) {
      dequantise(source.dtype, source.row(begin + r), row);
      for (std::size_t i = 0; i < size; ++i) turned[i * rows + r] = row[i];
    }
  });
  const TensorView out = allocate(to, Shape{size, rows}, storage);
  pool.for_ranges(size, 64, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      quantise(to, std::span(turned).subspan(i * rows, rows), mutable_row(out, storage, i));
    }
  });
  return out;
}

}  // namespace

DType WeightPacker::fp8_becomes() const {
  // DeepSeek's own conversion of its FP8 checkpoints for other hardware is to BF16.
  return precision_ == Precision::F32 ? DType::F32 : DType::BF16;
}

DType WeightPacker::transposed_becomes(DType source, std::size_t in_features) const {
  // Blocks run along rows, so a quantised matrix cannot be transposed as it is.
  if (!info(source).quantised) return source == DType::F8_E4M3 ? DType::F32 : source;
  const bool whole_blocks = in_features % info(DType::Q8_0).block_elements == 0;
  return precision_ == Precision::Int8 && whole_blocks ? DType::Q8_0 : DType::F32;
}

TensorView WeightPacker::without_scales(const WeightSource& source, Storage& storage) const {
  if (!source.scale_inv) return source.weight;
  const TensorView out = allocate(fp8_becomes(), source.weight.shape, storage);
  const auto columns = static_cast<std::size_t>(source.weight.shape.row_elements());
  pool_.for_ranges(source.weight.shape.rows(), kFp8Block, [&](std::size_t first, std::size_t last) {
    std::vector<float> rows((last - first) * columns);
    dequantise_fp8_blocks(source.weight, *source.scale_inv, first, last, rows);
    for (std::size_t r = first; r < last; ++r) {
      quantise(out.dtype, std::span(rows).subspan((r - first) * columns, columns),
               mutable_row(out, storage, r));
    }
  });
  return out;
}

PackedMatrix WeightPacker::from_file(const std::string& name, DType dtype, std::size_t rows,
                                     std::size_t features, Precision precision,
                                     std::span<const std::byte> source) {
  const PackedFile::Matrix& kept = kept_.file->matrix(name, dtype, rows, features);
  if (kept_.check_sources) {
    require(content_digest(source, pool_) == kept.source_digest, ErrorCode::Corrupt,
            "{}: '{}' has changed in the model since its weights were packed; pack them again",
            kept_.file->path().string(), name);
  }
  return PackedMatrix::from_packed(dtype, rows, features, kept.bytes, precision, level_, memory_);
}

void WeightPacker::keep(const std::string& name, const PackedMatrix& packed, DType dtype,
                        std::span<const std::byte> source) {
  const std::span<const std::byte> bytes = packed.packed_bytes();
  if (kept_.writer == nullptr || bytes.empty()) return;
  kept_.writer->add(name, dtype, packed.out_features(), packed.in_features(), bytes, source, pool_);
}

PackedMatrix WeightPacker::pack_view(const std::string& name, const TensorView& view,
                                     Precision precision) {
  const bool in_file = kept_.file != nullptr && packed_format(view.dtype).bits != 0;
  if (in_file && view.shape.rank() == 2) {
    return from_file(name, view.dtype, view.shape[0], view.shape[1], precision, view.data);
  }
  PackedMatrix packed = PackedMatrix::pack(view, precision, level_, memory_);
  keep(name, packed, view.dtype, view.data);
  return packed;
}

PackedMatrix WeightPacker::pack_stored(const std::string& name, const TensorView& view,
                                       Precision precision, Storage& storage) {
  PackedMatrix packed = pack_view(name, view, precision);
  const bool ours = !storage.empty() && view.data.data() == storage.back().data();
  if (ours && packed.owned_bytes() > 0) storage.pop_back();  // it made a copy of its own
  return packed;
}

PackedMatrix WeightPacker::pack(const WeightSource& source, Precision precision, Storage& storage) {
  PackedMatrix packed =
      pack_stored(source.name, without_scales(source, storage), precision, storage);
  packed.watch(source.inputs);
  return packed;
}

FeedForward WeightPacker::pack(const FfnSource& source, Storage& storage) {
  FeedForward ffn;
  ffn.gate = pack(source.gate, precision_, storage);
  ffn.up = pack(source.up, precision_, storage);
  ffn.down = pack(source.down, precision_, storage);
  return ffn;
}

PackedMatrix WeightPacker::pack_turned(const std::string& name, const TensorView& kv_b,
                                       std::size_t begin, std::size_t rows, Storage& storage) {
  const DType dtype = transposed_becomes(kv_b.dtype, rows);
  const std::span<const std::byte> source = kv_b.rows(begin, begin + rows).data;
  if (kept_.file != nullptr && packed_format(dtype).bits != 0) {
    return from_file(name, dtype, kv_b.shape[1], rows, precision_, source);
  }
  const TensorView turned = transpose(pool_, kv_b, begin, rows, dtype, storage);
  PackedMatrix packed = PackedMatrix::pack(turned, precision_, level_, memory_);
  keep(name, packed, dtype, source);
  if (packed.owned_bytes() > 0) storage.pop_back();
  return packed;
}

std::unique_ptr<CpuLatentHeads> WeightPacker::pack(const LatentHeadsSource& source,
                                                   const LatentSizes& sizes) {
  auto latent = std::make_unique<CpuLatentHeads>();
  latent->sizes = sizes;
  const std::size_t nope = sizes.qk_nope_head_dim;
  const std::size_t v_dim = sizes.v_head_dim;
  Storage& storage = latent->storage;
  for (std::size_t h = 0; h < sizes.heads; ++h) {
    const std::string k_name = fmt::format("{}k_b.{}", source.name, h);
    const std::string v_name = fmt::format("{}v_b.{}", source.name, h);
    if (source.kv_b) {
      if (h == 0 && source.kv_b->scale_inv) without_scales(*source.kv_b, storage);
      const TensorView kv_b = source.kv_b->scale_inv
                                  ? TensorView{fp8_becomes(), source.kv_b->weight.shape, storage[0]}
                                  : source.kv_b->weight;
      const std::size_t begin = h * (nope + v_dim);
      latent->k_b.push_back(pack_turned(k_name, kv_b, begin, nope, storage));
      latent->v_b.push_back(
          pack_view(v_name, kv_b.rows(begin + nope, begin + nope + v_dim), precision_));
    } else {
      const std::size_t rank = sizes.kv_lora_rank;
      latent->k_b.push_back(
          pack_view(k_name, flattened(*source.k_b).rows(h * rank, (h + 1) * rank), precision_));
      latent->v_b.push_back(
          pack_view(v_name, flattened(*source.v_b).rows(h * v_dim, (h + 1) * v_dim), precision_));
      if (!source.k_b_inputs.empty()) latent->k_b.back().watch(&source.k_b_inputs[h]);
      if (!source.v_b_inputs.empty()) latent->v_b.back().watch(&source.v_b_inputs[h]);
    }
  }
  return latent;
}

std::uint64_t WeightPacker::packed_bytes(const WeightSource& source,
                                         Precision /*precision*/) const {
  if (source.scale_inv) return tensor_bytes(fp8_becomes(), source.weight.shape);
  return packed_matrix_bytes(source.weight.dtype, source.weight.shape[0], source.weight.shape[1]);
}

std::uint64_t WeightPacker::packed_bytes(const LatentHeadsSource& source,
                                         const LatentSizes& sizes) const {
  const std::size_t rank = sizes.kv_lora_rank;
  const std::size_t nope = sizes.qk_nope_head_dim;
  if (!source.kv_b) {
    return sizes.heads * (packed_matrix_bytes(source.k_b->dtype, rank, nope) +
                          packed_matrix_bytes(source.v_b->dtype, sizes.v_head_dim, rank));
  }
  const bool scaled = source.kv_b->scale_inv.has_value();
  const DType stored = scaled ? fp8_becomes() : source.kv_b->weight.dtype;
  const DType turned = transposed_becomes(stored, nope);
  const std::uint64_t a_head = std::max<std::uint64_t>(packed_matrix_bytes(turned, rank, nope),
                                                       tensor_bytes(turned, {rank, nope})) +
                               packed_matrix_bytes(stored, sizes.v_head_dim, rank);
  return (scaled ? packed_bytes(*source.kv_b, precision_) : 0) + sizes.heads * a_head;
}

}  // namespace fathom::cpu
