// Tensors on their way to and from files.
#pragma once

#include <ATen/ATen.h>

#include <deque>
#include <memory>
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

/// Rows of a tensor, from `first` on, of so many in all.
struct RowRange {
  std::int64_t first, all;
};
/// The same of some rows of a tensor that may lie in several files, one's rows after another's.
void read_rows(std::span<const std::unique_ptr<const Checkpoint>> files, const std::string& name,
               at::Tensor& into, RowRange rows);

}  // namespace fathom::train
