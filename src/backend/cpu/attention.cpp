// Cuts attention into blocks of queries that share their keys, and long contexts into parts.
//
// A block's queries are several heads of one kv head, over one or more tokens. The context is
// walked a page at a time; four pages make a part with a softmax of its own, and parts are merged
// in order. Where one thread ends and another begins is therefore invisible in the result: blocks
// never mix queries, and parts are the same whether one thread does them all or many.
#include "backend/cpu/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "backend/cpu/arena.h"
#include "backend/cpu/attention_table.h"
#include "backend/cpu/matmul_table.h"
#include "base/error.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kPartPages = 4;
constexpr std::size_t kPartTokens = kPartPages * kPageTokens;
constexpr std::size_t kQueries = 64;  // of a block: enough to share the unpacking of a page
constexpr std::size_t kStepFeatures = 128;

struct Kernels {
  const AttentionTable& attention;
  const MatmulTable& matmul;
};

/// Queries [tokens, heads] of one span and one kv head.
struct Block {
  const AttentionSpan* span = nullptr;
  std::size_t group = 0;  // the kv head
  std::size_t head = 0;   // the first query head
  std::size_t heads = 0;
  std::size_t token = 0;  // the first token of the span
  std::size_t tokens = 0;

  std::size_t queries() const { return tokens * heads; }
  /// Cached rows that the block's last token sees.
  std::size_t context() const { return span->first_position + token + tokens; }
  std::size_t parts() const { return (context() + kPartTokens - 1) / kPartTokens; }
};

/// Softmax state of a block's queries over a part of the context.
struct State {
  float* most;    // [queries]
  float* sum;     // [queries]
  float* values;  // [value_groups, queries, 16]
};

std::size_t value_groups(const AttentionShape& shape) { return (shape.v_dim + 15) / 16; }

State take_state(Arena& arena, const AttentionShape& shape, std::size_t queries) {
  return {arena.take<float>(queries), arena.take<float>(queries),
          arena.take<float>(value_groups(shape) * queries * 16)};
}

/// The block's queries, contiguous: [queries, stride], stride not a power of two.
struct Queries {
  const float* q;
  std::size_t stride;
};

Queries gather(Arena& arena, const AttentionShape& shape, const Block& block) {
  const std::size_t stride = (shape.k_dim + 15) / 16 * 16 + 16;
  auto* q = arena.take<float>(block.queries() * stride);
  for (std::size_t i = 0; i < block.queries(); ++i) {
    const std::size_t token = block.token + i / block.heads;
    const std::size_t head = block.head + i % block.heads;
    std::copy_n(block.span->q + (token * shape.heads + head) * shape.k_dim, shape.k_dim,
                q + i * stride);
  }
  return {q, stride};
}

/// The state of `block` over part `part` of its context alone.
void attend_part(const Kernels& kernels, const AttentionShape& shape, const Block& block,
                 const Queries& queries, std::size_t part, Arena& arena, const State& state) {
  const std::size_t count = block.queries();
  const std::size_t groups = value_groups(shape);
  const std::size_t element = shape.kv_dtype == DType::F32 ? 4 : 2;
  const std::size_t row_bytes = shape.row_width * element;
  std::fill_n(state.most, count, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, count, 0.0F);
  std::fill_n(state.values, groups * count * 16, 0.0F);
  auto* keys = arena.take<float>(kPageTokens * shape.k_dim);
  auto* values = arena.take<float>(kPageTokens * groups * 16);
  auto* scores = arena.take<float>(kPageTokens * count);
  auto* weights = arena.take<float>(kPageTokens * count);
  auto* shrink = arena.take<float>(count);
  auto* limits = arena.take<std::size_t>(count);

  const std::size_t last = std::min(block.context(), (part + 1) * kPartTokens);
  for (std::size_t begin = part * kPartTokens; begin < last; begin += kPageTokens) {
    const std::byte* page = block.span->pages[begin / kPageTokens];
    const std::size_t rows = std::min(kPageTokens, last - begin);
    kernels.attention.spread_keys(shape.kv_dtype,
                                  page + (shape.k_offset + shape.k_step * block.group) * element,
                                  row_bytes, rows, shape.k_dim, keys);
    kernels.attention.spread_values(shape.kv_dtype,
                                    page + (shape.v_offset + shape.v_step * block.group) * element,
                                    row_bytes, rows, shape.v_dim, values);
    std::fill_n(scores, kPageTokens * count, 0.0F);
    for (std::size_t k = 0; k < shape.k_dim; k += kStepFeatures) {
      kernels.matmul.multiply_f32(keys + 16 * k, 16 * shape.k_dim, kPageGroups,
                                  std::min(kStepFeatures, shape.k_dim - k), queries.q + k,
                                  queries.stride, count, scores, 16 * count);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t seen = block.span->first_position + block.token + i / block.heads + 1;
      limits[i] = seen > begin ? std::min(kPageTokens, seen - begin) : 0;
    }
    kernels.attention.softmax(scores, count, limits, shape.scale, state.most, state.sum, shrink,
                              weights);
    kernels.attention.scale(state.values, groups, count, shrink);
    kernels.matmul.multiply_f32(values, kPageTokens * 16, groups, kPageTokens, weights, kPageTokens,
                                count, state.values, 16 * count);
  }
}

void merge(const Kernels& kernels, const AttentionShape& shape, std::size_t count,
           const State& total, const State& part) {
  for (std::size_t i = 0; i < count; ++i) {
    kernels.attention.merge(total.most + i, total.sum + i, total.values + 16 * i, part.most[i],
                            part.sum[i], part.values + 16 * i, value_groups(shape), 16 * count);
  }
}

void write(const Kernels& kernels, const AttentionShape& shape, const Block& block,
           const State& state) {
  const std::size_t count = block.queries();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t token = block.token + i / block.heads;
    const std::size_t head = block.head + i % block.heads;
    float* out = block.span->out + (token * shape.heads + head) * shape.v_dim;
    kernels.attention.write(state.values + 16 * i, 16 * count, shape.v_dim, state.sum[i], out);
  }
}

std::vector<Block> cut(const AttentionShape& shape, std::span<const AttentionSpan> spans) {
  const std::size_t per_group = shape.heads / shape.kv_heads;
  const std::size_t heads = std::min(per_group, kQueries);
  const std::size_t tokens = std::max<std::size_t>(1, kQueries / per_group);
  std::vector<Block> blocks;
  for (const AttentionSpan& span : spans) {
    // The longest contexts first: what is short fills the gaps at the end.
    for (std::size_t end = span.tokens; end > 0;) {
      const std::size_t begin = (end - 1) / tokens * tokens;
      for (std::size_t group = 0; group < shape.kv_heads; ++group) {
        for (std::size_t h = 0; h < per_group; h += heads) {
          blocks.push_back({&span, group, group * per_group + h, std::min(heads, per_group - h),
                            begin, end - begin});
        }
      }
      end = begin;
    }
  }
  return blocks;
}

void check(const AttentionShape& shape) {
  require(shape.kv_dtype == DType::F32 || shape.kv_dtype == DType::BF16, ErrorCode::Unsupported,
          "the KV cache holds {}, but attention reads only F32 and BF16",
          to_string(shape.kv_dtype));
  require(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, ErrorCode::InvalidArgument,
          "{} query heads cannot share {} kv heads evenly", shape.heads, shape.kv_heads);
}

}  // namespace

const AttentionTable& attention_table(CpuLevel level) {
  switch (level) {
    case CpuLevel::Scalar:
      return kAttentionScalar;
    case CpuLevel::Avx2:
      return kAttentionAvx2;
    case CpuLevel::Avx512:
    case CpuLevel::Amx:  // has no kernels of its own yet, and includes AVX-512
      return kAttentionAvx512;
  }
  return kAttentionScalar;
}

void attention(ThreadPool& pool, CpuLevel level, const AttentionShape& shape,
               std::span<const AttentionSpan> spans) {
  check(shape);
  const Kernels kernels{attention_table(level), matmul_table(level)};
  const std::vector<Block> blocks = cut(shape, spans);
  if (blocks.empty()) return;
  std::size_t parts = 0;
  for (const Block& block : blocks) parts += block.parts();

  if (parts == blocks.size() || blocks.size() >= 4 * std::size_t{pool.size()}) {
    pool.run(blocks.size(), [&](std::size_t i, unsigned) {
      const Block& block = blocks[i];
      Scratch scratch(Scratch::Use::Chunk);
      Arena& arena = scratch.arena();
      const Queries queries = gather(arena, shape, block);
      const State total = take_state(arena, shape, block.queries());
      const State part = block.parts() > 1 ? take_state(arena, shape, block.queries()) : total;
      attend_part(kernels, shape, block, queries, 0, arena, total);
      for (std::size_t p = 1; p < block.parts(); ++p) {
        attend_part(kernels, shape, block, queries, p, arena, part);
        merge(kernels, shape, block.queries(), total, part);
      }
      write(kernels, shape, block, total);
    });
    return;
  }

  // Few queries, long contexts: the parts are what keeps the threads busy.
  struct Item {
    std::size_t block, part;
    State state;
  };
  Scratch scratch(Scratch::Use::Call);
  std::vector<Item> items;
  items.reserve(parts);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    for (std::size_t p = 0; p < blocks[b].parts(); ++p) {
      items.push_back({b, p, take_state(scratch.arena(), shape, blocks[b].queries())});
    }
  }
  pool.run(items.size(), [&](std::size_t i, unsigned) {
    const Block& block = blocks[items[i].block];
    Scratch mine(Scratch::Use::Chunk);
    const Queries queries = gather(mine.arena(), shape, block);
    attend_part(kernels, shape, block, queries, items[i].part, mine.arena(), items[i].state);
  });
  pool.run(blocks.size(), [&](std::size_t b, unsigned) {
    auto item =
        std::find_if(items.begin(), items.end(), [b](const Item& x) { return x.block == b; });
    const State total = item->state;
    for (++item; item != items.end() && item->block == b; ++item) {
      merge(kernels, shape, blocks[b].queries(), total, item->state);
    }
    write(kernels, shape, blocks[b], total);
  });
}

}  // namespace fathom::cpu
