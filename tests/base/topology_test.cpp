#include "base/topology.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <numeric>
#include <string>

#include "base/error.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
using Cpus = std::vector<unsigned>;

/// A tree like the kernel's, removed at the end.
class FakeSystem {
 public:
  FakeSystem() : root_(fs::temp_directory_path() / ("fathom-numa-" + std::to_string(getpid()))) {
    fs::remove_all(root_);
  }
  ~FakeSystem() { fs::remove_all(root_); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  void node(unsigned id, const std::string& cpus, unsigned total_kb, const std::string& distance) {
    const std::string folder = "node/node" + std::to_string(id) + "/";
    const std::string line = "Node " + std::to_string(id) + " ";
    write(folder + "cpulist", cpus + "\n");
    write(folder + "meminfo", line + "MemTotal:  " + std::to_string(total_kb) + " kB\n" + line +
                                  "MemFree: " + std::to_string(total_kb / 2) + " kB\n" + line +
                                  "Inactive(file): 1 kB\n" + line + "HugePages_Free: 0\n");
    write(folder + "distance", distance + "\n");
  }
  void siblings(unsigned cpu, const std::string& list) {
    write("cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list + "\n");
  }
  Topology read(std::size_t allowed = 64) const {
    Cpus all(allowed);
    std::iota(all.begin(), all.end(), 0U);
    return read_topology(root_, all);
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

std::string message(const FakeSystem& system) {
  try {
    system.read();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Topology, ThisMachineHasANodeWithEveryCpuItAllows) {
  std::size_t cpus = 0;
  for (const NumaNode& node : read_topology().nodes) cpus += node.cpus.size();
  EXPECT_EQ(cpus, allowed_cpus().size());
}

TEST(Topology, AKernelWithoutNodesHasOne) {
  const Topology topology = FakeSystem().read(3);
  ASSERT_EQ(topology.nodes.size(), 1U);
  EXPECT_EQ(topology.nodes[0].cpus, (Cpus{0, 1, 2}));
}

TEST(Topology, TwoNodesKeepTheirCpusMemoryAndNumbers) {
  FakeSystem system;
  system.write("node/online", "0-1\n");
  system.node(0, "0-1", 1000, "10 21");
  system.node(1, "2-3", 2000, "21 10");
  const Topology topology = system.read();
  ASSERT_EQ(topology.nodes.size(), 2U);
  EXPECT_EQ(topology.nodes[1].id, 1U);
  EXPECT_EQ(topology.nodes[1].cpus, (Cpus{2, 3}));
  EXPECT_EQ(topology.nodes[1].memory_bytes, 2000U * 1024);
  EXPECT_EQ(topology.nodes[1].available_bytes, 1001U * 1024);
  EXPECT_EQ(topology.thread_order(), (Cpus{0, 2, 1, 3})) << "nodes take turns";
}

TEST(Topology, SmtSiblingsComeAfterAllPhysicalCores) {
  FakeSystem system;
  system.write("node/online", "0-1");
  system.node(0, "0-1,4-5", 1000, "10 21");
  system.node(1, "2-3,6-7", 1000, "21 10");
  for (unsigned core = 0; core < 4; ++core) {
    const std::string both = std::to_string(core) + "," + std::to_string(core + 4);
    system.siblings(core, both);
    system.siblings(core + 4, both);
  }
  EXPECT_EQ(system.read().thread_order(), (Cpus{0, 2, 1, 3, 4, 6, 5, 7}));
}

TEST(Topology, AForbiddenSiblingLeavesItsCoreToTheOther) {
  FakeSystem system;
  system.write("node/online", "0");
  system.node(0, "0-3", 1000, "10");
  for (unsigned cpu = 0; cpu < 4; ++cpu) system.siblings(cpu, cpu < 2 ? "0-1" : "2-3");
  const Topology topology = read_topology(system.root(), {1, 2, 3});
  EXPECT_EQ(topology.nodes[0].cpus, (Cpus{1, 2, 3}));
  EXPECT_EQ(topology.nodes[0].cores, 2U);
}

TEST(Topology, AMemorylessNodeUsesTheNearestMemory) {
  FakeSystem system;
  system.write("node/online", "0-3");
  system.node(0, "0", 1000, "10 20 30 40");
  system.node(1, "1", 1000, "20 10 30 30");
  system.node(2, "2", 1000, "30 30 10 20");
  system.node(3, "3", 0, "40 30 20 10");
  const Topology topology = system.read();
  EXPECT_EQ(topology.with_memory(), (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(topology.nearest_memory(3), 2U);
  EXPECT_EQ(topology.nearest_memory(1), 1U);
}

TEST(Topology, OfflineAndForbiddenCpusAndNodesWithoutCpusAreLeftOut) {
  FakeSystem system;
  system.write("cpu/online", "0-2,5");
  system.write("node/online", "0-2");
  system.node(0, "0-3", 1000, "10 20 20");
  system.node(1, "4-5", 1000, "20 10 20");
  system.node(2, "", 1000, "20 20 10");  // memory alone, as CXL has it
  const Topology topology = read_topology(system.root(), {0, 1, 3, 4, 5});
  ASSERT_EQ(topology.nodes.size(), 2U);
  EXPECT_EQ(topology.nodes[0].cpus, (Cpus{0, 1}));
  EXPECT_EQ(topology.nodes[1].cpus, (Cpus{5}));
}

TEST(Topology, AnAffinityWithinOneNodeHasOnlyThat) {
  FakeSystem system;
  system.write("node/online", "0-1");
  system.node(0, "0-1", 1000, "10 21");
  system.node(1, "2-3", 1000, "21 10");
  const Topology topology = read_topology(system.root(), {2});
  ASSERT_EQ(topology.nodes.size(), 1U);
  EXPECT_EQ(topology.nodes[0].id, 1U);
}

TEST(Topology, MalformedFilesAreNamed) {
  FakeSystem system;
  system.write("node/online", "0-");
  EXPECT_NE(message(system).find("node/online: expected a list like '0-3,8', found '0-'"),
            std::string::npos)
      << message(system);
  system.write("node/online", "0");
  EXPECT_NE(message(system).find("node0: node 0 is online, but has no cpulist"), std::string::npos);
  system.node(0, "0", 10, "ten");
  EXPECT_NE(message(system).find("distance: expected distances"), std::string::npos);
  system.node(0, "0", 10, "10");
  system.write("node/node0/meminfo", "nothing of the kind\n");
  EXPECT_NE(message(system).find("meminfo: expected lines like"), std::string::npos);
}

TEST(Topology, ListsThatAreNoneAreRefused) {
  EXPECT_EQ(parse_cpu_list("0-2,7,9-10\n", "f"), (Cpus{0, 1, 2, 7, 9, 10}));
  EXPECT_TRUE(parse_cpu_list("\n", "f").empty());
  for (const char* bad : {"-1", "3-1", "1,", "1,,2", "x", "1 2", "99999999999", "0-4000000000"}) {
    EXPECT_THROW(parse_cpu_list(bad, "f"), Error) << bad;
  }
}

}  // namespace
}  // namespace fathom
