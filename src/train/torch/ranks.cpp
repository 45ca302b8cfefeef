// Gloo's class is built into libtorch, and its header asks for a few of Gloo's own (Debian's
// libgloo-dev), of which only pointers are used here.
#define USE_C10D_GLOO
#ifdef FATHOM_NCCL
#define USE_C10D_NCCL
#endif
#include "train/torch/ranks.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef FATHOM_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>
#include <system_error>
#include <utility>

#include "base/content_digest.h"
#include "base/error.h"

namespace fathom::train {
namespace {

bool is_this_machine(const std::string& host) {
  return host == "127.0.0.1" || host == "localhost" || host == "::1";
}

int number(const char* text, const char* name, int most) {
  int value = -1;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  require(error == std::errc() && stop == end && value >= 0 && value <= most,
          ErrorCode::InvalidArgument, "{} is '{}': a number from 0 to {} is wanted", name, text,
          most);
  return value;
}

/// A socket that no other machine reaches: c10d's own would listen to all.
int listen_here(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool open = fd >= 0 && ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                    ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (!open) {
    const std::error_code error(errno, std::generic_category());
    if (fd >= 0) ::close(fd);
    fail(ErrorCode::Network, "cannot listen on 127.0.0.1:{} for the other ranks: {}", port,
         error.message());
  }
  return fd;
}

}  // namespace

RankSetup rank_setup(const std::function<const char*(const char*)>& variable) {
  struct Names {
    const char *rank, *size;
  };
  RankSetup setup;
  for (const Names& names :
       {Names{"RANK", "WORLD_SIZE"}, Names{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
        Names{"PMI_RANK", "PMI_SIZE"}}) {
    const char *rank = variable(names.rank), *size = variable(names.size);
    if (rank == nullptr || size == nullptr) continue;
    setup.size = number(size, names.size, 1 << 16);
    setup.rank = number(rank, names.rank, 1 << 16);
    require(setup.rank < setup.size, ErrorCode::InvalidArgument, "{} is {}, but {} is {}",
            names.rank, rank, names.size, size);
    break;
  }
  if (setup.size == 1) return setup;
  for (const char* name : {"LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}) {
    if (const char* here = variable(name)) {
      setup.here = number(here, name, 1 << 16);
      break;
    }
  }
  for (const char* name : {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}) {
    if (const char* place = variable(name)) {
      setup.place = number(place, name, 1 << 16);
      break;
    }
  }
  if (const char* host = variable("MASTER_ADDR")) {
    setup.host = host;
  } else {
    require(setup.here == setup.size, ErrorCode::InvalidArgument,
            "{} of {} ranks are on this machine: MASTER_ADDR must name the first one's (mpirun -x "
            "MASTER_ADDR=...)",
            setup.here, setup.size);
  }
  if (const char* port = variable("MASTER_PORT")) {
    setup.port = static_cast<std::uint16_t>(number(port, "MASTER_PORT", 65535));
  }
  if (const char* interface = variable("GLOO_SOCKET_IFNAME")) setup.interface = interface;
  const char* agent = variable("TORCHELASTIC_USE_AGENT_STORE");
  setup.agent_listens = agent != nullptr && std::string_view(agent) == "True";
  if (const char* attempt = variable("TORCHELASTIC_RESTART_COUNT")) setup.attempt = attempt;
  return setup;
}

struct Ranks::Group {
  c10::intrusive_ptr<c10d::Backend> gloo;
  c10::intrusive_ptr<c10d::Backend> nccl;  // between GPUs, where it is built in
  std::chrono::milliseconds patience;
};

at::Device Ranks::meeting_place(const Tensor& tensor) const {
  return tensor.is_cuda() && group_->nccl ? tensor.device() : at::Device(at::kCPU);
}

template <typename Work>
void Ranks::run(const at::Device& place, const Work& work) const {
  const at::NoGradGuard no_gradient;
  try {
    work(place.is_cpu() ? *group_->gloo : *group_->nccl)->wait(group_->patience);
  } catch (const std::exception& error) {
    std::string_view why = error.what();
    why = why.substr(0, why.find('\n'));
    fail(ErrorCode::Network,
         "rank {} of {} has lost the others: one has ended, or its connection broke ({})", rank_,
         size_, why);
  }
}

Ranks Ranks::join(const RankSetup& setup, [[maybe_unused]] const at::Device& device) {
  Ranks ranks;
  ranks.rank_ = setup.rank;
  ranks.size_ = setup.size;
  if (setup.size == 1) return ranks;
  const bool here = is_this_machine(setup.host);
  c10d::TCPStoreOptions meeting;
  meeting.port = setup.port;
  meeting.isServer = setup.rank == 0 && !setup.agent_listens;
  meeting.waitWorkers = false;  // Gloo's own meeting waits
  meeting.timeout = setup.patience;
  if (meeting.isServer && here) meeting.masterListenFd = listen_here(setup.port);
  try {
    const auto store = c10::make_intrusive<c10d::PrefixStore>(
        "fathom/" + setup.attempt,
        c10::make_intrusive<c10d::TCPStore>(here ? "127.0.0.1" : setup.host, meeting));
    const auto options = c10d::ProcessGroupGloo::Options::create(setup.patience);
    using Gloo = c10d::ProcessGroupGloo;
    options->devices.push_back(!setup.interface.empty()
                                   ? Gloo::createDeviceForInterface(setup.interface)
                               : here ? Gloo::createDeviceForHostname("127.0.0.1")
                                      : Gloo::createDefaultDevice());
    ranks.group_ = std::make_shared<Group>();
    ranks.group_->patience = setup.patience;
    ranks.group_->gloo = c10::make_intrusive<Gloo>(store, setup.rank, setup.size, options);
#ifdef FATHOM_NCCL
    if (ranks.gpu_each(device)) {
      using Nccl = c10d::ProcessGroupNCCL;
      const auto between_gpus = Nccl::Options::create();
      between_gpus->timeout = setup.patience;
      ranks.group_->nccl =
          c10::make_intrusive<Nccl>(c10::make_intrusive<c10d::PrefixStore>("nccl", store),
                                    setup.rank, setup.size, between_gpus);
    }
#endif
  } catch (const std::exception& error) {
    std::string_view why = error.what();
    why = why.substr(0, why.find('\n'));
    fail(ErrorCode::Network, "rank {} of {} cannot meet the others at {}:{}: {}", setup.rank,
         setup.size, setup.host, setup.port, why);
  }
  return ranks;
}

bool Ranks::gpu_each(const at::Device& device) const {
  char name[256] = {};  // too long a name is cut
  ::gethostname(name, sizeof name - 1);
  ContentDigest digest;
  digest.add(std::string_view(name));
  const std::uint64_t machine = std::stoull(digest.hex().substr(0, 12), nullptr, 16);
  const std::int64_t gpu = device.is_cuda() ? device.index() : -1;
  Tensor all = at::empty({size_, 2}, at::kLong);
  gather(all, at::tensor({static_cast<std::int64_t>(machine), gpu}, at::kLong));
  std::set<std::pair<std::int64_t, std::int64_t>> apart;
  bool gpus = true;
  for (std::int64_t rank = 0; rank < size_; ++rank) {
    const auto* of = all.const_data_ptr<std::int64_t>() + 2 * rank;
    gpus = gpus && of[1] >= 0;
    apart.emplace(of[0], of[1]);
  }
  return gpus && std::ssize(apart) == size_;
}

std::pair<std::int64_t, std::int64_t> Ranks::share(std::int64_t count) const {
  return {count * rank_ / size_, count * (rank_ + 1) / size_};
}

void Ranks::sum(Tensor& tensor) const {
  if (alone()) return;
  const at::Device place = meeting_place(tensor);
  std::vector<Tensor> tensors{tensor.to(place)};
  run(place, [&](c10d::Backend& backend) { return backend.allreduce(tensors); });
  if (place != tensor.device()) tensor.copy_(tensors[0]);
}

void Ranks::sum(std::span<double> values) const {
  if (alone()) return;
  Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kDouble);
  auto* data = tensor.data_ptr<double>();
  std::ranges::copy(values, data);
  sum(tensor);
  std::copy_n(data, values.size(), values.begin());
}

double Ranks::sum(double value) const {
  sum(std::span(&value, 1));
  return value;
}

double Ranks::most(double value) const {
  if (alone()) return value;
  std::vector<Tensor> tensors{at::full({1}, value, at::kDouble)};
  c10d::AllreduceOptions options;
  options.reduceOp = c10d::ReduceOp::MAX;
  run(at::kCPU, [&](c10d::Backend& backend) { return backend.allreduce(tensors, options); });
  return tensors[0].item<double>();
}

namespace {

/// What a result comes to, flat: the tensor itself, or if it is elsewhere another one.
Tensor place_for(const Tensor& result, const at::Device& place) {
  return result.device() == place ? result.view(-1)
                                  : at::empty({result.numel()}, result.options().device(place));
}

}  // namespace

void Ranks::sum_parts(Tensor& own, const Tensor& all) const {
  if (alone()) {
    own.copy_(all);
    return;
  }
  const at::Device place = meeting_place(own);
  Tensor from = all.view(-1).to(place), into = place_for(own, place);
  run(place, [&](c10d::Backend& backend) { return backend._reduce_scatter_base(into, from); });
  if (place != own.device()) own.copy_(into.view(own.sizes()));
}

void Ranks::gather(Tensor& all, const Tensor& own) const {
  if (alone()) {
    all.copy_(own);
    return;
  }
  const at::Device place = meeting_place(all);
  Tensor from = own.contiguous().view(-1).to(place), into = place_for(all, place);
  run(place, [&](c10d::Backend& backend) { return backend._allgather_base(into, from); });
  if (place != all.device()) all.copy_(into.view(all.sizes()));
}

Tensor Ranks::exchange(const Tensor& rows, const std::vector<std::int64_t>& to,
                       const std::vector<std::int64_t>& from) const {
  if (alone()) return rows;
  std::int64_t coming = 0;
  for (const std::int64_t count : from) coming += count;
  std::vector<std::int64_t> shape = rows.sizes().vec();
  shape[0] = coming;
  const at::Device place = meeting_place(rows);
  Tensor received = at::empty(shape, rows.options().device(place));
  // As bytes: Gloo does not know every type.
  std::int64_t size = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) size *= shape[i];
  const auto bytes = [&](const Tensor& tensor) {
    return tensor.view({tensor.size(0), size}).view(at::kByte);
  };
  Tensor out = bytes(received), in = bytes(rows.contiguous().to(place));
  auto from_counts = from, to_counts = to;
  run(place, [&](c10d::Backend& backend) {
    return backend.alltoall_base(out, in, from_counts, to_counts);
  });
  return received.to(rows.device());
}

void Ranks::together(const std::function<void()>& work) const {
  if (alone()) return work();
  std::exception_ptr mine;
  try {
    work();
  } catch (...) {
    mine = std::current_exception();
  }
  int failed = 0;
  try {
    failed = static_cast<int>(most(mine ? rank_ + 1 : 0));
  } catch (...) {
    if (!mine) throw;
  }
  if (mine) std::rethrow_exception(mine);
  require(failed == 0, ErrorCode::Cancelled, "rank {} of {} stops, because rank {} failed", rank_,
          size_, failed - 1);
}

void Ranks::require_same(std::string_view text, std::string_view what) const {
  if (alone()) return;
  ContentDigest digest;
  digest.add(text);
  // 48 bits of it, which a double holds.
  const auto mine = static_cast<double>(std::stoull(digest.hex().substr(0, 12), nullptr, 16));
  require(most(mine) == -most(-mine), ErrorCode::InvalidArgument, "the ranks have different {}",
          what);
}

}  // namespace fathom::train
