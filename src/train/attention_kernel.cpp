#include "train/attention_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "train/for_each_cpu.h"

namespace fathom::train {

float* AttentionScratch::take(std::int64_t floats) {
  if (used_ == blocks_.size()) blocks_.emplace_back();
  std::vector<float>& block = blocks_[used_++];
  if (block.size() < static_cast<std::size_t>(floats)) {
    block.resize(static_cast<std::size_t>(floats));
  }
  return block.data();
}

namespace {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kQueries = 64;  // at once: their scores against all keys stay in the cache
constexpr std::int64_t kTile = 6;      // rows of a product whose sums stay in registers

/// Sixteen floats, which the compiler cuts into what the instruction set has.
using Lanes [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;

std::int64_t whole(std::int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// A factor whose elements are read one by one, so that it may lie either way.
struct Left {
  const float* data;
  std::int64_t row, column;  // strides
};

template <int kRows>
FATHOM_PART void product_tile(const Left& a, const float* b, std::int64_t ldb, float* c,
                              std::int64_t ldc, std::int64_t depth, bool add) {
  Lanes sums[kRows];
  for (int i = 0; i < kRows; ++i) {
    sums[i] = add ? *reinterpret_cast<const Lanes*>(c + i * ldc) : Lanes{};
  }
  for (std::int64_t t = 0; t < depth; ++t) {
    const Lanes right = *reinterpret_cast<const Lanes*>(b + t * ldb);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) sums[i] += a.data[i * a.row + t * a.column] * right;
  }
  for (int i = 0; i < kRows; ++i) *reinterpret_cast<Lanes*>(c + i * ldc) = sums[i];
}

/// c [rows, columns] = a b, or c + a b. Columns are a multiple of kLanes.
FATHOM_PART void product(const Left& a, const float* b, std::int64_t ldb, float* c,
                         std::int64_t ldc, std::int64_t rows, std::int64_t columns,
                         std::int64_t depth, bool add) {
  for (std::int64_t j = 0; j < columns; j += kLanes) {
    std::int64_t i = 0;
    for (; i + kTile <= rows; i += kTile) {
      product_tile<kTile>({a.data + i * a.row, a.row, a.column}, b + j, ldb, c + i * ldc + j, ldc,
                          depth, add);
    }
    for (; i < rows; ++i) {
      product_tile<1>({a.data + i * a.row, a.row, a.column}, b + j, ldb, c + i * ldc + j, ldc,
                      depth, add);
    }
  }
}

/// Tokens of a head as F32 rows of `width`, zeros after their elements.
template <class T>
FATHOM_PART void gather(const T* from, std::int64_t stride, std::int64_t tokens, std::int64_t size,
                        float* to, std::int64_t width) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const T* in = from + t * stride;
    float* out = to + t * width;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) out[i] = get(in[i]);
    for (std::int64_t i = size; i < width; ++i) out[i] = 0;
  }
}

template <class T>
FATHOM_PART void scatter(const float* from, std::int64_t width, std::int64_t tokens,
                         std::int64_t size, T* to, std::int64_t stride) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* in = from + t * width;
    T* out = to + t * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) put(out[i], in[i]);
  }
}

/// [size, width] of [tokens, from_width], zeros after the tokens.
FATHOM_PART void transpose(const float* from, std::int64_t from_width, std::int64_t tokens,
                           std::int64_t size, float* to, std::int64_t width) {
  for (std::int64_t i = 0; i < size; ++i) {
    float* out = to + i * width;
    for (std::int64_t t = 0; t < tokens; ++t) out[t] = from[t * from_width + i];
    for (std::int64_t t = tokens; t < width; ++t) out[t] = 0;
  }
}

/// Scores of queries [first, first + rows) to weights, zeros for keys that come later. `scores`:
/// [rows, width].
FATHOM_PART void softmax(float* scores, std::int64_t first, std::int64_t rows, std::int64_t keys,
                         std::int64_t width, float scale) {
  for (std::int64_t i = 0; i < rows; ++i) {
    float* row = scores + i * width;
    const std::int64_t seen = first + i + 1;
    float most = row[0];
#pragma omp simd reduction(max : most)
    for (std::int64_t j = 0; j < seen; ++j) most = row[j] > most ? row[j] : most;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < seen; ++j) {
      row[j] = exp_of_nonpositive((row[j] - most) * scale);
      sum += row[j];
    }
    const float share = 1.0f / sum;
#pragma omp simd
    for (std::int64_t j = 0; j < seen; ++j) row[j] *= share;
    for (std::int64_t j = seen; j < keys; ++j) row[j] = 0;
  }
}

/// Neighbouring tokens [begin, end), and those before that they also see.
struct Document {
  std::int64_t begin, end;
  std::int64_t prefix, prefix_tokens;  // the first, and how many
  std::int64_t own() const { return end - begin; }
};

std::int64_t end_of_document(const std::int64_t* starts, std::int64_t begin, std::int64_t length) {
  std::int64_t end = begin + 1;
  while (end < length && starts[end] == starts[begin]) ++end;
  return end;
}

Document document_at(const RowSight& sight, std::int64_t begin, std::int64_t length) {
  Document document{begin, end_of_document(sight.starts, begin, length), -1, 0};
  if (sight.prefixes != nullptr && sight.prefixes[begin] >= 0) {
    document.prefix = sight.prefixes[begin] - sight.first;
    document.prefix_tokens =
        end_of_document(sight.starts, document.prefix, length) - document.prefix;
  }
  return document;
}

/// What a document sees of a head, as products want it: the prefix, then its own.
struct Keys {
  std::int64_t tokens, tokens_wide;  // wide: rounded up to kLanes
  std::int64_t dim_wide, v_wide;
  float *k, *k_turned;  // [tokens, dim_wide], [dim, tokens_wide]
  float* v;             // [tokens, v_wide]
};

template <class T>
FATHOM_PART Keys gather_keys(const T* k, const T* v, const Document& document, std::int64_t kv_head,
                             const AttentionShape& s, AttentionScratch& scratch) {
  const std::int64_t before = document.prefix_tokens;
  Keys keys;
  keys.tokens = before + document.own();
  keys.tokens_wide = whole(keys.tokens);
  keys.dim_wide = whole(s.dim);
  keys.v_wide = whole(s.v_dim);
  keys.k = scratch.take(keys.tokens * keys.dim_wide);
  keys.k_turned = scratch.take(s.dim * keys.tokens_wide);
  keys.v = scratch.take(keys.tokens * keys.v_wide);
  k += kv_head * s.k.head;
  v += kv_head * s.v.head;
  if (before > 0) {
    gather(k + document.prefix * s.k.token, s.k.token, before, s.dim, keys.k, keys.dim_wide);
    gather(v + document.prefix * s.v.token, s.v.token, before, s.v_dim, keys.v, keys.v_wide);
  }
  gather(k + document.begin * s.k.token, s.k.token, document.own(), s.dim,
         keys.k + before * keys.dim_wide, keys.dim_wide);
  gather(v + document.begin * s.v.token, s.v.token, document.own(), s.v_dim,
         keys.v + before * keys.v_wide, keys.v_wide);
  transpose(keys.k, keys.dim_wide, keys.tokens, s.dim, keys.k_turned, keys.tokens_wide);
  return keys;
}

template <class T>
FATHOM_PART void attend_part(const T* q, const T* k, const T* v, const RowSight& sight, T* out,
                             std::int64_t kv_head, const AttentionShape& s,
                             AttentionScratch& scratch) {
  const std::int64_t group = s.heads / s.kv_heads;
  for (std::int64_t begin = 0; begin < s.length;) {
    const Document document = document_at(sight, begin, s.length);
    scratch.rewind(0);
    const Keys keys = gather_keys(k, v, document, kv_head, s, scratch);
    float* queries = scratch.take(kQueries * keys.dim_wide);
    float* scores = scratch.take(kQueries * keys.tokens_wide);
    float* sums = scratch.take(kQueries * keys.v_wide);
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (std::int64_t first = 0; first < document.own(); first += kQueries) {
        const std::int64_t rows = std::min(kQueries, document.own() - first);
        const std::int64_t before = document.prefix_tokens + first;
        const std::int64_t seen = before + rows, seen_wide = whole(seen);
        gather(q + (begin + first) * s.q.token + head * s.q.head, s.q.token, rows, s.dim, queries,
               keys.dim_wide);
        product({queries, keys.dim_wide, 1}, keys.k_turned, keys.tokens_wide, scores,
                keys.tokens_wide, rows, seen_wide, s.dim, false);
        softmax(scores, before, rows, seen, keys.tokens_wide, s.scale);
        product({scores, keys.tokens_wide, 1}, keys.v, keys.v_wide, sums, keys.v_wide, rows,
                keys.v_wide, seen, false);
        scatter(sums, keys.v_wide, rows, s.v_dim,
                out + ((begin + first) * s.heads + head) * s.v_dim, s.heads * s.v_dim);
      }
    }
    begin = document.end;
  }
}

/// Gradients of the keys and values of a document, while others that go on from it add to them.
struct KeySums {
  std::int64_t begin = 0, tokens = 0;
  float *k = nullptr, *v = nullptr;  // [tokens, dim_wide], [tokens, v_wide]
};

FATHOM_PART KeySums take_sums(std::int64_t begin, std::int64_t tokens, std::int64_t dim_wide,
                              std::int64_t v_wide, AttentionScratch& scratch) {
  const KeySums sums{begin, tokens, scratch.take(tokens * dim_wide), scratch.take(tokens * v_wide)};
  std::fill_n(sums.k, tokens * dim_wide, 0.0f);
  std::fill_n(sums.v, tokens * v_wide, 0.0f);
  return sums;
}

template <class T>
FATHOM_PART void write_sums(const KeySums& sums, T* to_k, T* to_v, std::int64_t kv_head,
                            const AttentionShape& s) {
  scatter(sums.k, whole(s.dim), sums.tokens, s.dim,
          to_k + (sums.begin * s.kv_heads + kv_head) * s.dim, s.kv_heads * s.dim);
  scatter(sums.v, whole(s.v_dim), sums.tokens, s.v_dim,
          to_v + (sums.begin * s.kv_heads + kv_head) * s.v_dim, s.kv_heads * s.v_dim);
}

// With weights P = softmax(scale Q K'), out = P V and dO the gradient that comes:
// dV = P' dO, dP = dO V', dS = P (dP - sum over keys of P dP) scale, dQ = dS K, dK = dS' Q.
template <class T>
FATHOM_PART void attend_back_part(const T* to_out, const T* q, const T* k, const T* v,
                                  const RowSight& sight, T* to_q, T* to_k, T* to_v,
                                  std::int64_t kv_head, const AttentionShape& s,
                                  AttentionScratch& scratch) {
  const std::int64_t group = s.heads / s.kv_heads, dim = whole(s.dim), v_wide = whole(s.v_dim);
  KeySums root;  // of the last document that goes on from none
  std::size_t after_root = 0;
  for (std::int64_t begin = 0; begin < s.length;) {
    const Document document = document_at(sight, begin, s.length);
    KeySums sums;
    if (document.prefix < 0) {
      write_sums(root, to_k, to_v, kv_head, s);
      scratch.rewind(0);
      sums = root = take_sums(begin, document.own(), dim, v_wide, scratch);
      after_root = scratch.mark();
    } else {
      scratch.rewind(after_root);
      sums =
          take_sums(document.prefix, document.prefix_tokens + document.own(), dim, v_wide, scratch);
    }
    const Keys keys = gather_keys(k, v, document, kv_head, s, scratch);
    const std::int64_t wide = keys.tokens_wide;
    float* v_turned = scratch.take(s.v_dim * wide);
    transpose(keys.v, v_wide, keys.tokens, s.v_dim, v_turned, wide);
    float *queries = scratch.take(kQueries * dim), *coming = scratch.take(kQueries * v_wide);
    float *weights = scratch.take(kQueries * wide), *change = scratch.take(kQueries * wide);
    float* own = scratch.take(kQueries * dim);
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (std::int64_t first = 0; first < document.own(); first += kQueries) {
        const std::int64_t rows = std::min(kQueries, document.own() - first);
        const std::int64_t before = document.prefix_tokens + first, at = begin + first;
        const std::int64_t seen = before + rows, seen_wide = whole(seen);
        gather(q + at * s.q.token + head * s.q.head, s.q.token, rows, s.dim, queries, dim);
        gather(to_out + (at * s.heads + head) * s.v_dim, s.heads * s.v_dim, rows, s.v_dim, coming,
               v_wide);
        product({queries, dim, 1}, keys.k_turned, wide, weights, wide, rows, seen_wide, s.dim,
                false);
        softmax(weights, before, rows, seen, wide, s.scale);
        product({weights, 1, wide}, coming, v_wide, sums.v, v_wide, seen, v_wide, rows, true);
        product({coming, v_wide, 1}, v_turned, wide, change, wide, rows, seen_wide, s.v_dim, false);
        for (std::int64_t i = 0; i < rows; ++i) {
          const float* p = weights + i * wide;
          float *d = change + i * wide, mean = 0;
#pragma omp simd reduction(+ : mean)
          for (std::int64_t j = 0; j < seen; ++j) mean += p[j] * d[j];
#pragma omp simd
          for (std::int64_t j = 0; j < seen; ++j) d[j] = p[j] * (d[j] - mean) * s.scale;
        }
        product({change, wide, 1}, keys.k, dim, own, dim, rows, dim, seen, false);
        scatter(own, dim, rows, s.dim, to_q + (at * s.heads + head) * s.dim, s.heads * s.dim);
        product({change, 1, wide}, queries, dim, sums.k, dim, seen, dim, rows, true);
      }
    }
    if (const std::int64_t before = document.prefix_tokens; document.prefix >= 0) {
#pragma omp simd
      for (std::int64_t i = 0; i < before * dim; ++i) root.k[i] += sums.k[i];
#pragma omp simd
      for (std::int64_t i = 0; i < before * v_wide; ++i) root.v[i] += sums.v[i];
      write_sums({begin, document.own(), sums.k + before * dim, sums.v + before * v_wide}, to_k,
                 to_v, kv_head, s);
    }
    begin = document.end;
  }
  write_sums(root, to_k, to_v, kv_head, s);
}

}  // namespace

template <>
FATHOM_FOR_EACH_CPU void attend_row(const float* q, const float* k, const float* v,
                                    const RowSight& sight, float* out, std::int64_t kv_head,
                                    const AttentionShape& shape, AttentionScratch& scratch) {
  attend_part(q, k, v, sight, out, kv_head, shape, scratch);
}
template <>
FATHOM_FOR_EACH_CPU void attend_row(const Bf16* q, const Bf16* k, const Bf16* v,
                                    const RowSight& sight, Bf16* out, std::int64_t kv_head,
                                    const AttentionShape& shape, AttentionScratch& scratch) {
  attend_part(q, k, v, sight, out, kv_head, shape, scratch);
}

template <>
FATHOM_FOR_EACH_CPU void attend_back_row(const float* to_out, const float* q, const float* k,
                                         const float* v, const RowSight& sight, float* to_q,
                                         float* to_k, float* to_v, std::int64_t kv_head,
                                         const AttentionShape& shape, AttentionScratch& scratch) {
  attend_back_part(to_out, q, k, v, sight, to_q, to_k, to_v, kv_head, shape, scratch);
}
template <>
FATHOM_FOR_EACH_CPU void attend_back_row(const Bf16* to_out, const Bf16* q, const Bf16* k,
                                         const Bf16* v, const RowSight& sight, Bf16* to_q,
                                         Bf16* to_k, Bf16* to_v, std::int64_t kv_head,
                                         const AttentionShape& shape, AttentionScratch& scratch) {
  attend_back_part(to_out, q, k, v, sight, to_q, to_k, to_v, kv_head, shape, scratch);
}

}  // namespace fathom::train
