#include "model/fingerprint.h"

#include <algorithm>

#include "base/content_digest.h"

namespace fathom {

std::string content_fingerprint(const Checkpoint& checkpoint) {
  constexpr std::uint64_t kSamples = 256;
  constexpr std::size_t kSample = 4096;
  ContentDigest digest;
  std::uint64_t total = 0;
  for (const std::string& name : checkpoint.names()) total += checkpoint.tensor(name).data.size();
  const std::uint64_t step = std::max<std::uint64_t>(total / kSamples, kSample);
  std::uint64_t next = 0;  // sample, counted from the tensor's begin
  for (const std::string& name : checkpoint.names()) {
    const TensorView tensor = checkpoint.tensor(name);
    digest.add(name);
    digest.add(to_string(tensor.dtype));
    digest.add(tensor.shape.to_string());
    const std::size_t size = tensor.data.size();
    for (; next < size; next += step) {
      digest.add(tensor.data.subspan(next, std::min<std::size_t>(kSample, size - next)));
    }
    next -= size;
  }
  return digest.hex();
}

}  // namespace fathom
