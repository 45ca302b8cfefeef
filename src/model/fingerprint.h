// Whether two model files hold the same weights, without reading them whole.
#pragma once

#include <string>

#include "formats/checkpoint.h"

namespace fathom {

/// Of names, types and shapes of all tensors, and 4 KiB at each of 256 places: enough to know
/// another model, in milliseconds. What it cannot see, a file written over in place, changes its
/// time.
std::string content_fingerprint(const Checkpoint& checkpoint);

}  // namespace fathom
