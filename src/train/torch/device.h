// What the trainer computes on: CPUs, or a GPU where PyTorch finds one.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom::train {

/// "cpu"; "cuda" or "cuda:N"; "auto": a GPU if there is one, else CPUs. Of several processes on one
/// machine (`place` of them is this one) each takes a GPU of its own, unless N says which. Throws
/// Error(InvalidArgument) for another word, or a GPU that is not there, saying why.
at::Device training_device(std::string_view name, int place = 0);

/// "2 CPU threads", "GPU 0". For people.
std::string device_text(const at::Device& device);

/// Bytes, the most that tensors took on this device so far; nothing for CPUs, whose memory is the
/// process's.
std::optional<std::uint64_t> peak_device_memory(const at::Device& device);

}  // namespace fathom::train
