#include "backend/cpu/products.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/input_sums.h"
#include "base/checked.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kUnitGroups = 4;   // groups a chunk of work reads side by side
constexpr std::size_t kSpanTokens = 96;  // tokens that share an unpacked chunk
constexpr std::size_t kRowUnit = 32;     // rows of a chunk of work where rows are read as stored
constexpr std::size_t kRowSpan = 48;
constexpr std::size_t kSerial = 8192;  // elements that are not worth waking the workers for

/// How a job is cut: units of groups (or rows) times spans of tokens.
struct Cut {
  std::size_t unit = 1;
  std::size_t units = 0;
  std::size_t span = 1;
  std::size_t spans = 0;
  std::size_t items() const { return units * spans; }
};

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

Cut cut(const Job& job, std::size_t unit) {
  const std::size_t tokens = job.x->tokens;
  const bool packed = job.weight->packed();
  Cut c;
  const std::size_t rows = job.weight->out_features;
  if (packed) {
    c.unit = unit;
    c.units = ceil_div(ceil_div(rows, kGroupRows), unit);
  } else {
    c.unit = unit * kRowUnit / kUnitGroups;
    c.units = ceil_div(rows, c.unit);
  }
  const std::size_t most = packed ? kSpanTokens : kRowSpan;
  const std::size_t spans = ceil_div(tokens, most);
  // Even spans, whole multiples of what the kernels take at once.
  c.span = spans == 0 ? 1 : ceil_div(ceil_div(tokens, spans), 12) * 12;
  c.spans = ceil_div(tokens, c.span);
  return c;
}

/// Writes a piece of the product: tokens [token, token + tokens), rows [row, row + rows).
void finish(const Job& job, std::size_t token, std::size_t tokens, std::size_t row,
            std::size_t rows, const float* sums, std::size_t sums_stride) {
  job.weight->table->finish(sums, sums_stride, rows, tokens,
                            job.bias == nullptr ? nullptr : job.bias + row, job.accumulate,
                            job.y + token * job.y_stride + row, job.y_stride);
}

void run_gemv(const Job& job, std::size_t group, std::size_t groups) {
  const PackedMatrix::Impl& w = *job.weight;
  const std::byte* streams[kUnitGroups] = {};
  alignas(64) float sums[kUnitGroups * kGroupRows];
  for (std::size_t g = 0; g < groups; ++g) streams[g] = w.data + (group + g) * w.stride;
  const auto gemv = w.table->formats[static_cast<std::size_t>(w.dtype)].gemv;
  gemv(streams, groups, w.in_features, job.x->records, sums);
  if (w.precision == Precision::Int8Pair) {
    // The weights are still in the first cache.
    alignas(64) float rest[kUnitGroups * kGroupRows];
    gemv(streams, groups, w.in_features, job.x->rest, rest);
    for (std::size_t i = 0; i < groups * kGroupRows; ++i) sums[i] += rest[i];
  }
  const std::size_t row = group * kGroupRows;
  finish(job, 0, 1, row, std::min(groups * kGroupRows, w.out_features - row), sums, kGroupRows);
}

/// A thread's tile unit, if the level has one and there are tokens enough for it. Closed again, an
/// idle thread's tiles need not be saved when it is switched.
class TileScope {
 public:
  TileScope(const MatmulTable::Format& kernels, std::size_t tokens)
      : close_(tokens >= kTileTokens ? kernels.close_tiles : nullptr) {
    if (open()) kernels.open_tiles(tokens);
  }
  ~TileScope() {
    if (open()) close_();
  }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
  bool open() const { return close_ != nullptr; }

 private:
  void (*close_)();
};

void run_packed(const Job& job, std::size_t group, std::size_t groups, std::size_t token,
                std::size_t tokens) {
  const PackedMatrix::Impl& w = *job.weight;
  const Activations& x = *job.x;
  const MatmulTable::Format& kernels = w.table->formats[static_cast<std::size_t>(w.dtype)];
  alignas(64) float sums[kUnitGroups][kSpanTokens * kGroupRows];
  alignas(64) float rest[kUnitGroups][kSpanTokens * kGroupRows];
  const bool pair = w.precision == Precision::Int8Pair;
  for (std::size_t g = 0; g < groups; ++g) {
    std::fill_n(sums[g], tokens * kGroupRows, 0.0F);
    if (pair) std::fill_n(rest[g], tokens * kGroupRows, 0.0F);
  }
  constexpr std::size_t sums_stride = kSpanTokens * kGroupRows;
  // A dozen tokens' activations stay in the first cache while all groups pass over them.
  const auto by_dozen = [tokens](auto&& body) {
    for (std::size_t t = 0; t < tokens; t += 12) body(t, std::min<std::size_t>(12, tokens - t));
  };
  if (w.precision != Precision::F32) {
    UnpackedTile tiles[kUnitGroups];
    const TileScope scope(kernels, tokens);
    const auto unpack = scope.open() ? kernels.unpack_tiles : kernels.unpack;
    for (std::size_t begin = 0; begin < w.in_features; begin += kChunk) {
      const std::size_t subs = std::min(kChunk, w.in_features - begin) / kSubTile;
      for (std::size_t g = 0; g < groups; ++g) {
        unpack(w.data + (group + g) * w.stride, begin / kSubTile, subs, &tiles[g]);
      }
      const std::size_t record = begin / kChunk * x.tokens + token;
      if (scope.open()) {
        kernels.multiply_tiles(tiles, groups, subs, x.records + record, tokens, sums[0],
                               sums_stride);
        if (pair) {
          kernels.multiply_tiles(tiles, groups, subs, x.rest + record, tokens, rest[0],
                                 sums_stride);
        }
        continue;
      }
      by_dozen([&](std::size_t t, std::size_t count) {
        kernels.multiply(tiles, groups, subs, x.records + record + t, count,
                         sums[0] + t * kGroupRows, sums_stride);
        if (pair) {
          kernels.multiply(tiles, groups, subs, x.rest + record + t, count,
                           rest[0] + t * kGroupRows, sums_stride);
        }
      });
    }
    // Summed apart and joined at the end, as for one token: the same bits either way.
    for (std::size_t g = 0; pair && g < groups; ++g) {
      for (std::size_t i = 0; i < tokens * kGroupRows; ++i) sums[g][i] += rest[g][i];
    }
  } else {
    constexpr std::size_t kPair = 2;
    alignas(64) float weights[kPair * kF32Panel];
    for (std::size_t begin = 0; begin < w.in_features; begin += kF32Features) {
      const std::size_t features = std::min(kF32Features, w.in_features - begin);
      const float* panel = x.panel + (begin / kChunk * x.tokens + token) * kChunk + begin % kChunk;
      for (std::size_t g = 0; g < groups; g += kPair) {
        const std::size_t side = std::min(kPair, groups - g);
        for (std::size_t i = 0; i < side; ++i) {
          kernels.dequantise(w.data + (group + g + i) * w.stride, begin / kSubTile,
                             features / kSubTile, weights + i * kF32Panel);
        }
        w.table->multiply_f32(weights, kF32Panel, side, features, panel, kChunk, tokens, sums[g],
                              sums_stride);
      }
    }
  }
  const std::size_t row = group * kGroupRows;
  finish(job, token, tokens, row, std::min(groups * kGroupRows, w.out_features - row), sums[0],
         sums_stride);
}

void run_rows(const Job& job, std::size_t row, std::size_t rows, std::size_t token,
              std::size_t tokens) {
  const PackedMatrix::Impl& w = *job.weight;
  const Activations& x = *job.x;
  float sums[kRowUnit * kRowSpan];
  // Four rows at a time over all tokens: the rows stay in the second cache, as do the tokens.
  for (std::size_t r = 0; r < rows; r += kDotRows) {
    w.table->dot_rows[static_cast<std::size_t>(w.dtype)](
        w.data + (row + r) * w.stride, w.stride, std::min(kDotRows, rows - r), w.in_features,
        x.x + token * x.x_stride, x.x_stride, tokens, sums + r * tokens);
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    float column[kRowUnit];
    for (std::size_t r = 0; r < rows; ++r) column[r] = sums[r * tokens + t];
    finish(job, token + t, 1, row, rows, column, kGroupRows);
  }
}

void run_item(const Job& job, const Cut& c, std::size_t item) {
  const PackedMatrix::Impl& w = *job.weight;
  // Spans of one unit follow each other: its weights are still in a cache.
  const std::size_t first = item / c.spans * c.unit;
  const std::size_t token = item % c.spans * c.span;
  const std::size_t tokens = std::min(c.span, job.x->tokens - token);
  if (!w.packed()) {
    run_rows(job, first, std::min(c.unit, w.out_features - first), token, tokens);
    return;
  }
  const std::size_t groups = std::min(c.unit, ceil_div(w.out_features, kGroupRows) - first);
  if (w.precision != Precision::F32 && job.x->tokens == 1) {
    run_gemv(job, first, groups);
  } else {
    run_packed(job, first, groups, token, tokens);
  }
}

/// What a record rounds off its `subs` * 32 features, quantised in turn.
void quantise_rest(const MatmulTable& table, const float* x, std::size_t subs,
                   const ActivationRecord& record, ActivationRecord* rest) {
  float left[kChunk];
  for (std::size_t s = 0; s < subs; ++s) {
    for (std::size_t i = s * kSubTile; i < (s + 1) * kSubTile; ++i) {
      left[i] = x[i] - record.d[s] * static_cast<float>(record.q[i]);
    }
  }
  table.quantise(left, subs, rest);
}

/// One chunk (256 features) of one token: gate, quantise, copy.
void prepare_chunk(const MatmulTable& table, const Activations& a, const float* up,
                   std::size_t token, std::size_t chunk) {
  const std::size_t begin = chunk * kChunk;
  const std::size_t features = std::min(kChunk, a.features - begin);
  const float* x = a.x + token * a.x_stride + begin;
  if (up != nullptr) {
    // The caller's own scratch: prepare_gated() was given it to write.
    table.silu_mul(const_cast<float*>(x), up + token * a.x_stride + begin, features);
  }
  if (a.records != nullptr) {
    ActivationRecord* record = a.records + chunk * a.tokens + token;
    table.quantise(x, features / kSubTile, record);
    if (a.rest != nullptr) {
      quantise_rest(table, x, features / kSubTile, *record, a.rest + chunk * a.tokens + token);
    }
  }
  if (a.panel != nullptr && a.panel != a.x) {
    std::memcpy(const_cast<float*>(a.panel) + (chunk * a.tokens + token) * kChunk, x,
                features * sizeof(float));
  }
}

}  // namespace

void need(Activations& x, const PackedMatrix& weight, Arena& arena) {
  const PackedMatrix::Impl& w = weight.impl();
  if (!w.packed()) return;
  if (w.precision != Precision::F32) {
    const std::size_t count = x.chunks() * x.tokens + kTileRecordsPast;
    if (x.records == nullptr) x.records = arena.take<ActivationRecord>(count);
    if (x.rest == nullptr && w.precision == Precision::Int8Pair) {
      x.rest = arena.take<ActivationRecord>(count);
    }
  } else if (x.panel == nullptr) {
    // One token's row is its own panel.
    x.panel = x.tokens == 1 ? x.x : arena.take<float>(x.chunks() * x.tokens * kChunk);
  }
}

void prepare_gated(ThreadPool& pool, const MatmulTable& table, std::span<Activations> activations,
                   std::span<const float* const> ups) {
  struct Part {
    std::size_t activation, first;  // the first of its token-chunks
  };
  std::vector<Part> parts;
  std::size_t total = 0;
  for (std::size_t i = 0; i < activations.size(); ++i) {
    const Activations& a = activations[i];
    const bool work =
        !ups.empty() || a.records != nullptr || (a.panel != nullptr && a.panel != a.x);
    if (!work || a.tokens == 0) continue;
    parts.push_back({i, total});
    total += a.tokens * a.chunks();
  }
  if (total == 0) return;
  const auto body = [&](std::size_t begin, std::size_t end) {
    auto part = std::upper_bound(parts.begin(), parts.end(), begin,
                                 [](std::size_t at, const Part& p) { return at < p.first; }) -
                1;
    for (std::size_t at = begin; at < end; ++at) {
      while (part + 1 != parts.end() && (part + 1)->first <= at) ++part;
      const Activations& a = activations[part->activation];
      const std::size_t local = at - part->first;
      prepare_chunk(table, a, ups.empty() ? nullptr : ups[part->activation], local / a.chunks(),
                    local % a.chunks());
    }
  };
  if (total * kChunk <= kSerial) {
    body(0, total);
  } else {
    pool.for_ranges(total, kSerial / 2 / kChunk, body);
  }
}

void prepare(ThreadPool& pool, const MatmulTable& table, std::span<Activations> activations) {
  prepare_gated(pool, table, activations, {});
}

void run(ThreadPool& pool, std::span<const Job> jobs) {
  for (const Job& job : jobs) {
    if (job.weight->inputs == nullptr) continue;
    job.weight->inputs->add(job.x->x, job.x->x_stride, job.x->tokens);
  }
  // Wide units read more streams side by side; narrow ones even out the threads' loads.
  std::size_t unit = kUnitGroups;
  std::size_t items = 0;
  const auto count = [&] {
    items = 0;
    for (const Job& job : jobs) items += cut(job, unit).items();
  };
  for (count(); unit > 1 && items < 6 * std::size_t{pool.size()}; count()) unit /= 2;
  if (items == 0) return;
  if (jobs.size() == 1) {
    const Cut c = cut(jobs[0], unit);
    pool.run(items, [&](std::size_t item, unsigned) { run_item(jobs[0], c, item); });
    return;
  }
  struct Part {
    Cut cut;
    std::size_t first;
  };
  std::vector<Part> parts(jobs.size());
  std::size_t first = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    parts[i] = {cut(jobs[i], unit), first};
    first += parts[i].cut.items();
  }
  pool.run(items, [&](std::size_t item, unsigned) {
    // The last job whose first item is not past this one; empty jobs share theirs with the next.
    const auto part = std::upper_bound(parts.begin(), parts.end(), item,
                                       [](std::size_t at, const Part& p) { return at < p.first; }) -
                      1;
    run_item(jobs[static_cast<std::size_t>(part - parts.begin())], part->cut, item - part->first);
  });
}

}  // namespace fathom::cpu
