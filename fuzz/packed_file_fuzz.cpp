// Packed weights: any bytes as the file, and any bytes as an index whose digest is right.
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "backend/cpu/pack.h"
#include "backend/cpu/packed_file.h"
#include "checkpoint_fuzz.h"

namespace {

void open_and_touch(const std::filesystem::path& path) {
  try {
    const fathom::cpu::PackedFile file(path);
    volatile unsigned sum = 0;
    for (const auto& [name, matrix] : file.matrices()) {
      if (matrix.bytes.size() !=
          fathom::cpu::packed_matrix_bytes(matrix.dtype, matrix.rows, matrix.features)) {
        std::abort();
      }
      sum = sum + static_cast<unsigned>(matrix.bytes.front()) +
            static_cast<unsigned>(matrix.bytes.back());
    }
  } catch (const fathom::Error&) {
    // The expected end of most inputs.
  }
}

/// 8 KiB of matrices, the input as their index, and a footer that vouches for it.
std::vector<std::uint8_t> with_footer(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMatrices = 8192;
  std::vector<std::uint8_t> file(kMatrices);
  file.insert(file.end(), data, data + size);
  const auto put = [&file](const auto& value) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
    file.insert(file.end(), bytes, bytes + sizeof value);
  };
  const std::uint64_t offset = kMatrices;
  const std::uint64_t bytes = size;
  const std::uint64_t total = kMatrices + size + 64;
  file.insert(file.end(), {'F', 'A', 'T', 'H', 'O', 'M', 'P', 'K'});
  put(std::uint32_t{1});
  put(fathom::cpu::kPackedLayout);
  put(offset);
  put(bytes);
  put(std::uint64_t{XXH3_64bits(data, size)});
  put(total);
  file.resize(file.size() + 16);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fathom::fuzz::MemoryFile file("weights.packed");
  file.write(data, size);
  open_and_touch(file.path());
  const std::vector<std::uint8_t> vouched = with_footer(data, size);
  file.write(vouched.data(), vouched.size());
  open_and_touch(file.path());
  return 0;
}
