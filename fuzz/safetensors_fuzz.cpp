// Any bytes as a safetensors file, and as a config.json: an Error or a consistent checkpoint,
// nothing else.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint_fuzz.h"
#include "formats/hf_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fathom::fuzz::MemoryFile file("model.safetensors");
  file.write(data, size);
  fathom::fuzz::open_and_touch<fathom::HfCheckpoint>(file.path());
  try {
    fathom::MetadataMap config;
    config.add_json(std::string_view(reinterpret_cast<const char*>(data), size), "", "config.json");
  } catch (const fathom::Error&) {
    // The expected end of most inputs.
  }
  return 0;
}
