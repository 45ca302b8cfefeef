// Tensors on their way to and from files.
#pragma once

#include <ATen/ATen.h>

#include <deque>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/safetensors_writer.h"

namespace fathom::train {

/// Tensors with their names, kept alive until they are written.
class TensorList {
 public:
  /// F32 or BF16.
  void add(const std::string& name, const at::Tensor& tensor);
  std::span<const NamedTensor> list() const { return list_; }

 private:
  std::deque<at::Tensor> tensors_;
  std::vector<NamedTensor> list_;
};

/// Bit for bit, F32 of the same size. Throws Error(NotFound | Corrupt), naming the tensor.
void read_tensor(const Checkpoint& checkpoint, const std::string& name, at::Tensor& into);

}  // namespace fathom::train
