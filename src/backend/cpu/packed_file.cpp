#include "backend/cpu/packed_file.h"

#include <xxhash.h>
#include <nlohmann/json.hpp>

#include <bit>
#include <cstring>
#include <utility>

#include "backend/cpu/pack.h"
#include "base/content_digest.h"
#include "base/error.h"
#include "base/json_guard.h"

namespace fathom::cpu {
namespace {

using nlohmann::json;

constexpr char kMagic[8] = {'F', 'A', 'T', 'H', 'O', 'M', 'P', 'K'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kAlignment = 64;
/// DeepSeek-V3 has 60,000 matrices of some 200 bytes each in the index.
constexpr JsonLimits kIndexLimits{.depth = 8, .string_bytes = 4096, .values = std::size_t{1} << 24};

struct Footer {
  char magic[8];
  std::uint32_t version;
  std::uint32_t layout;
  std::uint64_t index_offset;
  std::uint64_t index_bytes;
  std::uint64_t index_digest;
  std::uint64_t file_bytes;
  std::uint8_t reserved[16];
};
static_assert(sizeof(Footer) == 64 && std::endian::native == std::endian::little);

Footer read_footer(const FileMap& map) {
  Footer footer{};
  const std::string file = map.path().string();
  require(map.size() >= sizeof footer, ErrorCode::Corrupt,
          "{}: {} bytes are too few for packed weights; pack the model again", file, map.size());
  std::memcpy(&footer, map.bytes().data() + map.size() - sizeof footer, sizeof footer);
  require(std::memcmp(footer.magic, kMagic, sizeof kMagic) == 0, ErrorCode::Corrupt,
          "{}: does not end as packed weights do; it was cut short, or is something else", file);
  require(footer.version == kVersion && footer.layout == kPackedLayout, ErrorCode::Unsupported,
          "{}: version {} with layout {} of packed weights, but this Fathom reads version {} with "
          "layout {}; pack the model again",
          file, footer.version, footer.layout, kVersion, kPackedLayout);
  const std::size_t end = map.size() - sizeof footer;
  require(footer.file_bytes == map.size() && footer.index_offset <= end &&
              footer.index_bytes == end - footer.index_offset,
          ErrorCode::Corrupt,
          "{}: has {} bytes, but was written with {}, an index of {} bytes at {}; pack the model "
          "again",
          file, map.size(), footer.file_bytes, footer.index_bytes, footer.index_offset);
  require(XXH3_64bits(map.bytes().data() + footer.index_offset, footer.index_bytes) ==
              footer.index_digest,
          ErrorCode::Corrupt, "{}: the index is damaged; pack the model again", file);
  return footer;
}

}  // namespace

PackedFile::PackedFile(const std::filesystem::path& path) : map_(path) {
  const Footer footer = read_footer(map_);
  const auto* text = reinterpret_cast<const char*>(map_.bytes().data()) + footer.index_offset;
  guard_json(std::string_view(text, footer.index_bytes), kIndexLimits, path);
  try {
    const json index = json::parse(text, text + footer.index_bytes);
    origin_.fingerprint = index.at("fingerprint").get<std::string>();
    require(index.at("modified_ns").is_number_integer(), ErrorCode::Corrupt,
            "{}: the index's modified_ns is no integer", path.string());
    origin_.modified_ns = index.at("modified_ns").get<std::int64_t>();
    for (const json& entry : index.at("matrices")) {
      // A number like 6e25 would be converted to something else, or to nothing defined.
      const auto count = [&](const char* field) {
        const json& number = entry.at(field);
        require(number.is_number_unsigned(), ErrorCode::Corrupt,
                "{}: the index has {} {}, which is no count", path.string(), field, number.dump());
        return number.get<std::uint64_t>();
      };
      const auto name = entry.at("name").get<std::string>();
      const auto dtype_name = entry.at("dtype").get<std::string>();
      const auto dtype = parse_dtype(dtype_name);
      const PackedFormat format = dtype ? packed_format(*dtype) : PackedFormat{};
      const auto rows = count("rows");
      const auto features = count("features");
      const auto offset = count("offset");
      require(format.bits != 0 && rows > 0 && features > 0 && features % format.tile_features == 0,
              ErrorCode::Corrupt, "{}: matrix '{}' is said to be {} of {} x {}, which none can be",
              path.string(), name, dtype_name, rows, features);
      // A row takes a bit per feature at least: larger ones cannot be in the file.
      require(rows <= map_.size() && features / 8 <= map_.size(), ErrorCode::Corrupt,
              "{}: matrix '{}' of {} x {} does not fit the file", path.string(), name, rows,
              features);
      const std::uint64_t bytes = packed_matrix_bytes(*dtype, rows, features);
      require(offset <= footer.index_offset && bytes <= footer.index_offset - offset &&
                  offset % kAlignment == 0,
              ErrorCode::Corrupt,
              "{}: matrix '{}' takes {} bytes at {}, but matrices end at byte {}", path.string(),
              name, bytes, offset, footer.index_offset);
      const bool added =
          matrices_
              .emplace(name, Matrix{*dtype, rows, features, map_.bytes().subspan(offset, bytes),
                                    entry.at("digest").get<std::string>(),
                                    entry.at("source").get<std::string>()})
              .second;
      require(added, ErrorCode::Corrupt, "{}: two matrices are called '{}'", path.string(), name);
    }
  } catch (const json::exception& error) {
    fail(ErrorCode::Corrupt, "{}: the index is not what it should be: {}", path.string(),
         json_complaint(error.what()));
  }
}

const PackedFile::Matrix& PackedFile::matrix(std::string_view name, DType dtype, std::size_t rows,
                                             std::size_t features) const {
  const auto found = matrices_.find(std::string(name));
  require(found != matrices_.end(), ErrorCode::Corrupt,
          "{}: has no matrix '{}'; it was packed from another model, or for another precision",
          path().string(), name);
  const Matrix& matrix = found->second;
  require(matrix.dtype == dtype && matrix.rows == rows && matrix.features == features,
          ErrorCode::Corrupt,
          "{}: matrix '{}' is {} of {} x {}, but the model's is {} of {} x {}; pack it again",
          path().string(), name, to_string(matrix.dtype), matrix.rows, matrix.features,
          to_string(dtype), rows, features);
  return matrix;
}

void PackedFile::verify(ThreadPool& pool, const ProgressSink& sink) const {
  Progress progress(sink, "checking packed weights", map_.size());
  for (const auto& [name, matrix] : matrices_) {
    require(content_digest(matrix.bytes, pool) == matrix.digest, ErrorCode::Corrupt,
            "{}: matrix '{}' is damaged; pack the model again", path().string(), name);
    map_.dont_need(matrix.bytes);
    progress.advance(matrix.bytes.size());
  }
}

PackedFileWriter::PackedFileWriter(const std::filesystem::path& path, PackedOrigin origin)
    : file_(path), origin_(std::move(origin)) {}

void PackedFileWriter::add(std::string_view name, DType dtype, std::size_t rows,
                           std::size_t features, std::span<const std::byte> packed,
                           std::span<const std::byte> source, ThreadPool& pool) {
  constexpr std::byte kPadding[kAlignment] = {};
  entries_.push_back({std::string(name), dtype, rows, features, file_.position(),
                      content_digest(packed, pool), content_digest(source, pool)});
  file_.write(packed);
  file_.write(std::span(kPadding).first((kAlignment - packed.size() % kAlignment) % kAlignment));
}

void PackedFileWriter::commit() {
  json matrices = json::array();
  for (const Entry& e : entries_) {
    matrices.push_back({{"name", e.name},
                        {"dtype", to_string(e.dtype)},
                        {"rows", e.rows},
                        {"features", e.features},
                        {"offset", e.offset},
                        {"digest", e.digest},
                        {"source", e.source_digest}});
  }
  const json index{{"fingerprint", origin_.fingerprint},
                   {"modified_ns", origin_.modified_ns},
                   {"matrices", std::move(matrices)}};
  const std::string text = index.dump();
  Footer footer{};
  std::memcpy(footer.magic, kMagic, sizeof kMagic);
  footer.version = kVersion;
  footer.layout = kPackedLayout;
  footer.index_offset = file_.position();
  footer.index_bytes = text.size();
  footer.index_digest = XXH3_64bits(text.data(), text.size());
  footer.file_bytes = footer.index_offset + text.size() + sizeof footer;
  file_.write(text);
  file_.write(std::as_bytes(std::span(&footer, 1)));
  file_.commit();
}

}  // namespace fathom::cpu
