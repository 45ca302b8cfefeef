// What one thread does at a time: some queries that share their keys, over one part of the context.
// Internal to attention.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/arena.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/attention_table.h"

namespace fathom::cpu {

inline constexpr std::size_t kPartPages = 4;
inline constexpr std::size_t kPartTokens = kPartPages * kPageTokens;
inline constexpr std::size_t kWeightRow = kPartTokens + 32;  // no power of two, see gather()

/// Queries [tokens, heads] of one span and one kv head.
struct AttentionBlock {
  const AttentionSpan* span = nullptr;
  std::size_t group = 0;  // the kv head
  std::size_t head = 0;   // the first query head
  std::size_t heads = 0;
  std::size_t token = 0;  // the first token of the span
  std::size_t tokens = 0;

  std::size_t queries() const { return tokens * heads; }
  /// Query i is that of head head_of(i) of token token_of(i).
  std::size_t token_of(std::size_t i) const { return token + i / heads; }
  std::size_t head_of(std::size_t i) const { return head + i % heads; }
  /// Cached rows that query i sees.
  std::size_t seen_by(std::size_t i) const { return span->first_position + token_of(i) + 1; }
  std::size_t context() const { return seen_by(queries() - 1); }
  std::size_t parts() const { return (context() + kPartTokens - 1) / kPartTokens; }
};

/// Softmax state of a block's queries over a part of the context.
struct AttentionState {
  float* most;    // [queries], in units of log 2
  float* sum;     // [queries]
  float* values;  // [queries, padded v_dim]
};

/// v_dim, rounded up to what vectors fill.
inline std::size_t padded_v_dim(const AttentionShape& shape) {
  return (shape.v_dim + 15) / 16 * 16;
}

AttentionState take_state(Arena& arena, const AttentionShape& shape, std::size_t queries);

/// The block's queries as the kernels want them, taken from `arena`. Grouped: [queries, stride],
/// zeros after each up to stored_k_dim. Latent: [queries / 16, k_dim, 16].
struct AttentionQueries {
  const float* q = nullptr;
  std::size_t stride = 0;
  /// Where rounded() instead of `q`: the same in BF16, rows padded with zeros, a latent panel in
  /// pairs as RoundedKernels::round_panel() makes them.
  const std::uint16_t* brains = nullptr;
};
/// Whether queries and weights are rounded to BF16.
bool rounded(const AttentionTable& kernels, const AttentionShape& shape);
AttentionQueries gather(const AttentionTable& kernels, Arena& arena, const AttentionShape& shape,
                        const AttentionBlock& block);

/// Room for attend_part() to work in.
struct AttentionScratch {
  std::size_t* limits;  // [queries], the keys of the part that each sees
  float* scores;        // [queries, 256], or latent: [256, queries rounded up to 16]
  float* corner;        // [64, 64] of keys or values, unpacked
  // Where rounded(): weights [queries rounded up to 16, kWeightRow], latent entries [64, 192].
  std::uint16_t* weights = nullptr;
  std::uint16_t* entries = nullptr;
};
AttentionScratch take_scratch(Arena& arena, std::size_t queries, bool rounded);

/// The state of `block` over part `part` of its context alone.
void attend_part(const AttentionTable& kernels, const AttentionShape& shape,
                 const AttentionBlock& block, const AttentionQueries& queries, std::size_t part,
                 const AttentionScratch& scratch, const AttentionState& state);

}  // namespace fathom::cpu
