#include "backend/cpu/matmul.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/activations.h"
#include "backend/cpu/products.h"
#include "backend/cpu/replicas.h"
#include "base/checked.h"

namespace fathom::cpu {
namespace {

std::unique_ptr<PackedMatrix::Impl> make_impl(DType dtype, std::size_t out_features,
                                              std::size_t in_features, Precision precision,
                                              CpuLevel level) {
  auto impl = std::make_unique<PackedMatrix::Impl>();
  impl->dtype = dtype;
  impl->out_features = out_features;
  impl->in_features = in_features;
  impl->precision = precision;
  impl->table = &matmul_table(level);
  impl->format = packed_format(dtype);
  impl->stride = impl->packed() ? packed_group_bytes(impl->format, in_features)
                                : row_bytes(dtype, in_features);
  return impl;
}

Job gate_job(const FeedForward& ffn, const Activations& in, const Activations& gated) {
  Job job;
  job.weight = &ffn.gate.impl();
  job.up = &ffn.up.impl();
  job.x = &in;
  job.gated = &gated;
  return job;
}

/// Every (token, its k-th expert) as a row, in the order of experts, and of tokens within one.
struct Grouping {
  std::vector<std::size_t> begin;   // [experts + 1], each expert's first row
  std::vector<std::size_t> used;    // experts that have rows
  std::size_t* row_of = nullptr;    // [tokens, per_token]
  std::size_t* token_of = nullptr;  // [rows]
};

/// A counting sort.
Grouping group_by_expert(std::size_t experts, std::size_t tokens, const Chosen& chosen,
                         Arena& arena) {
  const std::size_t total = tokens * chosen.per_token;
  Grouping rows;
  rows.begin.assign(experts + 1, 0);
  for (std::size_t i = 0; i < total; ++i) {
    ++rows.begin[static_cast<std::size_t>(chosen.ids[i]) + 1];
  }
  for (std::size_t e = 0; e < experts; ++e) {
    if (rows.begin[e + 1] > 0) rows.used.push_back(e);
    rows.begin[e + 1] += rows.begin[e];
  }
  rows.row_of = arena.take<std::size_t>(total);
  rows.token_of = arena.take<std::size_t>(total);
  std::vector<std::size_t> next(rows.begin.begin(), rows.begin.end() - 1);
  for (std::size_t i = 0; i < total; ++i) {
    rows.row_of[i] = next[static_cast<std::size_t>(chosen.ids[i])]++;
    rows.token_of[rows.row_of[i]] = i / chosen.per_token;
  }
  return rows;
}

}  // namespace

PackedMatrix::PackedMatrix() = default;
PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

PackedMatrix PackedMatrix::pack(const TensorView& weight, Precision precision, CpuLevel level,
                                WeightMemory& memory) {
  require(weight.shape.rank() == 2, ErrorCode::Corrupt,
          "a linear layer's weight must have two dimensions, but has shape {}",
          weight.shape.to_string());
  require(weight.data.size() == tensor_bytes(weight.dtype, weight.shape), ErrorCode::Corrupt,
          "a {} weight of shape {} takes {} bytes, but has {}", to_string(weight.dtype),
          weight.shape.to_string(), tensor_bytes(weight.dtype, weight.shape), weight.data.size());
  auto impl = make_impl(weight.dtype, checked_cast<std::size_t>(weight.shape[0]),
                        checked_cast<std::size_t>(weight.shape[1]), precision, level);
  if (impl->packed()) {
    impl->owned = pack_weights(weight, level, memory);
    impl->data = impl->owned.data();
    impl->copies = replicate({impl->data, impl->owned.size()}, memory);
  } else {
    require(weight.dtype <= DType::F8_E4M3, ErrorCode::Unsupported,
            "a linear layer's weight cannot be {}", to_string(weight.dtype));
    impl->data = weight.data.data();
  }
  PackedMatrix packed;
  packed.impl_ = std::move(impl);
  return packed;
}

PackedMatrix PackedMatrix::pack(const TensorView& weight, Precision precision, CpuLevel level,
                                ThreadPool& pool) {
  WeightMemory memory(pool, WeightMemory::Blocks::OneEach);
  return pack(weight, precision, level, memory);
}

PackedMatrix PackedMatrix::from_packed(DType dtype, std::size_t out_features,
                                       std::size_t in_features, std::span<const std::byte> packed,
                                       Precision precision, CpuLevel level, WeightMemory& memory) {
  const std::size_t expected = packed_matrix_bytes(dtype, out_features, in_features);
  require(expected > 0 && packed.size() == expected, ErrorCode::Corrupt,
          "a packed {} weight of {} x {} takes {} bytes, but has {}", to_string(dtype),
          out_features, in_features, expected, packed.size());
  auto impl = make_impl(dtype, out_features, in_features, precision, level);
  if (memory.pool().numa().off()) {
    impl->data = packed.data();
  } else {
    impl->owned = copy_weights(packed, memory, 0);
    impl->data = impl->owned.data();
    impl->copies = replicate(packed, memory);
  }
  PackedMatrix matrix;
  matrix.impl_ = std::move(impl);
  return matrix;
}

std::size_t PackedMatrix::out_features() const { return impl_ ? impl_->out_features : 0; }
std::size_t PackedMatrix::in_features() const { return impl_ ? impl_->in_features : 0; }
std::size_t PackedMatrix::owned_bytes() const {
  return impl_ ? impl_->owned.size() * (1 + impl_->copies.size()) : 0;
}
std::span<const std::byte> PackedMatrix::packed_bytes() const {
  if (!impl_ || !impl_->packed()) return {};
  return {impl_->data, packed_matrix_bytes(impl_->dtype, impl_->out_features, impl_->in_features)};
}
void PackedMatrix::watch(InputSums* inputs) { impl_->inputs = inputs; }
const char* PackedMatrix::kernel_name() const { return impl_ ? impl_->table->name : "none"; }

CpuLevel matmul_level(CpuLevel level) {
  return level == CpuLevel::Avx512Bf16 ? CpuLevel::Avx512 : level;
}

const MatmulTable& matmul_table(CpuLevel level) {
  switch (matmul_level(level)) {
    case CpuLevel::Scalar:
      return kMatmulScalar;
    case CpuLevel::Avx2:
      return kMatmulAvx2;
    case CpuLevel::Avx2Vnni:
      return kMatmulAvx2Vnni;
    case CpuLevel::Avx512:
      return kMatmulAvx512;
    case CpuLevel::Amx:
      return kMatmulAmx;
    case CpuLevel::TileTwin:
      return cpu_features().avx512 ? kMatmulTwinAvx512 : kMatmulTwinScalar;
    default:
      break;
  }
  return kMatmulScalar;
}

void matmul(ThreadPool& pool, const float* x, std::size_t x_stride, std::size_t tokens,
            std::span<const Product> products) {
  if (tokens == 0 || products.empty()) return;
  Scratch scratch(Scratch::Use::Call);
  Activations activations{x, x_stride, tokens, products[0].weight->in_features()};
  std::vector<Job> jobs;
  jobs.reserve(products.size());
  for (const Product& p : products) {
    need(activations, *p.weight, scratch.arena());
    jobs.push_back({&p.weight->impl(), &activations, p.y, p.y_stride, p.bias, p.accumulate});
  }
  prepare(pool, *jobs[0].weight->table, {&activations, 1});
  run(pool, jobs);
}

void feed_forward(ThreadPool& pool, const FeedForward& ffn, const float* x, std::size_t tokens,
                  float* y, bool accumulate) {
  if (tokens == 0) return;
  Scratch scratch(Scratch::Use::Call);
  Arena& arena = scratch.arena();
  Activations in{x, ffn.gate.in_features(), tokens, ffn.gate.in_features()};
  need(in, ffn.gate, arena);
  need(in, ffn.up, arena);
  prepare(pool, *ffn.gate.impl().table, {&in, 1});
  const Activations gated = make_activations(tokens, ffn.gate.out_features(), ffn.down, arena);
  const Job first = gate_job(ffn, in, gated);
  run(pool, {&first, 1});
  const Job second{&ffn.down.impl(), &gated, y, ffn.down.out_features(), nullptr, accumulate};
  run(pool, {&second, 1});
}

void mixture_of_experts(ThreadPool& pool, std::span<const FeedForward> experts,
                        const FeedForward* shared, const float* x, std::size_t tokens,
                        const Chosen& chosen, float* y) {
  const std::size_t total = tokens * chosen.per_token;
  if (experts.empty() || total == 0) return;
  Scratch scratch(Scratch::Use::Call);
  Arena& arena = scratch.arena();
  const std::size_t hidden = experts[0].gate.in_features();
  const Grouping rows = group_by_expert(experts.size(), tokens, chosen, arena);

  // Rounded once for all experts. One token is the same input for all of them; of several, each
  // gets copies of its own, side by side.
  Activations all{x, hidden, tokens, hidden};
  std::vector<const FeedForward*> networks;
  for (std::size_t e : rows.used) networks.push_back(&experts[e]);
  if (shared != nullptr) networks.push_back(shared);
  for (const FeedForward* network : networks) {
    need(all, network->gate, arena);
    need(all, network->up, arena);
  }
  prepare(pool, *experts[0].gate.impl().table, {&all, 1});
  std::vector<Activations> inputs;
  if (tokens > 1) {
    for (std::size_t e : rows.used) {
      const std::size_t count = rows.begin[e + 1] - rows.begin[e];
      Activations in{nullptr, hidden, count, hidden};
      if (count == 1) {
        in.x = x + rows.token_of[rows.begin[e]] * hidden;
      } else if (reads_rows(experts[e].gate) || reads_rows(experts[e].up)) {
        in.x = in.rows = arena.take<float>(count * hidden);
      }
      need(in, experts[e].gate, arena);
      need(in, experts[e].up, arena);
      inputs.push_back(in);
    }
    gather(pool, all, rows.token_of, inputs);
  }

  std::vector<Activations> gated;
  gated.reserve(networks.size());  // jobs point into it
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < networks.size(); ++i) {
    const Activations& in = i < inputs.size() ? inputs[i] : all;
    gated.push_back(
        make_activations(in.tokens, networks[i]->gate.out_features(), networks[i]->down, arena));
    jobs.push_back(gate_job(*networks[i], in, gated.back()));
  }
  run(pool, jobs);

  auto* out = arena.take<float>(total * hidden);
  auto* shared_out = shared == nullptr ? nullptr : arena.take<float>(tokens * hidden);
  jobs.clear();
  for (std::size_t i = 0; i < networks.size(); ++i) {
    float* to = i < rows.used.size() ? out + rows.begin[rows.used[i]] * hidden : shared_out;
    jobs.push_back({&networks[i]->down.impl(), &gated[i], to, hidden});
  }
  run(pool, jobs);

  // Added up in the router's order, not in the experts', whatever the grouping.
  constexpr std::size_t kColumns = 1024;
  const std::size_t parts = (hidden + kColumns - 1) / kColumns;
  const auto add_up = [&](std::size_t item) {
    const std::size_t t = item / parts;
    const std::size_t from = item % parts * kColumns;
    const std::size_t to = std::min(hidden, from + kColumns);
    float* sum = y + t * hidden;
    for (std::size_t k = t * chosen.per_token; k < (t + 1) * chosen.per_token; ++k) {
      const float weight = chosen.weights[k];
      const float* row = out + rows.row_of[k] * hidden;
      for (std::size_t c = from; c < to; ++c) sum[c] += weight * row[c];
    }
    if (shared_out == nullptr) return;
    for (std::size_t c = from; c < to; ++c) sum[c] += shared_out[t * hidden + c];
  };
  pool.for_ranges(tokens * parts, std::max<std::size_t>(1, 8 / parts),
                  [&](std::size_t first, std::size_t last) {
                    for (std::size_t item = first; item < last; ++item) add_up(item);
                  });
}

}  // namespace fathom::cpu
