#include "train/torch/far_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorShape.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

#include "base/error.h"

namespace fathom::train {
namespace {

constexpr std::size_t kMemory = std::size_t{1} << 32;  // of addresses; pages come when touched
constexpr std::size_t kAlign = 64;

/// The same memory twice: where tensors have it, without permission, and where copies reach it.
class FarMemory : public c10::Allocator {
 public:
  static FarMemory& get() {
    static auto* memory = new FarMemory;  // as long as any tensor
    return *memory;
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    const std::size_t size = std::max((bytes + kAlign - 1) / kAlign * kAlign, kAlign);
    const std::lock_guard lock(mutex_);
    std::size_t at = top_;
    if (const auto free = free_.find(size); free != free_.end()) {
      at = free->second;
      free_.erase(free);
    } else {
      top_ += size;
      require(top_ <= kMemory, ErrorCode::Internal, "the far device is full");
    }
    used_ += size;
    sizes_[at] = size;
    std::memset(near_ + at, 0xFF, size);  // NaN, until it is written
    return {far_ + at, far_ + at, &free_memory, at::Device(at::kPrivateUse1, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_memory; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(near(to), near(const_cast<void*>(from)), count);
  }

  char* near(void* far) const { return near_ + (static_cast<char*>(far) - far_); }
  std::size_t used() {
    const std::lock_guard lock(mutex_);
    return used_;
  }

 private:
  FarMemory() {
    const int file = ::memfd_create("far device", MFD_CLOEXEC);
    require(file >= 0 && ::ftruncate(file, kMemory) == 0, ErrorCode::Io, "no far memory");
    const auto map = [&](int permission) {
      void* place = ::mmap(nullptr, kMemory, permission, MAP_SHARED | MAP_NORESERVE, file, 0);
      require(place != MAP_FAILED, ErrorCode::Io, "no far memory");
      return static_cast<char*>(place);
    };
    far_ = map(PROT_NONE);
    near_ = map(PROT_READ | PROT_WRITE);
    ::close(file);
  }
  static void free_memory(void* far) {
    FarMemory& memory = get();
    const std::lock_guard lock(memory.mutex_);
    const auto at = static_cast<std::size_t>(static_cast<char*>(far) - memory.far_);
    const std::size_t size = memory.sizes_.at(at);
    memory.free_.emplace(size, at);
    memory.used_ -= size;
  }

  char *far_ = nullptr, *near_ = nullptr;
  std::mutex mutex_;
  std::multimap<std::size_t, std::size_t> free_;  // size, place
  std::map<std::size_t, std::size_t> sizes_;      // of each place
  std::size_t top_ = 0, used_ = 0;
};

/// The tensor where the CPU reaches it.
at::Tensor near(const at::Tensor& tensor) {
  if (!tensor.is_privateuseone()) return tensor;
  return at::from_blob(FarMemory::get().near(tensor.mutable_data_ptr()), tensor.sizes(),
                       tensor.strides(), at::device(at::kCPU).dtype(tensor.dtype()));
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &FarMemory::get(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   type.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                         std::optional<at::ScalarType> type, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &FarMemory::get(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           type.value_or(at::kFloat));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  near(to).copy_(near(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

const at::Tensor& resize(const at::Tensor& tensor, at::IntArrayRef size,
                         std::optional<at::MemoryFormat>) {
  auto* impl = tensor.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  const std::size_t wanted = (static_cast<std::size_t>(tensor.numel()) +
                              static_cast<std::size_t>(tensor.storage_offset())) *
                             tensor.itemsize();
  if (tensor.storage().nbytes() < wanted) {
    tensor.storage().set_data_ptr(FarMemory::get().allocate(wanted));
    tensor.storage().set_nbytes(wanted);
  }
  return tensor;
}

at::Scalar one_value(const at::Tensor& tensor) { return near(tensor).item(); }

void on_the_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  at::native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("resize_", &resize);
  library.impl("_local_scalar_dense", &one_value);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

/// It does everything at once, so that whatever is waited for has happened.
struct Guard : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {
  static c10::Device one() { return {c10::DeviceType::PrivateUse1, 0}; }
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, one()); }
  c10::Device exchangeDevice(c10::Device) const override { return one(); }
  c10::Device getDevice() const override { return one(); }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

}  // namespace

at::Device far_device() {
  static const bool registered = [] {
    c10::SetAllocator(c10::DeviceType::PrivateUse1, &FarMemory::get());
    c10::register_privateuse1_backend("far");
    at::RegisterPrivateUse1HooksInterface(new Hooks);  // as long as any tensor
    return true;
  }();
  static_cast<void>(registered);
  return {at::kPrivateUse1, 0};
}

std::size_t far_bytes() { return FarMemory::get().used(); }

}  // namespace fathom::train
