// Any bytes as a GGUF file: an Error or a consistent checkpoint, nothing else.
#include <cstddef>
#include <cstdint>

#include "checkpoint_fuzz.h"
#include "formats/gguf_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fathom::fuzz::MemoryFile file("model.gguf");
  file.write(data, size);
  fathom::fuzz::open_and_touch<fathom::GgufCheckpoint>(file.path());
  return 0;
}
