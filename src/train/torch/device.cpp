#include "train/torch/device.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <charconv>

#include "base/error.h"

namespace fathom::train {
namespace {

constexpr std::string_view kGpu = "cuda";

}  // namespace

at::Device training_device(std::string_view name, int place) {
  const auto gpus = static_cast<int>(at::hasCUDA() ? at::getNumGPUs() : 0);
  if (name == "cpu" || (name == "auto" && gpus == 0)) return at::kCPU;
  int index = gpus > 0 ? place % gpus : 0;
  bool known = name == "auto" || name == kGpu;
  if (name.size() > kGpu.size() + 1 && name.starts_with(kGpu) && name[kGpu.size()] == ':') {
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kGpu.size() + 1, end, index);
    known = error == std::errc() && stop == end && index >= 0;
  }
  require(known, ErrorCode::InvalidArgument,
          "no device is called '{}': there are auto, cpu, cuda and cuda:N", name);
  require(gpus > 0, ErrorCode::InvalidArgument, "--device {}: {}", name,
          at::Context::hasCUDART() ? "PyTorch finds no GPU (or no driver for it) on this machine"
                                   : "the libtorch that this was built with knows only CPUs");
  require(index < gpus, ErrorCode::InvalidArgument, "--device {}: the machine has {} GPU{}", name,
          gpus, gpus == 1 ? "" : "s");
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

std::string device_text(const at::Device& device) {
  if (device.is_cpu()) return fmt::format("{} CPU threads", at::get_num_threads());
  return fmt::format("GPU {}", device.index());
}

std::optional<std::uint64_t> peak_device_memory(const at::Device& device) {
  if (!device.is_cuda()) return std::nullopt;
  const auto stats = at::accelerator::getDeviceStats(device.index());
  return static_cast<std::uint64_t>(stats.allocated_bytes[0].peak);
}

}  // namespace fathom::train
