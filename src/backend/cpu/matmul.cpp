#include "backend/cpu/matmul.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/products.h"
#include "base/checked.h"

namespace fathom::cpu {

PackedMatrix::PackedMatrix() = default;
PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

PackedMatrix PackedMatrix::pack(const TensorView& weight, Precision precision, CpuLevel level,
                                ThreadPool& pool) {
  require(weight.shape.rank() == 2, ErrorCode::Corrupt,
          "a linear layer's weight must have two dimensions, but has shape {}",
          weight.shape.to_string());
  require(weight.data.size() == tensor_bytes(weight.dtype, weight.shape), ErrorCode::Corrupt,
          "a {} weight of shape {} takes {} bytes, but has {}", to_string(weight.dtype),
          weight.shape.to_string(), tensor_bytes(weight.dtype, weight.shape), weight.data.size());
  auto impl = std::make_unique<Impl>();
  impl->dtype = weight.dtype;
  impl->out_features = checked_cast<std::size_t>(weight.shape[0]);
  impl->in_features = checked_cast<std::size_t>(weight.shape[1]);
  impl->precision = precision;
  impl->table = &matmul_table(level);
  impl->format = packed_format(weight.dtype);
  if (impl->packed()) {
    impl->owned = pack_weights(weight, level, pool);
    impl->data = impl->owned.data();
    impl->stride = packed_group_bytes(impl->format, impl->in_features);
  } else {
    require(weight.dtype <= DType::F8_E4M3, ErrorCode::Unsupported,
            "a linear layer's weight cannot be {}", to_string(weight.dtype));
    impl->data = weight.data.data();
    impl->stride = row_bytes(weight.dtype, weight.shape[1]);
  }
  PackedMatrix packed;
  packed.impl_ = std::move(impl);
  return packed;
}

std::size_t PackedMatrix::out_features() const { return impl_ ? impl_->out_features : 0; }
std::size_t PackedMatrix::in_features() const { return impl_ ? impl_->in_features : 0; }
std::size_t PackedMatrix::owned_bytes() const { return impl_ ? impl_->owned.size() : 0; }
void PackedMatrix::watch(InputSums* inputs) { impl_->inputs = inputs; }
const char* PackedMatrix::kernel_name() const { return impl_ ? impl_->table->name : "none"; }

const MatmulTable& matmul_table(CpuLevel level) {
  switch (level) {
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
  const MatmulTable& table = *ffn.gate.impl().table;
  const std::size_t hidden = ffn.gate.in_features();
  const std::size_t intermediate = ffn.gate.out_features();
  Activations in{x, hidden, tokens, hidden};
  need(in, ffn.gate, arena);
  need(in, ffn.up, arena);
  prepare(pool, table, {&in, 1});
  auto* gate = arena.take<float>(tokens * intermediate);
  auto* up = arena.take<float>(tokens * intermediate);
  const Job first[] = {{&ffn.gate.impl(), &in, gate, intermediate},
                       {&ffn.up.impl(), &in, up, intermediate}};
  run(pool, first);
  Activations gated{gate, intermediate, tokens, intermediate};
  need(gated, ffn.down, arena);
  const float* ups[] = {up};
  prepare_gated(pool, table, {&gated, 1}, ups);
  const Job second[] = {
      {&ffn.down.impl(), &gated, y, ffn.down.out_features(), nullptr, accumulate}};
  run(pool, second);
}

void mixture_of_experts(ThreadPool& pool, std::span<const FeedForward> experts, const float* x,
                        std::size_t tokens, const std::int32_t* ids, const float* weights,
                        std::size_t per_token, float* y) {
  const std::size_t total = tokens * per_token;
  if (experts.empty() || total == 0) return;
  Scratch scratch(Scratch::Use::Call);
  Arena& arena = scratch.arena();
  const MatmulTable& table = *experts[0].gate.impl().table;
  const std::size_t hidden = experts[0].gate.in_features();
  const std::size_t intermediate = experts[0].gate.out_features();

  // Rows in the order of experts, and of tokens within one (a counting sort): row_of[t, k] is where
  // token t's k-th expert finds its input and leaves its output.
  std::vector<std::size_t> begin(experts.size() + 1, 0);
  for (std::size_t i = 0; i < total; ++i) ++begin[static_cast<std::size_t>(ids[i]) + 1];
  for (std::size_t e = 0; e < experts.size(); ++e) begin[e + 1] += begin[e];
  auto* row_of = arena.take<std::size_t>(total);
  auto* token_of = arena.take<std::size_t>(total);
  std::vector<std::size_t> next(begin.begin(), begin.end() - 1);
  for (std::size_t i = 0; i < total; ++i) {
    row_of[i] = next[static_cast<std::size_t>(ids[i])]++;
    token_of[row_of[i]] = i / per_token;
  }
  std::vector<std::size_t> used;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    if (begin[e + 1] > begin[e]) used.push_back(e);
  }

  // One token is the same input for all its experts; several are copied to where theirs wants them.
  std::vector<Activations> inputs;
  if (tokens == 1) {
    inputs.push_back({x, hidden, 1, hidden});
    for (std::size_t e : used) {
      need(inputs[0], experts[e].gate, arena);
      need(inputs[0], experts[e].up, arena);
    }
  } else {
    auto* rows = arena.take<float>(total * hidden);
    pool.for_ranges(total, 16, [&](std::size_t first, std::size_t last) {
      for (std::size_t r = first; r < last; ++r) {
        std::copy_n(x + token_of[r] * hidden, hidden, rows + r * hidden);
      }
    });
    for (std::size_t e : used) {
      Activations in{rows + begin[e] * hidden, hidden, begin[e + 1] - begin[e], hidden};
      need(in, experts[e].gate, arena);
      need(in, experts[e].up, arena);
      inputs.push_back(in);
    }
  }
  prepare(pool, table, inputs);

  auto* gate = arena.take<float>(total * intermediate);
  auto* up = arena.take<float>(total * intermediate);
  std::vector<Job> jobs;
  std::vector<Activations> gated;
  std::vector<const float*> ups;
  for (std::size_t i = 0; i < used.size(); ++i) {
    const std::size_t e = used[i];
    const Activations* in = &inputs[tokens == 1 ? 0 : i];
    const std::size_t at = begin[e] * intermediate;
    jobs.push_back({&experts[e].gate.impl(), in, gate + at, intermediate});
    jobs.push_back({&experts[e].up.impl(), in, up + at, intermediate});
    Activations g{gate + at, intermediate, begin[e + 1] - begin[e], intermediate};
    need(g, experts[e].down, arena);
    gated.push_back(g);
    ups.push_back(up + at);
  }
  run(pool, jobs);
  prepare_gated(pool, table, gated, ups);

  auto* out = arena.take<float>(total * hidden);
  jobs.clear();
  for (std::size_t i = 0; i < used.size(); ++i) {
    jobs.push_back(
        {&experts[used[i]].down.impl(), &gated[i], out + begin[used[i]] * hidden, hidden});
  }
  run(pool, jobs);

  // Added up in the router's order, not in the experts'.
  constexpr std::size_t kColumns = 1024;
  const std::size_t parts = (hidden + kColumns - 1) / kColumns;
  pool.for_ranges(tokens * parts, std::max<std::size_t>(1, 8 / parts),
                  [&](std::size_t first, std::size_t last) {
                    for (std::size_t item = first; item < last; ++item) {
                      const std::size_t t = item / parts;
                      const std::size_t from = item % parts * kColumns;
                      const std::size_t to = std::min(hidden, from + kColumns);
                      for (std::size_t k = 0; k < per_token; ++k) {
                        const float weight = weights[t * per_token + k];
                        const float* row = out + row_of[t * per_token + k] * hidden;
                        for (std::size_t c = from; c < to; ++c)
                          y[t * hidden + c] += weight * row[c];
                      }
                    }
                  });
}

}  // namespace fathom::cpu
