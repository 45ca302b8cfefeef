// The inputs of products, in the forms that weights read: rounded once, then multiplied often.
#pragma once

#include <cstddef>
#include <span>

#include "backend/cpu/arena.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/matmul_table.h"

namespace fathom::cpu {

/// The activations of one or more products. Forms that no weight asked for are null.
struct Activations {
  const float* x = nullptr;  // [tokens, features], rows x_stride floats apart
  std::size_t x_stride = 0;
  std::size_t tokens = 0;
  std::size_t features = 0;
  float* rows = nullptr;                // x, where it is ours to write
  ActivationRecord* records = nullptr;  // [chunks, tokens], for packed weights in Int8, Int8Pair
  ActivationRecord* rest = nullptr;     // the same of what those round off, for Int8Pair
  const float* panel = nullptr;         // [chunks, tokens, 256], for packed weights in F32

  std::size_t chunks() const { return (features + kChunk - 1) / kChunk; }
};

/// Whether `weight` (or who watches its inputs) reads x itself.
bool reads_rows(const PackedMatrix& weight);

/// Makes room for the forms that `weight` reads.
void need(Activations& x, const PackedMatrix& weight, Arena& arena);

/// Makes room for activations that do not exist yet, and which put() will write.
Activations make_activations(std::size_t tokens, std::size_t features, const PackedMatrix& reader,
                             Arena& arena);

/// Fills the forms of all of them from their x, in one parallel pass.
void prepare(ThreadPool& pool, const MatmulTable& table, std::span<const Activations> activations);

/// Row r of all forms of the `to`s, taken one after the other, becomes row row_of[r] of `from`,
/// which has every form that they have.
void gather(ThreadPool& pool, const Activations& from, const std::size_t* row_of,
            std::span<const Activations> to);

/// Fills the forms of features [feature, feature + count) of one token. Both are multiples of 32 if
/// a packed weight reads them, and the features lie in one chunk of 256.
void put(const MatmulTable& table, const Activations& a, std::size_t token, std::size_t feature,
         std::size_t count, const float* values);

}  // namespace fathom::cpu
