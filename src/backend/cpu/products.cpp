#include "backend/cpu/products.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "backend/input_sums.h"
#include "base/checked.h"
#include "base/cpu_features.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kUnitRows = 64;  // rows of a chunk of work: four groups side by side
constexpr std::size_t kUnitGroups = kUnitRows / kGroupRows;
constexpr std::size_t kSpanTokens = 96;  // tokens that share an unpacked chunk
constexpr std::size_t kRowUnit = 32;     // the same where rows are read as stored
constexpr std::size_t kRowSpan = 48;

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

/// How a job is cut: units of rows times spans of tokens.
struct Cut {
  std::size_t unit = 1;
  std::size_t units = 0;
  std::size_t span = 1;
  std::size_t spans = 0;
  std::size_t items() const { return units * spans; }
};

/// `unit`: rows of a packed matrix, 16 to 64.
Cut cut(const Job& job, std::size_t unit) {
  const std::size_t tokens = job.x->tokens;
  const bool packed = job.weight->packed() && (job.up == nullptr || job.up->packed());
  Cut c;
  c.unit = packed ? unit : unit * kRowUnit / kUnitRows;
  // Outputs that are rounded at once must be whole blocks.
  if (job.gated != nullptr) c.unit = std::max(c.unit, kSubTile);
  c.units = ceil_div(job.weight->out_features, c.unit);
  const std::size_t most = packed ? kSpanTokens : kRowSpan;
  const std::size_t spans = ceil_div(tokens, most);
  // Even spans, whole multiples of what the kernels take at once.
  c.span = spans == 0 ? 1 : ceil_div(ceil_div(tokens, spans), 12) * 12;
  c.spans = ceil_div(tokens, c.span);
  return c;
}

/// A piece of a product: rows [row, row + rows) times tokens [token, token + tokens).
struct Piece {
  const PackedMatrix::Impl& w;
  const std::byte* data;  // the worker's copy of w's
  const Activations& x;
  std::size_t row, rows;
  std::size_t token, tokens;
  float* y;  // [tokens, rows], y_stride floats apart
  std::size_t y_stride;
  const float* bias = nullptr;  // [rows] or null
  bool accumulate = false;

  std::size_t groups() const { return ceil_div(rows, kGroupRows); }
  const std::byte* group(std::size_t g) const { return data + (row / kGroupRows + g) * w.stride; }
  /// Writes `count` tokens from `first` on, given as sums[group, token, 16].
  void finish(std::size_t first, std::size_t count, const float* sums,
              std::size_t sums_stride) const {
    w.table->finish(sums, sums_stride, rows, count, bias, accumulate, y + first * y_stride,
                    y_stride);
  }
};

/// The groups of w's rows from `row` on.
Upcoming upcoming(const PackedMatrix::Impl& w, std::size_t row, std::size_t copy) {
  return {w.data_of(copy) + row / kGroupRows * w.stride, w.stride};
}

/// Whether `tokens` are multiplied straight from the packed form.
bool streams(const PackedMatrix::Impl& w, std::size_t tokens) {
  return w.packed() && w.precision != Precision::F32 &&
         tokens <= w.table->formats[static_cast<std::size_t>(w.dtype)].stream_tokens;
}

void run_stream(const Piece& p, Upcoming next) {
  const PackedMatrix::Impl& w = p.w;
  const auto stream = w.table->formats[static_cast<std::size_t>(w.dtype)].stream;
  const std::size_t groups = p.groups();
  const std::byte* at[kUnitGroups] = {};
  for (std::size_t g = 0; g < groups; ++g) at[g] = p.group(g);
  alignas(64) float sums[kUnitGroups][kMostStreamTokens * kGroupRows];
  alignas(64) float rest[kUnitGroups][kMostStreamTokens * kGroupRows];
  constexpr std::size_t sums_stride = kMostStreamTokens * kGroupRows;
  // As many passes as must be, over about as many tokens each.
  const std::size_t passes = ceil_div(p.tokens, w.table->stream_at_once);
  const std::size_t share = std::min(ceil_div(ceil_div(p.tokens, passes), 2) * 2, p.tokens);
  // What one core of this CPU reads quickest: groups one after the other, or side by side.
  const bool linear = cpu_features().reads_one_stream;
  const std::size_t side = linear ? 1 : groups;
  for (std::size_t g = 0; g < groups; g += side) {
    const bool last = g + side == groups;
    const Upcoming after = last ? next : Upcoming{p.group(g + side), w.stride};
    for (std::size_t t = 0; t < p.tokens; t += share) {
      const std::size_t count = std::min(share, p.tokens - t);
      const std::size_t record = p.token + t;
      // The CPU's own prefetchers suffice for one stream that is not held up by much arithmetic.
      const bool ask = t == 0 && (!linear || p.tokens > 2);
      const Ahead ahead{ask, ask ? after : Upcoming{}};
      stream(at + g, side, w.in_features, p.x.records + record, p.x.tokens, count,
             sums[g] + t * kGroupRows, sums_stride, ahead);
      if (w.precision != Precision::Int8Pair) continue;
      // The weights are in a cache now.
      stream(at + g, side, w.in_features, p.x.rest + record, p.x.tokens, count,
             rest[g] + t * kGroupRows, sums_stride, {});
      for (std::size_t i = 0; i < side; ++i) {
        for (std::size_t k = t * kGroupRows; k < (t + count) * kGroupRows; ++k) {
          sums[g + i][k] += rest[g + i][k];
        }
      }
    }
  }
  p.finish(0, p.tokens, sums[0], sums_stride);
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

void run_packed(const Piece& p) {
  const PackedMatrix::Impl& w = p.w;
  const Activations& x = p.x;
  const std::size_t tokens = p.tokens;
  const std::size_t groups = p.groups();
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
        unpack(p.group(g), begin / kSubTile, subs, &tiles[g]);
      }
      const std::size_t record = begin / kChunk * x.tokens + p.token;
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
      const float* panel =
          x.panel + (begin / kChunk * x.tokens + p.token) * kChunk + begin % kChunk;
      for (std::size_t g = 0; g < groups; g += kPair) {
        const std::size_t side = std::min(kPair, groups - g);
        for (std::size_t i = 0; i < side; ++i) {
          kernels.dequantise(p.group(g + i), begin / kSubTile, features / kSubTile,
                             weights + i * kF32Panel);
        }
        w.table->multiply_f32(weights, kF32Panel, side, features, panel, kChunk, tokens, sums[g],
                              sums_stride);
      }
    }
  }
  p.finish(0, tokens, sums[0], sums_stride);
}

void run_rows(const Piece& p) {
  const PackedMatrix::Impl& w = p.w;
  float sums[kRowUnit * kRowSpan];
  // Four rows at a time over all tokens: the rows stay in the second cache, as do the tokens.
  for (std::size_t r = 0; r < p.rows; r += kDotRows) {
    w.table->dot_rows[static_cast<std::size_t>(w.dtype)](
        p.data + (p.row + r) * w.stride, w.stride, std::min(kDotRows, p.rows - r), w.in_features,
        p.x.x + p.token * p.x.x_stride, p.x.x_stride, p.tokens, sums + r * p.tokens);
  }
  for (std::size_t t = 0; t < p.tokens; ++t) {
    float column[kRowUnit];
    for (std::size_t r = 0; r < p.rows; ++r) column[r] = sums[r * p.tokens + t];
    p.finish(t, 1, column, kGroupRows);
  }
}

void run_piece(const Piece& p, Upcoming next) {
  if (!p.w.packed()) return run_rows(p);
  if (streams(p.w, p.tokens)) return run_stream(p, next);
  run_packed(p);
}

/// Gate and up of the same rows, joined and rounded for what reads them, while they are in the
/// first cache. `more`: whether the rows after these come next.
void run_gated(const Job& job, std::size_t row, std::size_t rows, std::size_t token,
               std::size_t tokens, std::size_t copy, bool more) {
  alignas(64) float gate[kSpanTokens * kUnitRows];
  alignas(64) float up[kSpanTokens * kUnitRows];
  run_piece(
      {*job.weight, job.weight->data_of(copy), *job.x, row, rows, token, tokens, gate, kUnitRows},
      upcoming(*job.up, row, copy));
  run_piece({*job.up, job.up->data_of(copy), *job.x, row, rows, token, tokens, up, kUnitRows},
            more ? upcoming(*job.weight, row + rows, copy) : Upcoming{});
  const MatmulTable& table = *job.weight->table;
  for (std::size_t t = 0; t < tokens; ++t) {
    float* values = gate + t * kUnitRows;
    table.silu_mul(values, up + t * kUnitRows, rows);
    put(table, *job.gated, token + t, row, rows, values);
  }
}

void run_item(const Job& job, const Cut& c, std::size_t item, std::size_t copy) {
  // Spans of one unit follow each other: its weights are still in a cache.
  const std::size_t unit = item / c.spans;
  const std::size_t token = item % c.spans * c.span;
  const std::size_t tokens = std::min(c.span, job.x->tokens - token);
  const std::size_t row = unit * c.unit;
  const std::size_t rows = std::min(c.unit, job.weight->out_features - row);
  const bool more = unit + 1 < c.units;
  if (job.gated != nullptr) return run_gated(job, row, rows, token, tokens, copy, more);
  run_piece({*job.weight, job.weight->data_of(copy), *job.x, row, rows, token, tokens,
             job.y + token * job.y_stride + row, job.y_stride,
             job.bias == nullptr ? nullptr : job.bias + row, job.accumulate},
            more ? upcoming(*job.weight, row + rows, copy) : Upcoming{});
}

/// Hands out items so that each worker gets neighbours, one after the other, and reads memory as
/// one long run; who is through with its own takes of others'.
class Shares {
 public:
  Shares(std::size_t items, unsigned workers) : shares_(workers) {
    std::size_t begin = 0;
    for (std::size_t w = 0; w < workers; ++w) {
      shares_[w].next = begin;
      begin = shares_[w].end = items * (w + 1) / workers;
    }
  }
  /// To be called once for each item.
  std::size_t take(std::size_t worker) {
    for (std::size_t i = 0;; ++i) {
      Share& share = shares_[(worker + i) % shares_.size()];
      if (share.next.load(std::memory_order_relaxed) >= share.end) continue;
      const std::size_t item = share.next.fetch_add(1, std::memory_order_relaxed);
      if (item < share.end) return item;
    }
  }

 private:
  struct alignas(64) Share {
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
  };
  std::vector<Share> shares_;
};

}  // namespace

void run(ThreadPool& pool, std::span<const Job> jobs) {
  for (const Job& job : jobs) {
    for (const PackedMatrix::Impl* weight : {job.weight, job.up}) {
      if (weight == nullptr || weight->inputs == nullptr) continue;
      weight->inputs->add(job.x->x, job.x->x_stride, job.x->tokens);
    }
  }
  // Wide units read more streams side by side; narrow ones even out the threads' loads.
  std::size_t unit = kUnitRows;
  std::size_t items = 0;
  const auto count = [&] {
    items = 0;
    for (const Job& job : jobs) items += cut(job, unit).items();
  };
  for (count(); unit > kGroupRows && items < 6 * std::size_t{pool.size()}; count()) unit /= 2;
  if (items == 0) return;
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
  items = first;
  Shares shares(items, pool.size());
  pool.run(items, [&](std::size_t, unsigned worker) {
    const std::size_t item = shares.take(worker);
    // The last job whose first item is not past this one; empty jobs share theirs with the next.
    const auto part = std::upper_bound(parts.begin(), parts.end(), item,
                                       [](std::size_t at, const Part& p) { return at < p.first; }) -
                      1;
    run_item(jobs[static_cast<std::size_t>(part - parts.begin())], part->cut, item - part->first,
             pool.copy(worker));
  });
}

}  // namespace fathom::cpu
