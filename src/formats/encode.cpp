#include "formats/encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "formats/file_text.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

constexpr std::uint64_t kChunkElements = 1u << 16;  // of one thread's turn: its F32 fits L2
constexpr std::uint64_t kSlabElements = 1u << 24;   // of one write: 64 MiB of F32 at most

/// F16 ends at 65504. A finite value that became infinite would be a silent error.
void check_overflow(const TensorPlan& plan, std::span<const float> values) {
  constexpr float kLargestThatRounds = 65520.0f;
  for (const float value : values) {
    const bool lost = std::isfinite(value) && std::fabs(value) >= kLargestThatRounds;
    if (lost) {
      fail(ErrorCode::InvalidArgument,
           "tensor {} holds {}, which does not fit F16 (at most 65504); use BF16 or F32",
           printable(plan.name), value);
    }
  }
}

void encode_rows(const TensorJob& job, std::uint64_t begin, std::uint64_t end,
                 std::vector<float>& scratch, std::span<std::byte> out) {
  const TensorPlan& plan = job.plan;
  if (job.encoded) return job.encoded(begin, end, out);
  scratch.resize((end - begin) * plan.shape.row_elements());
  job.rows(begin, end, scratch);
  if (plan.dtype == DType::F32) {
    std::memcpy(out.data(), scratch.data(), out.size());
    return;
  }
  if (plan.dtype == DType::F16) check_overflow(plan, scratch);
  const std::uint64_t parts = std::max<std::size_t>(job.importance.size(), 1);
  const std::uint64_t rows_a_part = plan.shape.rows() / parts;
  const std::uint64_t columns = plan.shape.row_elements();
  const std::size_t bytes_a_row = row_bytes(plan.dtype, columns);
  try {
    for (std::uint64_t from = begin; from < end;) {
      const std::uint64_t part = from / rows_a_part;
      const std::uint64_t to = std::min(end, (part + 1) * rows_a_part);
      quantise(plan.dtype,
               std::span(scratch).subspan((from - begin) * columns, (to - from) * columns),
               out.subspan((from - begin) * bytes_a_row, (to - from) * bytes_a_row),
               job.importance.empty() ? std::span<const float>() : job.importance[part]);
      from = to;
    }
  } catch (const Error& error) {
    fail(error.code(), "tensor {}: {}", printable(plan.name), error.what());
  }
}

}  // namespace

void write_tensors(GgufWriter& writer, std::span<const TensorJob> jobs, ThreadPool& pool,
                   Progress& progress) {
  std::vector<std::vector<float>> scratch(pool.size());
  std::vector<std::byte> slab;
  for (const TensorJob& job : jobs) {
    if (!job.verbatim.empty()) {
      constexpr std::size_t kPiece = 16u << 20;
      for (std::size_t at = 0; at < job.verbatim.size(); at += kPiece) {
        const auto piece = job.verbatim.subspan(at, std::min(kPiece, job.verbatim.size() - at));
        writer.append(piece);
        progress.advance(piece.size());
      }
      continue;
    }
    const Shape& shape = job.plan.shape;
    const std::uint64_t columns = shape.row_elements();
    const std::uint64_t rows = shape.rows();
    const std::size_t bytes_a_row = row_bytes(job.plan.dtype, columns);
    const auto whole = [&](std::uint64_t wanted) {
      const std::uint64_t together = std::max<std::uint64_t>(job.rows_together, 1);
      return std::max<std::uint64_t>(wanted / together, 1) * together;
    };
    const std::uint64_t chunk_rows = whole(kChunkElements / columns);
    const std::uint64_t slab_rows = whole(std::max(kSlabElements / columns, chunk_rows));
    for (std::uint64_t slab_begin = 0; slab_begin < rows; slab_begin += slab_rows) {
      const std::uint64_t slab_end = std::min(rows, slab_begin + slab_rows);
      slab.resize((slab_end - slab_begin) * bytes_a_row);
      const std::uint64_t chunks = (slab_end - slab_begin + chunk_rows - 1) / chunk_rows;
      pool.run(chunks, [&](std::size_t chunk, unsigned worker) {
        const std::uint64_t begin = slab_begin + chunk * chunk_rows;
        const std::uint64_t end = std::min(slab_end, begin + chunk_rows);
        encode_rows(job, begin, end, scratch[worker],
                    std::span(slab).subspan((begin - slab_begin) * bytes_a_row,
                                            (end - begin) * bytes_a_row));
      });
      writer.append(slab);
      progress.advance(slab.size());
    }
  }
}

RowReader rows_of(const TensorView& view) {
  const std::size_t bytes_a_row = row_bytes(view.dtype, view.shape.row_elements());
  return [view, bytes_a_row](std::uint64_t begin, std::uint64_t end, std::span<float> out) {
    dequantise(view.dtype, view.data.subspan(begin * bytes_a_row, (end - begin) * bytes_a_row),
               out);
  };
}

}  // namespace fathom
