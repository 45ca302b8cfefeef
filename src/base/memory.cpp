#include "base/memory.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace fathom {
namespace {

namespace fs = std::filesystem;

/// The number after "name" in a file of "name value" or "name: value kB" lines.
std::optional<std::uint64_t> field(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string key;
    std::string unit;
    std::uint64_t number = 0;
    if (!(words >> key >> number) || (key != name && key != name + ":")) continue;
    words >> unit;
    return unit == "kB" ? number * 1024 : number;
  }
  return {};
}

std::optional<std::uint64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::uint64_t number = 0;
  if (in >> number) return number;  // "max" is no number: no limit
  return {};
}

/// What the group at `folder` has left.
std::optional<std::uint64_t> left_in_group(const fs::path& folder, const char* limit_file,
                                           const char* usage_file, const char* cache_field) {
  const auto limit = number_in(folder / limit_file);
  const auto usage = number_in(folder / usage_file);
  if (!limit || !usage) return {};
  const std::uint64_t cache = field(folder / "memory.stat", cache_field).value_or(0);
  const std::uint64_t taken = *usage > cache ? *usage - cache : 0;
  return *limit > taken ? *limit - taken : 0;
}

void take_smaller(MemoryLimit& limit, std::optional<std::uint64_t> available, const char* source) {
  if (available && *available < limit.available) limit = {*available, source};
}

}  // namespace

MemoryLimit memory_limit() {
  MemoryLimit limit{std::numeric_limits<std::uint64_t>::max(), "this machine"};
  take_smaller(limit, field("/proc/meminfo", "MemAvailable"), "this machine");

  // "0::/path" names the group in v2, "N:memory:/path" in v1. A group's ancestors bind it too.
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",memory,") == std::string::npos) continue;
    const fs::path root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    fs::path group = fs::path(line.substr(second + 1)).relative_path();
    while (true) {
      const fs::path folder = root / group;
      const auto left = v2 ? left_in_group(folder, "memory.max", "memory.current", "inactive_file")
                           : left_in_group(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                           "total_inactive_file");
      take_smaller(limit, left, "this container's limit");
      if (group.empty()) break;
      group = group.parent_path();
    }
  }
  return limit;
}

ResidentMemory resident_memory() {
  return {field("/proc/self/status", "VmRSS").value_or(0),
          field("/proc/self/status", "VmHWM").value_or(0)};
}

}  // namespace fathom
