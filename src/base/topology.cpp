#include "base/topology.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "base/error.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kMostCpus = 1U << 16;  // a larger number in a list is no CPU

std::optional<std::string> read(const fs::path& file) {
  std::ifstream in(file);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

/// The list in a file; nothing where there is no such file.
std::optional<std::vector<unsigned>> read_list(const fs::path& file) {
  const std::optional<std::string> text = read(file);
  if (!text) return std::nullopt;
  return parse_cpu_list(*text, file);
}

bool holds(const std::vector<unsigned>& sorted, unsigned value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

/// "Node 0 MemFree:  123 kB" lines.
void read_memory(const fs::path& file, NumaNode& node) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string word;
    std::string key;
    std::string unit;
    unsigned id = 0;
    std::uint64_t number = 0;
    require(words >> word >> id >> key >> number && word == "Node", ErrorCode::Corrupt,
            "{}: expected lines like 'Node 0 MemFree: 1024 kB', found '{}'", file.string(), line);
    const std::uint64_t bytes = words >> unit && unit == "kB" ? number * 1024 : number;
    if (key == "MemTotal:") node.memory_bytes = bytes;
    if (key == "MemFree:" || key == "Active(file):" || key == "Inactive(file):") {
      node.available_bytes += bytes;
    }
  }
}

std::vector<unsigned> read_distances(const fs::path& file) {
  std::vector<unsigned> distances;
  std::ifstream in(file);
  if (!in) return distances;
  for (unsigned distance = 0; in >> distance;) distances.push_back(distance);
  require(in.eof() && !distances.empty(), ErrorCode::Corrupt, "{}: expected distances like '10 21'",
          file.string());
  return distances;
}

/// Moves the first allowed CPU of each physical core to the front.
void cores_first(const fs::path& system, NumaNode& node) {
  const auto begins_core = [&](unsigned cpu) {
    const auto siblings = read_list(system / "cpu" / ("cpu" + std::to_string(cpu)) / "topology" /
                                    "thread_siblings_list");
    // A sibling that may not be used leaves its core to the others.
    return !siblings || std::ranges::none_of(node.cpus, [&](unsigned other) {
      return other < cpu && holds(*siblings, other);
    });
  };
  std::vector<unsigned> order;
  std::ranges::copy_if(node.cpus, std::back_inserter(order), begins_core);
  node.cores = order.size();
  std::ranges::copy_if(node.cpus, std::back_inserter(order),
                       [&](unsigned cpu) { return !begins_core(cpu); });
  node.cpus = std::move(order);
}

}  // namespace

std::vector<std::size_t> Topology::with_memory() const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].memory_bytes > 0) found.push_back(i);
  }
  return found;
}

std::size_t Topology::nearest_memory(std::size_t node) const {
  const std::vector<std::size_t> candidates = with_memory();
  if (candidates.empty() || nodes[node].memory_bytes > 0) return node;
  const auto distance = [&](std::size_t to) {
    const std::vector<unsigned>& known = nodes[node].distances;
    return nodes[to].id < known.size() ? known[nodes[to].id] : ~0U;
  };
  return *std::ranges::min_element(candidates, {}, distance);
}

std::vector<unsigned> Topology::thread_order() const {
  std::vector<unsigned> order;
  const auto by_turns = [&](auto first, auto last) {
    for (std::size_t turn = 0, taken = 1; taken > 0; ++turn) {
      taken = 0;
      for (const NumaNode& node : nodes) {
        if (first(node) + turn >= last(node)) continue;
        order.push_back(node.cpus[first(node) + turn]);
        ++taken;
      }
    }
  };
  const auto cores = [](const NumaNode& node) { return node.cores; };
  by_turns([](const NumaNode&) { return std::size_t{0}; }, cores);
  by_turns(cores, [](const NumaNode& node) { return node.cpus.size(); });
  return order;
}

std::vector<unsigned> allowed_cpus() {
  std::vector<unsigned> cpus;
  // A kernel with more CPUs than fit refuses the size.
  for (std::size_t most = 1024; most <= kMostCpus; most *= 4) {
    std::vector<unsigned long> words(most / (8 * sizeof(unsigned long)));
    auto* set = reinterpret_cast<cpu_set_t*>(words.data());
    if (sched_getaffinity(0, most / 8, set) != 0) continue;
    for (unsigned cpu = 0; cpu < most; ++cpu) {
      if (CPU_ISSET_S(cpu, most / 8, set)) cpus.push_back(cpu);
    }
    return cpus;
  }
  for (unsigned cpu = 0; cpu < std::max(1U, std::thread::hardware_concurrency()); ++cpu) {
    cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<unsigned> parse_cpu_list(std::string_view text, const fs::path& file) {
  const std::string_view whole = text;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  std::vector<unsigned> numbers;
  const auto number = [&] {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc{} && value < kMostCpus, ErrorCode::Corrupt,
            "{}: expected a list like '0-3,8', found '{}'", file.string(), whole.substr(0, 80));
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
  };
  while (!text.empty()) {
    const unsigned first = number();
    unsigned last = first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      last = number();
    }
    const bool more = text.starts_with(',') && text.size() > 1;
    require(first <= last && (more || text.empty()), ErrorCode::Corrupt,
            "{}: expected a list like '0-3,8', found '{}'", file.string(), whole.substr(0, 80));
    for (unsigned value = first; value <= last; ++value) numbers.push_back(value);
    if (more) text.remove_prefix(1);
  }
  std::ranges::sort(numbers);
  return numbers;
}

Topology read_topology(const fs::path& system, const std::vector<unsigned>& allowed) {
  std::vector<unsigned> usable = allowed;
  std::ranges::sort(usable);
  if (const auto online = read_list(system / "cpu" / "online")) {
    std::erase_if(usable, [&](unsigned cpu) { return !holds(*online, cpu); });
  }
  Topology topology;
  for (const unsigned id :
       read_list(system / "node" / "online").value_or(std::vector<unsigned>{})) {
    const fs::path folder = system / "node" / ("node" + std::to_string(id));
    NumaNode node;
    node.id = id;
    const auto cpus = read_list(folder / "cpulist");
    require(cpus.has_value(), ErrorCode::Corrupt, "{}: node {} is online, but has no cpulist",
            folder.string(), id);
    std::ranges::copy_if(*cpus, std::back_inserter(node.cpus),
                         [&](unsigned cpu) { return holds(usable, cpu); });
    if (node.cpus.empty()) continue;
    read_memory(folder / "meminfo", node);
    node.distances = read_distances(folder / "distance");
    cores_first(system, node);
    topology.nodes.push_back(std::move(node));
  }
  if (topology.nodes.empty()) {
    NumaNode all;
    all.cpus = usable;
    cores_first(system, all);
    topology.nodes.push_back(std::move(all));
  }
  return topology;
}

}  // namespace fathom
