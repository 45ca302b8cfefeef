#include "train/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "train/report/tensorboard.h"

namespace fathom::train {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "step-", kPartial = ".partial";

std::optional<std::int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string digits = name.substr(kPrefix.size());
  const bool number = !digits.empty() && digits.size() < 18 &&
                      std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; });
  if (!number || !fs::exists(path / "trainer.json")) return std::nullopt;
  return std::stoll(digits);
}

/// A folder's own entries are on the disk only once it is synced itself.
void sync(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = fd >= 0 && ::fsync(fd) == 0;
  const std::error_code error(errno, std::generic_category());
  if (fd >= 0) ::close(fd);
  require(done, ErrorCode::Io, "cannot sync {}: {}", path.string(), error.message());
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void append(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << text;
  file.flush();
  require(file.good(), ErrorCode::Io, "cannot write {}: is the disk full?", path.string());
}

}  // namespace

RunFolder::RunFolder(fs::path path, bool tensorboard, bool writes)
    : path_(std::move(path)), tensorboard_(tensorboard), writes_(writes) {
  if (!writes_) return;
  std::error_code error;
  fs::create_directories(path_, error);
  require(!error, ErrorCode::Io, "cannot make the folder {}: {}", path_.string(), error.message());
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename().string().ends_with(kPartial)) fs::remove_all(entry.path());
  }
}

std::vector<std::int64_t> RunFolder::steps() const {
  std::vector<std::int64_t> found;
  if (!fs::exists(path_)) return found;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (const auto step = step_of(entry.path())) found.push_back(*step);
  }
  std::ranges::sort(found);
  return found;
}

fs::path RunFolder::checkpoint(std::int64_t step) const {
  return path_ / fmt::format("{}{:08}", kPrefix, step);
}

fs::path RunFolder::partial(std::int64_t step) const {
  fs::path partial = checkpoint(step);
  return partial += kPartial;
}

fs::path RunFolder::begin(std::int64_t step) const {
  fs::path partial = this->partial(step);
  std::error_code error;
  fs::remove_all(partial, error);
  fs::create_directories(partial, error);
  require(!error, ErrorCode::Io, "cannot make the folder {}: {}", partial.string(),
          error.message());
  return partial;
}

void RunFolder::commit(std::int64_t step) const {
  const fs::path place = checkpoint(step), partial = this->partial(step);
  sync(partial);
  std::error_code error;
  fs::remove_all(place, error);  // of an earlier run that went on from before it
  fs::rename(partial, place, error);
  require(!error, ErrorCode::Io, "cannot put {} into its place: {}", partial.string(),
          error.message());
  sync(path_);
}

void RunFolder::prune(std::size_t keep, std::optional<std::int64_t> best) const {
  const std::vector<std::int64_t> all = steps();
  for (std::size_t i = 0; i + keep < all.size(); ++i) {
    if (all[i] != best) fs::remove_all(checkpoint(all[i]));
  }
}

void RunFolder::log(const nlohmann::ordered_json& line) const {
  if (!writes_) return;
  append(path_ / "log.jsonl", line.dump() + "\n");
  if (tensorboard_) append(events(), tensorboard_record(line, now()));
}

void RunFolder::cut_log(std::int64_t step) const {
  if (!writes_) return;
  const fs::path path = path_ / "log.jsonl";
  std::string records = tensorboard_header(now());
  if (std::ifstream file(path, std::ios::binary); file) {
    AtomicFile kept(path);
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
      // A line that a killed run wrote half of is no line.
      if (!json.is_object() || json.value("step", std::int64_t{0}) > step) continue;
      kept.write(line + "\n");
      records += tensorboard_record(json, now());
    }
    kept.commit();
  }
  if (!tensorboard_) return;
  AtomicFile file(events());
  file.write(records);
  file.commit();
}

void require_same_run(const nlohmann::ordered_json& then, const nlohmann::ordered_json& now,
                      const fs::path& folder) {
  for (const auto& [name, value] : now.items()) {
    const nlohmann::ordered_json before = then.value(name, nlohmann::ordered_json());
    require(before == value, ErrorCode::InvalidArgument,
            "{} was begun with {} {:.200}, not {:.200}; another folder begins anew",
            folder.string(), name, before.dump(), value.dump());
  }
}

}  // namespace fathom::train
