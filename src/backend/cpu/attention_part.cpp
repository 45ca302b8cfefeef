// Scores of all pages of the part, their softmax, then the weighted sum of the values.
//
// Grouped queries: a vector's lanes are sixteen keys of the cache, times an element of a query.
// Latent queries: keys are rows of the cache, which cannot also hold them turned, so here the
// queries are turned, once a block: lanes are sixteen queries (heads, mostly), times an element of
// a key. The weighted sum is the same for both: lanes are elements of a value, times a weight.
//
// Where BF16 is good enough for queries and weights too, units for BF16 multiply all of this, and
// the cache as it lies: only latent entries, as keys, have their pairs taken apart first.
//
// With few queries, kernels read the cache's pairs of BF16 or F16 as they lie. With many, pairs
// become F32 once for all of them, a corner at a time that stays in the first cache; Q8_0 always
// does.
#include "backend/cpu/attention_part.h"

#include <algorithm>

namespace fathom::cpu {
namespace {

constexpr std::size_t kDirectQueries = 12;  // above this, unpacking first is cheaper
constexpr std::size_t kTileQueries = 6;     // what a kernel takes at once: masks are cut this fine
constexpr std::size_t kChunk = 64;          // elements of keys or values that are unpacked at once
constexpr std::size_t kEntryChunk = 192;    // elements of latent entries taken apart at once
constexpr float kLog2E = 1.44269504F;

/// One part of one block's context.
struct Part {
  const AttentionTable& kernels;
  const AttentionShape& shape;
  const AttentionBlock& block;
  const AttentionQueries& queries;
  const AttentionScratch& scratch;
  std::size_t first;       // the first key
  std::size_t keys;        // that the block's last token sees
  std::size_t score_row;   // floats from query to query
  std::size_t score_step;  // floats from key to key

  std::size_t count() const { return block.queries(); }
  std::size_t pages() const { return (keys + kPageTokens - 1) / kPageTokens; }
  /// Keys of the part's page p among the first `limit`.
  static std::size_t of_page(std::size_t limit, std::size_t p) {
    return limit <= p * kPageTokens ? 0 : std::min(kPageTokens, limit - p * kPageTokens);
  }
  const std::byte* page(std::size_t p) const { return block.span->pages[first / kPageTokens + p]; }
  const std::byte* keys_of(std::size_t p) const {
    return page(p) + keys_offset(shape.kv, block.group);
  }
  const std::byte* values_of(std::size_t p) const {
    return page(p) + values_offset(shape.kv, block.group);
  }
  /// What will be read after the keys, and after the values, of page p. Null after the last.
  const std::byte* after_keys(std::size_t p) const {
    return p + 1 < pages() ? keys_of(p + 1) : values_of(0);
  }
  const std::byte* after_values(std::size_t p) const {
    if (p + 1 < pages()) return values_of(p + 1);
    const std::size_t next = first / kPageTokens + p + 1;
    if (next >= (block.context() + kPageTokens - 1) / kPageTokens) return nullptr;
    return block.span->pages[next] + keys_offset(shape.kv, block.group);
  }
  /// Whether the cache is multiplied as it lies: bytes with scales first become F32 in any case.
  bool direct() const {
    return shape.kv.word_elements() == 1 ||
           (shape.kv.word_elements() == 2 && count() <= kDirectQueries);
  }
  /// Queries [begin, end) at a time; `limit` is the most that one of them sees.
  template <typename Body>
  void by_tiles(const Body& body, std::size_t tile = kTileQueries) const {
    for (std::size_t q = 0; q < count(); q += tile) {
      const std::size_t end = std::min(q + tile, count());
      body(q, end - q, scratch.limits[end - 1]);
    }
  }
};

/// Unpacks elements [begin, begin + width) of sixteen keys of a page into the corner.
void unpack_keys(const Part& part, std::size_t p, std::size_t group, std::size_t begin,
                 std::size_t width) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t words = kv.stored_k_dim() / kv.word_elements();
  const std::size_t at = (group * words + begin / kv.word_elements()) * kLaneKeys * 4;
  const std::byte* keys = part.keys_of(p);
  const std::byte* next = part.after_keys(p) + at;
  float* out = part.scratch.corner + group * kChunk * kLaneKeys;
  if (kv.dtype == DType::Q8_0) {
    const std::byte* scales = keys + scales_offset(kv.stored_k_dim()) +
                              (begin / kScaleElements * kPageTokens + group * kLaneKeys) * 2;
    part.kernels.unpack_keys_q8(keys + at, width / 4, scales, out, next);
  } else {
    part.kernels.unpack(kv.dtype, keys + at, kLaneKeys * 4, width / 2, kLaneKeys, out, kLaneKeys,
                        next);
  }
}

void score_grouped(const Part& part, std::size_t p) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t row_bytes = kLaneKeys * 4;
  PanelProduct product;
  product.x_row = part.queries.stride;
  product.sums_row = part.score_row;
  product.panel_step = row_bytes;
  const auto multiply = [&](std::size_t k, bool add) {
    product.add = add;
    part.by_tiles([&](std::size_t q, std::size_t rows, std::size_t limit) {
      product.groups = (Part::of_page(limit, p) + kLaneKeys - 1) / kLaneKeys;
      product.x = part.queries.q + q * part.queries.stride + k;
      product.rows = rows;
      product.sums = part.scratch.scores + q * part.score_row + p * kPageTokens;
      part.kernels.multiply(product);
    });
  };

  if (part.direct()) {
    product.dtype = kv.dtype;
    product.panel = part.keys_of(p);
    product.next = part.after_keys(p);
    product.steps = kv.stored_k_dim() / kv.word_elements();
    product.panel_group = product.steps * row_bytes;
    multiply(0, false);
    return;
  }
  const std::size_t lane_groups = (Part::of_page(part.keys, p) + kLaneKeys - 1) / kLaneKeys;
  for (std::size_t k = 0; k < kv.stored_k_dim(); k += kChunk) {
    const std::size_t width = std::min(kChunk, kv.stored_k_dim() - k);
    for (std::size_t g = 0; g < lane_groups; ++g) unpack_keys(part, p, g, k, width);
    product.panel = reinterpret_cast<const std::byte*>(part.scratch.corner);
    product.panel_group = kChunk * row_bytes;
    product.steps = width;
    multiply(k, k > 0);
  }
}

/// Unpacks elements [begin, begin + width) of the first `keys` values (or latent entries) of a page
/// [64, dim] into the corner.
void unpack_rows(const Part& part, const std::byte* rows, std::size_t dim, std::size_t keys,
                 std::size_t begin, std::size_t width, const std::byte* next) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t words = (keys + kv.word_elements() - 1) / kv.word_elements();
  const std::byte* from = rows + 4 * begin;
  if (next != nullptr) next += 4 * begin;
  if (kv.dtype == DType::Q8_0) {
    const std::byte* scales = rows + scales_offset(dim) + begin / kScaleElements * kPageTokens * 2;
    part.kernels.unpack_rows_q8(from, 4 * dim, words, width, scales, part.scratch.corner, kChunk,
                                next);
  } else {
    part.kernels.unpack(kv.dtype, from, 4 * dim, words, width, part.scratch.corner, kChunk, next);
  }
}

void score_latent(const Part& part, std::size_t p) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t keys = Part::of_page(part.keys, p);
  PanelProduct product;
  product.panel_step = 16 * sizeof(float);
  product.panel_group = kv.k_dim * product.panel_step;
  product.groups = (part.count() + 15) / 16;
  product.rows = keys;
  product.sums = part.scratch.scores + p * kPageTokens * part.score_step;
  product.sums_row = part.score_step;
  for (std::size_t k = 0; k < kv.k_dim; k += kChunk) {
    product.panel = reinterpret_cast<const std::byte*>(part.queries.q + 16 * k);
    product.steps = std::min(kChunk, kv.k_dim - k);
    product.add = k > 0;
    if (kv.dtype == DType::F32) {
      product.x = reinterpret_cast<const float*>(part.keys_of(p)) + k;
      product.x_row = kv.k_dim;
    } else {
      unpack_rows(part, part.keys_of(p), kv.k_dim, keys, k, product.steps, part.after_keys(p));
      product.x = part.scratch.corner;
      product.x_row = kChunk;
    }
    part.kernels.multiply(product);
  }
}

void add_values(const Part& part, std::size_t p, float* values) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t dim = kv.latent() ? kv.k_dim : kv.v_dim;
  const std::size_t v_dim = part.shape.v_dim;
  PanelProduct product;
  product.panel_group = kLaneKeys * 4;
  product.x_row = part.score_row;
  product.x_step = part.score_step;
  product.sums_row = padded_v_dim(part.shape);
  product.add = p > 0;
  const auto multiply = [&](std::size_t rows_a_step) {
    part.by_tiles([&](std::size_t q, std::size_t rows, std::size_t limit) {
      product.steps = (Part::of_page(limit, p) + rows_a_step - 1) / rows_a_step;
      if (product.steps == 0 && product.add) return;
      product.x = part.scratch.scores + q * part.score_row + p * kPageTokens * part.score_step;
      product.rows = rows;
      product.sums += q * product.sums_row;
      part.kernels.multiply(product);
      product.sums -= q * product.sums_row;
    });
  };

  const bool whole = v_dim % 16 == 0;
  if (whole && part.direct()) {
    product.dtype = kv.dtype;
    product.panel = part.values_of(p);
    product.next = part.after_values(p);
    product.panel_step = 4 * dim;
    product.groups = v_dim / 16;
    product.sums = values;
    multiply(kv.word_elements());
    return;
  }
  product.panel = reinterpret_cast<const std::byte*>(part.scratch.corner);
  product.panel_step = kChunk * sizeof(float);
  for (std::size_t v = 0; v < v_dim; v += kChunk) {
    const std::size_t width = std::min(kChunk, v_dim - v);
    unpack_rows(part, part.values_of(p), dim, Part::of_page(part.keys, p), v, width,
                part.after_values(p));
    product.groups = (width + 15) / 16;
    product.sums = values + v;
    multiply(1);
  }
}

// ---- in BF16 ------------------------------------------------------------------------------------

std::size_t up_to(std::size_t x, std::size_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

void score_grouped_rounded(const Part& part, std::size_t p) {
  const KvLayout& kv = part.shape.kv;
  RoundedProduct product;
  product.panel = part.keys_of(p);
  product.fetch = part.after_keys(p);
  product.panel_step = kLaneKeys * 4;
  product.steps = kv.stored_k_dim() / 2;
  product.panel_group = product.steps * product.panel_step;
  product.x_row = part.queries.stride;
  product.sums_row = part.score_row;
  part.by_tiles(
      [&](std::size_t q, std::size_t rows, std::size_t limit) {
        product.groups = (Part::of_page(limit, p) + kLaneKeys - 1) / kLaneKeys;
        product.fetch_bytes =
            q == 0 && product.fetch != nullptr ? kPageTokens * kv.stored_k_dim() * 2 : 0;
        product.x = part.queries.brains + q * part.queries.stride;
        product.rows = rows;
        product.sums = part.scratch.scores + q * part.score_row + p * kPageTokens;
        part.kernels.rounded.multiply(product);
      },
      part.kernels.rounded.queries);
}

void score_latent_rounded(const Part& part, std::size_t p) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t keys = Part::of_page(part.keys, p);
  RoundedProduct product;
  product.panel_step = 64;
  product.panel_group = up_to(kv.k_dim, 32) / 2 * product.panel_step;
  product.groups = (part.count() + 15) / 16;
  product.x = part.scratch.entries;
  product.x_row = kEntryChunk;
  product.rows = keys;
  product.sums = part.scratch.scores + p * kPageTokens * part.score_step;
  product.sums_row = part.score_step;
  for (std::size_t k = 0; k < kv.k_dim; k += kEntryChunk) {
    const std::size_t width = std::min(kEntryChunk, kv.k_dim - k);
    part.kernels.rounded.split_entries(part.keys_of(p) + 4 * k, 4 * kv.k_dim, (keys + 1) / 2, width,
                                       part.scratch.entries, kEntryChunk);
    if (const std::byte* next = part.after_values(p); next != nullptr) {
      product.fetch = next + kPageTokens * 2 * k;
      product.fetch_bytes = kPageTokens * 2 * width;
    }
    product.panel = reinterpret_cast<const std::byte*>(part.queries.brains) + 32 * k;
    product.steps = up_to(width, 32) / 2;
    product.add = k > 0;
    part.kernels.rounded.multiply(product);
  }
}

void add_values_rounded(const Part& part, std::size_t p, float* values) {
  const KvLayout& kv = part.shape.kv;
  const std::size_t dim = kv.latent() ? kv.k_dim : kv.v_dim;
  RoundedProduct product;
  product.panel = part.values_of(p);
  product.fetch = kv.latent() ? nullptr : part.after_values(p);
  product.panel_step = 4 * dim;
  product.panel_group = 64;
  product.groups = part.shape.v_dim / 16;
  product.x_row = kWeightRow;
  product.sums_row = padded_v_dim(part.shape);
  product.add = p > 0;
  part.by_tiles(
      [&](std::size_t q, std::size_t rows, std::size_t limit) {
        product.steps = (Part::of_page(limit, p) + 1) / 2;
        if (product.steps == 0 && product.add) return;
        product.fetch_bytes = q == 0 && product.fetch != nullptr ? kPageTokens * dim * 2 : 0;
        product.x = part.scratch.weights + q * kWeightRow + p * kPageTokens;
        product.rows = rows;
        product.sums = values + q * product.sums_row;
        part.kernels.rounded.multiply(product);
      },
      part.kernels.rounded.queries);
}

void attend_rounded(const Part& part, float factor, const AttentionState& state) {
  const AttentionScratch& room = part.scratch;
  const RoundedKernels& kernels = part.kernels.rounded;
  const std::size_t count = part.count();
  const std::size_t padded = up_to(part.keys, 32);  // what a tile takes of the weights
  kernels.open();
  if (part.shape.kv.latent()) {
    const std::size_t lanes = part.score_step;
    for (std::size_t p = 0; p < part.pages(); ++p) score_latent_rounded(part, p);
    std::fill_n(room.scores + part.keys * lanes, (padded - part.keys) * lanes, 0.0F);
    part.kernels.softmax_columns(room.scores, count, room.limits, part.keys, factor, state.most,
                                 state.sum);
    for (std::size_t lane = 0; lane < lanes; lane += 16) {
      kernels.round_columns(room.scores + lane, lanes, padded, room.weights + lane * kWeightRow,
                            kWeightRow);
    }
  } else {
    for (std::size_t p = 0; p < part.pages(); ++p) score_grouped_rounded(part, p);
    for (std::size_t i = 0; i < count; ++i) {
      float* scores = room.scores + i * kPartTokens;
      part.kernels.softmax_row(scores, room.limits[i], padded, factor, state.most + i,
                               state.sum + i);
      kernels.round_row(scores, padded, room.weights + i * kWeightRow);
    }
  }
  for (std::size_t p = 0; p < part.pages(); ++p) add_values_rounded(part, p, state.values);
  kernels.close();
}

}  // namespace

bool rounded(const AttentionTable& kernels, const AttentionShape& shape) {
  return shape.rounded && kernels.rounded.multiply != nullptr && shape.kv.dtype == DType::BF16 &&
         shape.v_dim % 16 == 0 && (!shape.kv.latent() || shape.kv.k_dim % 16 == 0);
}

AttentionState take_state(Arena& arena, const AttentionShape& shape, std::size_t queries) {
  return {arena.take<float>(queries), arena.take<float>(queries),
          arena.take<float>(queries * padded_v_dim(shape))};
}

AttentionQueries gather(const AttentionTable& kernels, Arena& arena, const AttentionShape& shape,
                        const AttentionBlock& block) {
  const std::size_t dim = shape.kv.k_dim;
  const auto row = [&](std::size_t i) {
    return block.span->q + (block.token_of(i) * shape.heads + block.head_of(i)) * dim;
  };
  if (shape.kv.latent()) {
    const std::size_t groups = (block.queries() + 15) / 16;
    auto* q = arena.take<float>(groups * dim * 16);
    for (std::size_t g = 0; g < groups; ++g) {
      const float* rows[16];
      const std::size_t count = std::min<std::size_t>(16, block.queries() - 16 * g);
      for (std::size_t lane = 0; lane < count; ++lane) rows[lane] = row(16 * g + lane);
      kernels.turn(rows, count, dim, q + g * dim * 16);
    }
    if (!rounded(kernels, shape)) return {q, 0};
    auto* brains = arena.take<std::uint16_t>(groups * up_to(dim, 32) * 16);
    for (std::size_t g = 0; g < groups; ++g) {
      kernels.rounded.round_panel(q + g * dim * 16, dim, brains + g * up_to(dim, 32) * 16);
    }
    return {q, 0, brains};
  }
  // Not a power of two: rows at such distances would fall into the same sets of the cache.
  if (rounded(kernels, shape)) {
    const std::size_t stride = up_to(dim, 32) + 32;
    const std::size_t rows = up_to(block.queries(), 16);
    auto* brains = arena.take<std::uint16_t>(rows * stride);
    auto* padded = arena.take<float>(up_to(dim, 32));
    std::fill_n(padded, up_to(dim, 32), 0.0F);
    for (std::size_t i = 0; i < block.queries(); ++i) {
      std::copy_n(row(i), dim, padded);
      kernels.rounded.round_row(padded, up_to(dim, 32), brains + i * stride);
    }
    return {nullptr, stride, brains};
  }
  const std::size_t stride = (dim + 15) / 16 * 16 + 16;
  auto* q = arena.take<float>(block.queries() * stride);
  for (std::size_t i = 0; i < block.queries(); ++i) {
    std::copy_n(row(i), dim, q + i * stride);
    std::fill_n(q + i * stride + dim, shape.kv.stored_k_dim() - dim, 0.0F);
  }
  return {q, stride};
}

AttentionScratch take_scratch(Arena& arena, std::size_t queries, bool rounded) {
  AttentionScratch room{arena.take<std::size_t>(queries),
                        arena.take<float>(kPartTokens * up_to(queries, 16)),
                        arena.take<float>(kPageTokens * kChunk)};
  if (rounded) {
    room.weights = arena.take<std::uint16_t>(up_to(queries, 16) * kWeightRow);
    room.entries = arena.take<std::uint16_t>(kPageTokens * kEntryChunk);
  }
  return room;
}

void attend_part(const AttentionTable& kernels, const AttentionShape& shape,
                 const AttentionBlock& block, const AttentionQueries& queries, std::size_t part,
                 const AttentionScratch& scratch, const AttentionState& state) {
  const std::size_t count = block.queries();
  const std::size_t first = part * kPartTokens;
  const std::size_t keys = std::min(block.context() - first, kPartTokens);
  const bool latent = shape.kv.latent();
  const std::size_t lanes = (count + 15) / 16 * 16;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t seen = block.seen_by(i);
    scratch.limits[i] = seen <= first ? 0 : std::min(seen - first, keys);
  }
  const Part work{kernels,           shape, block, queries,
                  scratch,           first, keys,  latent ? 1 : kPartTokens,
                  latent ? lanes : 1};

  const float factor = shape.scale * kLog2E;
  if (rounded(kernels, shape)) return attend_rounded(work, factor, state);
  // Values come in pairs of keys: the odd one's partner weighs nothing.
  const std::size_t even = (keys + 1) / 2 * 2;
  for (std::size_t p = 0; p < work.pages(); ++p) {
    if (latent) {
      score_latent(work, p);
    } else {
      score_grouped(work, p);
    }
  }
  if (latent) {
    std::fill_n(scratch.scores + keys * lanes, (even - keys) * lanes, 0.0F);
    kernels.softmax_columns(scratch.scores, count, scratch.limits, keys, factor, state.most,
                            state.sum);
  } else {
    for (std::size_t i = 0; i < count; ++i) {
      kernels.softmax_row(scratch.scores + i * kPartTokens, scratch.limits[i], even, factor,
                          state.most + i, state.sum + i);
    }
  }
  for (std::size_t p = 0; p < work.pages(); ++p) add_values(work, p, state.values);
}

}  // namespace fathom::cpu
