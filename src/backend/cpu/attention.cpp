// Cuts attention into blocks of queries that share their keys, and long contexts into parts.
//
// A block's queries are several heads of one kv head, over one or more tokens. Four pages make a
// part with a softmax of its own, and parts are merged in order. Where one thread ends and another
// begins is therefore invisible in the result: blocks never mix queries, and parts are the same
// whether one thread does them all or many.
#include "backend/cpu/attention.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/attention_part.h"
#include "base/error.h"

namespace fathom::cpu {
namespace {

using Block = AttentionBlock;

constexpr std::size_t kQueries = 128;  // of a block: enough to share the unpacking of a page

void merge(const AttentionTable& kernels, const AttentionShape& shape, std::size_t count,
           const AttentionState& total, const AttentionState& part) {
  const std::size_t dim = padded_v_dim(shape);
  for (std::size_t i = 0; i < count; ++i) {
    kernels.merge(total.most + i, total.sum + i, total.values + i * dim, part.most[i], part.sum[i],
                  part.values + i * dim, dim);
  }
}

void write(const AttentionTable& kernels, const AttentionShape& shape, const Block& block,
           const AttentionState& state) {
  for (std::size_t i = 0; i < block.queries(); ++i) {
    const std::size_t row = block.token_of(i) * shape.heads + block.head_of(i);
    kernels.write(state.values + i * padded_v_dim(shape), shape.v_dim, state.sum[i],
                  block.span->out + row * shape.v_dim);
  }
}

std::vector<Block> cut(const AttentionShape& shape, std::span<const AttentionSpan> spans) {
  const std::size_t per_group = shape.heads / shape.kv.kv_heads;
  const std::size_t heads = std::min(per_group, kQueries);
  const std::size_t tokens = std::max<std::size_t>(1, kQueries / per_group);
  std::vector<Block> blocks;
  for (const AttentionSpan& span : spans) {
    // The longest contexts first: what is short fills the gaps at the end.
    for (std::size_t end = span.tokens; end > 0;) {
      const std::size_t begin = (end - 1) / tokens * tokens;
      for (std::size_t group = 0; group < shape.kv.kv_heads; ++group) {
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
  require(shape.kv.dtype == DType::F32 || shape.kv.dtype == DType::BF16 ||
              shape.kv.dtype == DType::F16 || shape.kv.dtype == DType::Q8_0,
          ErrorCode::Unsupported,
          "the KV cache holds {}, but attention reads only F32, BF16, F16 and Q8_0",
          to_string(shape.kv.dtype));
  require(shape.kv.kv_heads > 0 && shape.heads % shape.kv.kv_heads == 0, ErrorCode::InvalidArgument,
          "{} query heads cannot share {} kv heads evenly", shape.heads, shape.kv.kv_heads);
  require(shape.scale > 0, ErrorCode::InvalidArgument,
          "attention scores were to be scaled by {}, which is not above 0", shape.scale);
}

}  // namespace

CpuLevel attention_level(CpuLevel level) {
  return level == CpuLevel::Avx2Vnni ? CpuLevel::Avx2 : level;
}

const AttentionTable& attention_table(CpuLevel level) {
  switch (attention_level(level)) {
    case CpuLevel::Avx2:
      return kAttentionAvx2;
    case CpuLevel::Avx512:
      return kAttentionAvx512;
    case CpuLevel::Avx512Bf16:
      return kAttentionAvx512Bf16;
    case CpuLevel::Amx:
      return kAttentionAmx;
    case CpuLevel::TileTwin:
      return cpu_runs(CpuLevel::Avx512) ? kAttentionTwinAvx512 : kAttentionTwinScalar;
    default:
      return kAttentionScalar;
  }
}

void attention(ThreadPool& pool, CpuLevel level, const AttentionShape& shape,
               std::span<const AttentionSpan> spans) {
  check(shape);
  const AttentionTable& kernels = attention_table(level);
  const std::vector<Block> blocks = cut(shape, spans);
  if (blocks.empty()) return;
  std::size_t parts = 0;
  for (const Block& block : blocks) parts += block.parts();

  if (parts == blocks.size() || blocks.size() >= 4 * std::size_t{pool.size()}) {
    pool.run(blocks.size(), [&](std::size_t i, unsigned) {
      const Block& block = blocks[i];
      Scratch scratch(Scratch::Use::Chunk);
      Arena& arena = scratch.arena();
      const AttentionQueries queries = gather(kernels, arena, shape, block);
      const AttentionState total = take_state(arena, shape, block.queries());
      const AttentionState part =
          block.parts() > 1 ? take_state(arena, shape, block.queries()) : total;
      const AttentionScratch room = take_scratch(arena, block.queries(), rounded(kernels, shape));
      attend_part(kernels, shape, block, queries, 0, room, total);
      for (std::size_t p = 1; p < block.parts(); ++p) {
        attend_part(kernels, shape, block, queries, p, room, part);
        merge(kernels, shape, block.queries(), total, part);
      }
      write(kernels, shape, block, total);
    });
    return;
  }

  // Few queries, long contexts: the parts are what keeps the threads busy.
  struct Item {
    std::size_t block, part;
    AttentionState state;
  };
  Scratch scratch(Scratch::Use::Call);
  std::vector<Item> items;
  std::vector<std::size_t> firsts;  // the first item of each block
  items.reserve(parts);
  firsts.reserve(blocks.size());
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    firsts.push_back(items.size());
    for (std::size_t p = 0; p < blocks[b].parts(); ++p) {
      items.push_back({b, p, take_state(scratch.arena(), shape, blocks[b].queries())});
    }
  }
  // A thread takes some parts that follow each other: the keys of the next are fetched early.
  const std::size_t grain = std::max<std::size_t>(1, items.size() / (8 * std::size_t{pool.size()}));
  pool.for_ranges(items.size(), grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const Block& block = blocks[items[i].block];
      Scratch mine(Scratch::Use::Chunk);
      const AttentionQueries queries = gather(kernels, mine.arena(), shape, block);
      const AttentionScratch room =
          take_scratch(mine.arena(), block.queries(), rounded(kernels, shape));
      attend_part(kernels, shape, block, queries, items[i].part, room, items[i].state);
    }
  });
  const auto finish = [&](std::size_t b) {
    const AttentionState& total = items[firsts[b]].state;
    for (std::size_t p = 1; p < blocks[b].parts(); ++p) {
      merge(kernels, shape, blocks[b].queries(), total, items[firsts[b] + p].state);
    }
    write(kernels, shape, blocks[b], total);
  };
  // Less than this, and waking the others costs more than it saves.
  constexpr std::size_t kWorthALoop = 1 << 15;
  if (parts * blocks[0].queries() * padded_v_dim(shape) < kWorthALoop) {
    for (std::size_t b = 0; b < blocks.size(); ++b) finish(b);
  } else {
    pool.run(blocks.size(), [&](std::size_t b, unsigned) { finish(b); });
  }
}

}  // namespace fathom::cpu
