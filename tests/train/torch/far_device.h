// A stand-in for a GPU: memory that the CPU cannot read, and PyTorch's operations over it.
//
// PyTorch leaves a device type to whoever registers it (PrivateUse1). This one's tensors live in
// pages without permission, so that whoever takes them for the CPU's crashes, and operations that
// mix devices throw as they do with a GPU. What is computed is what the CPU computes.
#pragma once

#include <ATen/ATen.h>

namespace fathom::train {

/// Registers it, once.
at::Device far_device();

/// Bytes of tensors that are on it now.
std::size_t far_bytes();

}  // namespace fathom::train
