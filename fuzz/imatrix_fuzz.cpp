// Any bytes as an importance matrix, in either form: an Error or a matrix that holds together.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "checkpoint_fuzz.h"
#include "formats/imatrix.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fathom::fuzz::MemoryFile file("imatrix");
  file.write(data, size);
  try {
    const auto matrix = fathom::ImportanceMatrix::read(file.path());
    for (const auto& [name, entry] : matrix.entries) {
      if (matrix.find(name) != &entry) std::abort();
      if (entry.columns == 0 || entry.squares.size() != entry.parts() * entry.columns) std::abort();
      for (std::size_t part = 0; part < entry.parts(); ++part) (void)entry.means(part);
      try {
        (void)entry.of_shape(fathom::Shape{4, entry.columns});
      } catch (const fathom::Error&) {
      }
    }
  } catch (const fathom::Error&) {
    // The expected end of most inputs.
  }
  return 0;
}
