#include "formats/imatrix.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "base/file_map.h"
#include "formats/file_text.h"
#include "formats/gguf_checkpoint.h"
#include "formats/gguf_writer.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

constexpr std::string_view kSquares = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
// What a record of the older form may claim, besides what the file's length allows.
constexpr std::int32_t kMostEntries = 1 << 17;
constexpr std::int32_t kLongestName = 255;

void require_numbers(std::span<const float> values, const std::filesystem::path& path,
                     std::string_view name) {
  const bool good =
      std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v) && v >= 0; });
  require(good, ErrorCode::Corrupt,
          "{}: sums of squares and counts of {} must be finite and not negative; the text or the "
          "model that it was measured with is probably damaged",
          path.string(), printable(name));
}

// ---- GGUF ------------------------------------------------------------------------------------

ImportanceMatrix read_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  ImportanceMatrix matrix;
  const auto number = [&](std::string_view key) -> std::uint32_t {
    const GgufKey* found = file.find(key);
    if (found == nullptr) return 0;
    const MetaValue value = file.decode(*found);
    const auto* integer = std::get_if<std::int64_t>(&value);
    return integer == nullptr ? 0 : checked_cast<std::uint32_t>(*integer, "chunks");
  };
  matrix.chunk_count = number("imatrix.chunk_count");
  matrix.chunk_size = number("imatrix.chunk_size");
  if (const GgufKey* key = file.find("imatrix.datasets")) {
    const MetaValue value = file.decode(*key);
    if (const auto* names = std::get_if<MetaStrings>(&value)) {
      matrix.datasets.assign(names->begin(), names->end());
    }
  }
  std::map<std::string_view, const GgufTensor*> counts;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(kCounts)) {
      counts[tensor.name.substr(0, tensor.name.size() - kCounts.size())] = &tensor;
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kSquares)) continue;
    const std::string_view name = tensor.name.substr(0, tensor.name.size() - kSquares.size());
    const auto count = counts.find(name);
    require(count != counts.end(), ErrorCode::Corrupt, "{}: {} has sums of squares but no counts",
            path.string(), printable(name));
    require(tensor.dtype == DType::F32 && count->second->dtype == DType::F32, ErrorCode::Corrupt,
            "{}: sums and counts of {} must be F32", path.string(), printable(name));
    ImportanceMatrix::Entry entry;
    entry.columns = tensor.shape.row_elements();
    entry.squares = to_f32(file.view(tensor));
    entry.counts = to_f32(file.view(*count->second));
    require(entry.squares.size() == checked_mul(entry.columns, entry.parts()), ErrorCode::Corrupt,
            "{}: {} has {} counts for sums of shape {}", path.string(), printable(name),
            entry.parts(), tensor.shape.to_string());
    require_numbers(entry.squares, path, name);
    require_numbers(entry.counts, path, name);
    matrix.entries.emplace(name, std::move(entry));
  }
  require(!matrix.entries.empty(), ErrorCode::Corrupt,
          "{}: holds no importance matrix (no tensors named *{}); it is probably a model",
          path.string(), kSquares);
  return matrix;
}

void write_gguf(const ImportanceMatrix& matrix, const std::filesystem::path& path) {
  GgufMetadata metadata;
  metadata.string("general.type", "imatrix");
  metadata.strings("imatrix.datasets", matrix.datasets);
  metadata.u32("imatrix.chunk_count", matrix.chunk_count);
  metadata.u32("imatrix.chunk_size", matrix.chunk_size);
  std::vector<TensorPlan> plans;
  for (const auto& [name, entry] : matrix.entries) {
    plans.push_back({name + std::string(kSquares), DType::F32, {entry.parts(), entry.columns}});
    plans.push_back({name + std::string(kCounts), DType::F32, {entry.parts(), 1}});
  }
  GgufWriter writer(path, metadata, std::move(plans));
  for (const auto& [name, entry] : matrix.entries) {
    writer.append(std::as_bytes(std::span(entry.squares)));
    writer.append(std::as_bytes(std::span(entry.counts)));
  }
  writer.commit();
}

// ---- the older form ----------------------------------------------------------------------------
// int32 entries; of each: int32 length, name, int32 count, int32 values, F32 values (mean squares
// times the count). Then int32 chunks, int32 length, the text's name; older files end before these.

class Records {
 public:
  explicit Records(const std::filesystem::path& path) : map_(path), left_(map_.bytes()) {}

  std::span<const std::byte> take(std::size_t bytes) {
    require(bytes <= left_.size(), ErrorCode::Corrupt,
            "{}: ends {} bytes too early to be an importance matrix; it is damaged or something "
            "else",
            map_.path().string(), bytes - left_.size());
    const auto taken = left_.first(bytes);
    left_ = left_.subspan(bytes);
    return taken;
  }
  std::int32_t number(std::string_view what, std::int32_t low, std::int32_t high) {
    std::int32_t value = 0;
    std::memcpy(&value, take(4).data(), 4);
    require(value >= low && value <= high, ErrorCode::Corrupt,
            "{}: {} is {}, expected {} to {}; this is probably no importance matrix",
            map_.path().string(), what, value, low, high);
    return value;
  }
  std::string text(std::int32_t length) {
    const auto bytes = take(static_cast<std::size_t>(length));
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  bool done() const { return left_.empty(); }

 private:
  FileMap map_;
  std::span<const std::byte> left_;
};

ImportanceMatrix read_records(const std::filesystem::path& path) {
  Records file(path);
  ImportanceMatrix matrix;
  const std::int32_t entries = file.number("the number of entries", 1, kMostEntries);
  for (std::int32_t i = 0; i < entries; ++i) {
    const std::string name = file.text(file.number("a name's length", 1, kLongestName));
    const auto count = static_cast<float>(file.number("a count", 0, INT32_MAX));
    const auto values =
        static_cast<std::size_t>(file.number("a number of values", 1, INT32_MAX / 4));
    ImportanceMatrix::Entry entry;
    // How many parts there are is known only from the weight: of_shape() finds out.
    const auto from = file.take(values * sizeof(float));  // before memory is taken for it
    entry.squares.resize(values);
    std::memcpy(entry.squares.data(), from.data(), from.size());
    entry.counts = {count};
    entry.columns = values;
    require_numbers(entry.squares, path, name);
    require(matrix.entries.emplace(name, std::move(entry)).second, ErrorCode::Corrupt,
            "{}: has {} twice", path.string(), printable(name));
  }
  if (!file.done()) {
    matrix.chunk_count =
        static_cast<std::uint32_t>(file.number("the number of chunks", 0, INT32_MAX));
    const std::int32_t length = file.number("the text's name's length", 0, 1 << 16);
    if (length > 0) matrix.datasets.push_back(file.text(length));
  }
  return matrix;
}

void write_records(const ImportanceMatrix& matrix, const std::filesystem::path& path) {
  AtomicFile file(path);
  const auto bytes = [&](const void* from, std::size_t size) {
    file.write({static_cast<const std::byte*>(from), size});
  };
  const auto number = [&](std::size_t value) {
    const auto narrow = checked_cast<std::int32_t>(value, "a number of the importance matrix");
    bytes(&narrow, sizeof(narrow));
  };
  number(matrix.entries.size());
  for (const auto& [name, entry] : matrix.entries) {
    number(name.size());
    bytes(name.data(), name.size());
    // The only count there is: at most one for each chunk, as the family's own tool has it.
    const std::size_t count = std::max<std::uint32_t>(1, matrix.chunk_count);
    number(count);
    number(entry.squares.size());
    for (std::size_t part = 0; part < entry.parts(); ++part) {
      std::vector<float> means = entry.means(part);
      if (means.empty()) means.assign(entry.columns, 1.0F);
      for (float& mean : means) mean *= static_cast<float>(count);
      bytes(means.data(), means.size() * sizeof(float));
    }
  }
  number(matrix.chunk_count);
  const std::string dataset = matrix.datasets.empty() ? "" : matrix.datasets.front();
  number(dataset.size());
  bytes(dataset.data(), dataset.size());
  file.commit();
}

}  // namespace

std::vector<float> ImportanceMatrix::Entry::means(std::size_t part) const {
  const float count = counts.at(part);
  if (!(count > 0)) return {};
  std::vector<float> out(squares.begin() + static_cast<std::ptrdiff_t>(part * columns),
                         squares.begin() + static_cast<std::ptrdiff_t>((part + 1) * columns));
  for (float& value : out) value /= count;
  return out;
}

std::vector<std::vector<float>> ImportanceMatrix::Entry::of_shape(const Shape& shape) const {
  const std::uint64_t wanted = shape.row_elements();
  std::uint64_t stacked = 1;  // [experts, out, in]
  for (std::size_t d = 0; d + 2 < shape.rank(); ++d) stacked *= shape[d];
  std::vector<std::vector<float>> out;
  if (columns == wanted && (parts() == stacked || parts() == 1)) {
    for (std::size_t part = 0; part < parts(); ++part) out.push_back(means(part));
  } else if (parts() == 1 && columns == checked_mul(wanted, stacked)) {
    const std::vector<float> all = means(0);
    for (std::uint64_t part = 0; part < stacked; ++part) {
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(all.empty() ? 0 : part * wanted);
      out.emplace_back(from, from + static_cast<std::ptrdiff_t>(all.empty() ? 0 : wanted));
    }
  } else {
    fail(ErrorCode::InvalidArgument,
         "the importance matrix has {} times {} columns for a weight of shape {}; it was probably "
         "measured with another model",
         parts(), columns, shape.to_string());
  }
  return out;
}

const ImportanceMatrix::Entry* ImportanceMatrix::find(std::string_view gguf_name) const {
  const auto found = entries.find(gguf_name);
  return found == entries.end() ? nullptr : &found->second;
}

ImportanceMatrix ImportanceMatrix::read(const std::filesystem::path& path) {
  bool gguf = false;
  {
    const FileMap file(path);
    constexpr std::string_view kMagic = "GGUF";
    gguf = file.bytes().size() >= kMagic.size() &&
           std::memcmp(file.bytes().data(), kMagic.data(), kMagic.size()) == 0;
  }
  return gguf ? read_gguf(path) : read_records(path);
}

void ImportanceMatrix::write(const std::filesystem::path& path) const {
  if (path.extension() == ".dat") {
    write_records(*this, path);
  } else {
    write_gguf(*this, path);
  }
}

}  // namespace fathom
