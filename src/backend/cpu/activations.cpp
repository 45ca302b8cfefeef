#include "backend/cpu/activations.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/products.h"

namespace fathom::cpu {
namespace {

constexpr std::size_t kSerial = 8192;  // elements that are not worth waking the workers for

/// What a record rounds off `subs` * 32 features from sub-tile `first` on, quantised in turn.
void quantise_rest(const MatmulTable& table, const float* x, std::size_t first, std::size_t subs,
                   const ActivationRecord& record, ActivationRecord* rest) {
  float left[kChunk];
  for (std::size_t s = 0; s < subs; ++s) {
    for (std::size_t i = s * kSubTile; i < (s + 1) * kSubTile; ++i) {
      left[i] = x[i] - record.d[first + s] * static_cast<float>(record.q[first * kSubTile + i]);
    }
  }
  table.quantise(left, first, subs, rest);
}

/// The forms that are made of x, x being there already.
void derive(const MatmulTable& table, const Activations& a, std::size_t token, std::size_t feature,
            std::size_t count, const float* values) {
  const std::size_t at = feature / kChunk * a.tokens + token;
  const std::size_t within = feature % kChunk;
  if (a.records != nullptr) {
    const std::size_t first = within / kSubTile;
    table.quantise(values, first, count / kSubTile, a.records + at);
    if (a.rest != nullptr) {
      quantise_rest(table, values, first, count / kSubTile, a.records[at], a.rest + at);
    }
  }
  if (a.panel != nullptr && a.panel != a.x) {
    std::memcpy(const_cast<float*>(a.panel) + at * kChunk + within, values, count * sizeof(float));
  }
}

}  // namespace

bool reads_rows(const PackedMatrix& weight) {
  return !weight.impl().packed() || weight.impl().inputs != nullptr;
}

void need(Activations& x, const PackedMatrix& weight, Arena& arena) {
  const PackedMatrix::Impl& w = weight.impl();
  if (!w.packed()) return;
  if (w.precision != Precision::F32) {
    const std::size_t count = x.chunks() * x.tokens + kRecordsPast;
    if (x.records == nullptr) x.records = arena.take<ActivationRecord>(count);
    if (x.rest == nullptr && w.precision == Precision::Int8Pair) {
      x.rest = arena.take<ActivationRecord>(count);
    }
  } else if (x.panel == nullptr) {
    // One token's row is its own panel.
    const bool same = x.tokens == 1 && x.x != nullptr;
    x.panel = same ? x.x : arena.take<float>(x.chunks() * x.tokens * kChunk);
  }
}

Activations make_activations(std::size_t tokens, std::size_t features, const PackedMatrix& reader,
                             Arena& arena) {
  Activations a{nullptr, features, tokens, features};
  if (reads_rows(reader)) a.x = a.rows = arena.take<float>(tokens * features);
  need(a, reader, arena);
  return a;
}

void prepare(ThreadPool& pool, const MatmulTable& table, std::span<const Activations> activations) {
  std::vector<std::size_t>
      begin;  // the first token-chunk of each, which shares it if it needs none
  std::size_t total = 0;
  for (const Activations& a : activations) {
    begin.push_back(total);
    const bool work = a.records != nullptr || (a.panel != nullptr && a.panel != a.x);
    if (work) total += a.tokens * a.chunks();
  }
  const auto body = [&](std::size_t from, std::size_t to) {
    auto at = static_cast<std::size_t>(std::upper_bound(begin.begin(), begin.end(), from) -
                                       begin.begin()) -
              1;
    for (std::size_t i = from; i < to; ++i) {
      while (at + 1 < begin.size() && begin[at + 1] <= i) ++at;
      const Activations& a = activations[at];
      const std::size_t token = (i - begin[at]) / a.chunks();
      const std::size_t feature = (i - begin[at]) % a.chunks() * kChunk;
      derive(table, a, token, feature, std::min(kChunk, a.features - feature),
             a.x + token * a.x_stride + feature);
    }
  };
  if (total * kChunk <= kSerial) {
    body(0, total);
  } else {
    pool.for_ranges(total, kSerial / 2 / kChunk, body);
  }
}

void gather(ThreadPool& pool, const Activations& from, const std::size_t* row_of,
            std::span<const Activations> to) {
  // A chunk of work is one of the `to`s: they are many, and about as long as each other.
  std::vector<std::size_t> begin;
  std::size_t total = 0;
  for (const Activations& a : to) {
    begin.push_back(total);
    total += a.tokens;
  }
  const auto copy = [&](std::size_t index) {
    const Activations& a = to[index];
    const std::size_t* rows = row_of + begin[index];
    for (std::size_t t = 0; t < a.tokens; ++t) {
      if (a.rows != nullptr) {
        std::copy_n(from.x + rows[t] * from.x_stride, a.features, a.rows + t * a.x_stride);
      }
    }
    for (std::size_t chunk = 0; chunk < a.chunks(); ++chunk) {
      for (std::size_t t = 0; t < a.tokens; ++t) {
        const std::size_t source = chunk * from.tokens + rows[t];
        const std::size_t target = chunk * a.tokens + t;
        if (a.records != nullptr) a.records[target] = from.records[source];
        if (a.rest != nullptr) a.rest[target] = from.rest[source];
        if (a.panel != nullptr && a.panel != a.x) {
          const std::size_t count = std::min(kChunk, a.features - chunk * kChunk);
          std::copy_n(from.x + rows[t] * from.x_stride + chunk * kChunk, count,
                      const_cast<float*>(a.panel) + target * kChunk);
        }
      }
    }
  };
  if (total * from.features <= kSerial) {
    for (std::size_t i = 0; i < to.size(); ++i) copy(i);
  } else {
    pool.run(to.size(), [&](std::size_t i, unsigned) { copy(i); });
  }
}

void put(const MatmulTable& table, const Activations& a, std::size_t token, std::size_t feature,
         std::size_t count, const float* values) {
  if (a.rows != nullptr) std::copy_n(values, count, a.rows + token * a.x_stride + feature);
  derive(table, a, token, feature, count, values);
}

}  // namespace fathom::cpu
