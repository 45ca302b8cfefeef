// The loop that convert and quantize share: rows in, as F32, from wherever they come; rows out, in
// the type the file shall have; all cores busy, memory bounded.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "formats/gguf_writer.h"
#include "tensor/tensor_view.h"

namespace fathom {

/// Fills `out` [end - begin, row_elements] with rows [begin, end). Called from several threads.
using RowReader = std::function<void(std::uint64_t begin, std::uint64_t end, std::span<float> out)>;

/// Fills `out` with rows [begin, end) in the plan's own type. Called from several threads.
using RowEncoder =
    std::function<void(std::uint64_t begin, std::uint64_t end, std::span<std::byte> out)>;

/// Where a tensor's bytes come from: `verbatim`, or `encoded`, or `rows`, whichever is there first.
struct TensorJob {
  TensorPlan plan;
  std::span<const std::byte> verbatim = {};  // to be copied
  RowReader rows = {};                       // to be rounded to plan.dtype
  /// Rows that are best read together (a head, say): chunks are multiples of it.
  std::uint64_t rows_together = 1;
  RowEncoder encoded = {};  // made in plan.dtype
  /// Error weights of the columns (tensor/quantise.h): none, one list for all rows, or one for each
  /// of as many equal parts of the rows; an empty list: none for that part.
  std::vector<std::vector<float>> importance = {};
};

/// Appends all jobs to the writer, whose plan must be theirs in order. `progress` advances by bytes
/// written. Throws Error(InvalidArgument) naming the tensor when a value does not fit its type.
void write_tensors(GgufWriter& writer, std::span<const TensorJob> jobs, ThreadPool& pool,
                   Progress& progress);

/// Rows of a tensor of any floating-point or quantised type. The view must outlive the reader.
RowReader rows_of(const TensorView& view);

}  // namespace fathom
