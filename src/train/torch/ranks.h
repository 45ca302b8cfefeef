// The processes that train together, over PyTorch's c10d (Gloo; NCCL between GPUs), as torchrun or
// mpirun started them.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::train {

using at::Tensor;

/// Who there is, and where they meet.
struct RankSetup {
  int rank = 0, size = 1;
  int here = 1, place = 0;         // ranks on this machine, and which of them this is
  std::string host = "127.0.0.1";  // of the first rank
  std::uint16_t port = 29500;
  std::string interface;                // of the network; empty: the host name's
  bool agent_listens = false;           // torchrun itself keeps the meeting place
  std::string attempt;                  // apart from what torchrun started before
  std::chrono::seconds patience{1800};  // with ranks that say nothing
};

/// What torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) or mpirun (Open MPI's
/// OMPI_COMM_WORLD_..., MPICH's PMI_...) told this process; one rank without them. `variable` looks
/// one up. Throws Error(InvalidArgument) for what makes no sense.
RankSetup rank_setup(const std::function<const char*(const char*)>& variable);

/// This process's place among them; a handle. All collective work is called by all ranks, in the
/// same order, and throws Error(Network) when another has ended or says nothing for too long.
/// Sums are the same on all ranks, to the bit. Tensors may be on any device: NCCL
/// takes GPUs' where it is built in and each rank has one of its own, all others go by way of the
/// CPU.
class Ranks {
 public:
  Ranks() = default;  // alone: collective work does nothing
  /// Waits for the others. Between processes of one machine (`host` 127.0.0.1 or localhost) nothing
  /// listens to any other. `device`: where this rank computes. Throws Error(Network).
  static Ranks join(const RankSetup& setup, const at::Device& device = at::kCPU);

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }
  /// The part [first, last) of so many things that is this rank's: as equal as can be, in order.
  std::pair<std::int64_t, std::int64_t> share(std::int64_t count) const;

  /// In place.
  void sum(Tensor& tensor) const;
  void sum(std::span<double> values) const;
  double sum(double value) const;
  double most(double value) const;
  /// `all` has one part after another for each rank, of `own`'s size: `own` becomes the sum of
  /// all ranks' parts for this one.
  void sum_parts(Tensor& own, const Tensor& all) const;
  /// `all` becomes all ranks' `own`, in order.
  void gather(Tensor& all, const Tensor& own) const;
  /// Rows to each rank, in order, and from each. [rows, ...]; any type.
  Tensor exchange(const Tensor& rows, const std::vector<std::int64_t>& to,
                  const std::vector<std::int64_t>& from) const;

  /// Whether all ranks compute on GPUs, each on one of its own; this one on `device`. Only then can
  /// they use NCCL.
  bool gpu_each(const at::Device& device) const;

  /// Does something that may fail here and not there: if it fails anywhere all throw, the others
  /// Error(Cancelled) with the rank that knows why.
  void together(const std::function<void()>& work) const;
  /// Throws Error(InvalidArgument) on all if their texts differ; `what` they are, in the plural.
  void require_same(std::string_view text, std::string_view what) const;

 private:
  struct Group;
  /// Where collective work on a tensor is done: on its own device, or on the CPU.
  at::Device meeting_place(const Tensor& tensor) const;
  template <typename Work>
  void run(const at::Device& place, const Work& work) const;

  std::shared_ptr<Group> group_;
  int rank_ = 0, size_ = 1;
};

}  // namespace fathom::train
