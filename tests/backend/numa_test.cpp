// Two fake NUMA nodes on a machine that may have one: threads are really bound, memory is not.
#include "base/numa.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/products.h"
#include "base/error.h"
#include "tensor/quantise.h"

namespace fathom::cpu {
namespace {

struct Call {
  std::vector<unsigned> nodes;
  bool interleaved;
  const std::byte* begin;
  std::size_t bytes;
};
struct RecordingBinder final : MemoryBinder {
  void interleave(std::span<std::byte> memory, std::span<const unsigned> nodes) override {
    calls.push_back({{nodes.begin(), nodes.end()}, true, memory.data(), memory.size()});
  }
  void prefer(std::span<std::byte> memory, unsigned node) override {
    calls.push_back({{node}, false, memory.data(), memory.size()});
  }
  std::vector<Call> calls;
};

constexpr std::size_t kRows = 512;
constexpr std::size_t kFeatures = 1024;

/// Nodes 4 and 6, each with one of this machine's CPUs.
struct TwoNodes : testing::Test {
  void SetUp() override {
    const std::vector<unsigned> cpus = allowed_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "needs two CPUs";
    for (unsigned i = 0; i < 2; ++i) {
      NumaNode& node = topology.nodes.emplace_back();
      node.id = 4 + 2 * i;
      node.cpus = {cpus[i]};
      node.cores = 1;
      node.memory_bytes = node.available_bytes = 1000 + i;
    }
    std::vector<float> values(kRows * kFeatures);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i * 2654435761U % 1000) / 1000.0F - 0.5F;
    }
    bytes.resize(row_bytes(DType::Q8_0, kFeatures) * kRows);
    quantise(DType::Q8_0, values, bytes);
    x.assign(kFeatures, 0.25F);
  }
  NumaOptions numa(NumaMode mode) { return numa_options(mode, topology, binder); }
  PackedMatrix pack(ThreadPool& pool) const {
    return PackedMatrix::pack({DType::Q8_0, Shape{kRows, kFeatures}, bytes}, Precision::Int8,
                              best_cpu_level(), pool);
  }
  std::vector<float> multiply(ThreadPool& pool, const PackedMatrix& weight) const {
    std::vector<float> y(kRows);
    const Product product{&weight, y.data(), kRows};
    matmul(pool, x.data(), kFeatures, 1, {&product, 1});
    return y;
  }

  Topology topology;
  std::shared_ptr<RecordingBinder> binder = std::make_shared<RecordingBinder>();
  std::vector<std::byte> bytes;
  std::vector<float> x;
};

/// Runs `body` on a thread of its own that is bound to `cpu`.
template <typename Body>
void on_cpu(unsigned cpu, const Body& body) {
  std::thread([&] {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
    body();
  }).join();
}

TEST_F(TwoNodes, SpreadInterleavesTheWeightsOverBoth) {
  ThreadPool pool(2, numa(NumaMode::Spread));
  const PackedMatrix weight = pack(pool);
  ASSERT_EQ(binder->calls.size(), 1U);
  const Call& call = binder->calls[0];
  EXPECT_TRUE(call.interleaved);
  EXPECT_EQ(call.nodes, (std::vector<unsigned>{4, 6}));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(call.begin) % 4096, 0U) << "mbind wants whole pages";
  EXPECT_EQ(call.bytes % 4096, 0U);
  EXPECT_GT(call.bytes + 2 * 4096, weight.owned_bytes());
  EXPECT_TRUE(weight.impl().copies.empty());
}

TEST_F(TwoNodes, ReplicateKeepsACopyOnEach) {
  ThreadPool pool(2, numa(NumaMode::Replicate));
  const PackedMatrix weight = pack(pool);
  ASSERT_EQ(binder->calls.size(), 2U);
  EXPECT_EQ(binder->calls[0].nodes, (std::vector<unsigned>{4}));
  EXPECT_EQ(binder->calls[1].nodes, (std::vector<unsigned>{6}));
  EXPECT_FALSE(binder->calls[1].interleaved);
  const PackedMatrix::Impl& impl = weight.impl();
  ASSERT_EQ(impl.copies.size(), 1U);
  EXPECT_EQ(weight.owned_bytes(), 2 * impl.owned.size());
  EXPECT_NE(impl.data_of(0), impl.data_of(1));
  EXPECT_EQ(std::memcmp(impl.data_of(0), impl.data_of(1), impl.owned.size()), 0);
}

TEST_F(TwoNodes, EveryModeGivesTheSameBits) {
  ThreadPool plain(2);
  const std::vector<float> expected = multiply(plain, pack(plain));
  for (const NumaMode mode : {NumaMode::Spread, NumaMode::Replicate}) {
    ThreadPool pool(2, numa(mode));
    const PackedMatrix weight = pack(pool);
    for (int round = 0; round < 20; ++round) EXPECT_EQ(multiply(pool, weight), expected);
  }
}

TEST_F(TwoNodes, ProductsReadTheCopyOfTheNodeTheyRunOn) {
  ThreadPool pool(1, numa(NumaMode::Replicate));
  const PackedMatrix weight = pack(pool);
  const std::vector<float> expected = multiply(pool, weight);
  // The second node's copy is spoilt: who reads it is seen.
  std::memset(weight.impl().copies[0].data(), 0, weight.impl().copies[0].size());
  on_cpu(topology.nodes[0].cpus[0], [&] { EXPECT_EQ(multiply(pool, weight), expected); });
  on_cpu(topology.nodes[1].cpus[0], [&] { EXPECT_NE(multiply(pool, weight), expected); });
}

TEST_F(TwoNodes, WorkersAreBoundByTurnsAndReadTheirOwnCopy) {
  ThreadPool pool(4, numa(NumaMode::Replicate));
  const std::vector<unsigned> order = topology.thread_order();
  for (unsigned worker = 1; worker < 4; ++worker) EXPECT_EQ(pool.copy(worker), worker % 2);
  for (int round = 0; round < 20; ++round) {
    pool.run(64, [&](std::size_t, unsigned worker) {
      if (worker == 0) return;  // the caller is not bound
      EXPECT_EQ(static_cast<unsigned>(sched_getcpu()), order[worker % 2]);
    });
  }
}

TEST_F(TwoNodes, ACpuThatIsNotThereIsRefused) {
  topology.nodes[1].cpus = {60000};
  try {
    ThreadPool pool(2, numa(NumaMode::Spread));
    FAIL() << "bound to a CPU that does not exist";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(std::string(error.what()).find("CPU 60000"), std::string::npos) << error.what();
  }
}

TEST_F(TwoNodes, ReplicateNeedsRoomOnEachNode) {
  const NumaOptions options = numa(NumaMode::Replicate);
  EXPECT_NO_THROW(options.require_room(1000));
  try {
    options.require_room(1001);
    FAIL() << "node 4 has 1000 bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::ResourceLimit);
    EXPECT_NE(std::string(error.what()).find("node 4 has 1000"), std::string::npos) << error.what();
  }
  EXPECT_NO_THROW(numa(NumaMode::Spread).require_room(1 << 30));
}

TEST_F(TwoNodes, OneNodesMemoryLeavesNothingToDo) {
  topology.nodes[1].memory_bytes = 0;
  EXPECT_TRUE(numa(NumaMode::Replicate).off());
  EXPECT_TRUE(numa(NumaMode::Spread).off());
}

TEST(Numa, TheKernelTakesTheMasks) {
  // Node 0 is always there; what a kernel without NUMA or a container refuses is told as such.
  std::vector<std::byte> memory(std::size_t{1} << 20);
  NumaOptions options;
  options.mode = NumaMode::Spread;
  options.binder = system_memory_binder();
  options.topology.nodes.push_back({0, {0}, 1, 1, 1, {}});
  try {
    options.place(memory, 0);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    GTEST_SKIP() << error.what();
  }
}

}  // namespace
}  // namespace fathom::cpu
