#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <utility>

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kInterval = std::chrono::milliseconds(100);

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + '"';
}

}  // namespace

Progress::Progress(ProgressSink sink, std::string task, std::uint64_t total, std::string unit)
    : sink_(std::move(sink)), start_(Clock::now()), exceptions_(std::uncaught_exceptions()) {
  update_.task = std::move(task);
  update_.total = total;
  update_.unit = std::move(unit);
}

Progress::~Progress() {
  if (std::uncaught_exceptions() == exceptions_) finish();
}

void Progress::set(std::uint64_t done) {
  update_.done = done;
  if (sink_ && Clock::now() - last_ >= kInterval) report(false);
}

void Progress::resume_at(std::uint64_t done) {
  resumed_ = done;
  update_.done = done;
  start_ = Clock::now();
}

void Progress::finish() {
  if (!update_.finished) report(true);
}

void Progress::report(bool finished) {
  update_.finished = finished;
  if (!sink_) return;
  last_ = Clock::now();
  const double seconds = std::chrono::duration<double>(last_ - start_).count();
  update_.rate = seconds > 0 ? static_cast<double>(update_.done - resumed_) / seconds : 0;
  const bool known = update_.total >= update_.done && update_.total > 0 && update_.rate > 0;
  update_.eta_seconds =
      known ? static_cast<double>(update_.total - update_.done) / update_.rate : -1;
  sink_(update_);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, kUnits[unit]);
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
}

std::string format_progress(const ProgressUpdate& update) {
  const bool bytes = update.unit == "bytes";
  const auto amount = [&](std::uint64_t value) {
    return bytes ? format_bytes(value) : fmt::format("{}", value);
  };
  std::string line = update.task + "  " + amount(update.done);
  if (update.total > 0) line += " of " + amount(update.total);
  if (!bytes) line += " " + update.unit;
  if (update.total > 0) {
    line +=
        fmt::format("  {}%", update.done >= update.total ? 100 : update.done * 100 / update.total);
  }
  if (bytes && update.rate > 0) {
    line += "  " + format_bytes(static_cast<std::uint64_t>(update.rate)) + "/s";
  } else if (update.rate >= 1) {
    line += fmt::format("  {:.{}f}/s", update.rate, update.rate < 10 ? 1 : 0);
  } else if (update.rate > 0) {
    line += fmt::format("  {:.1f} s each", 1 / update.rate);  // "0 tasks/s" tells nobody anything
  }
  if (!update.finished && update.eta_seconds >= 0) {
    line += "  ETA " + format_duration(update.eta_seconds);
  }
  return line;
}

ProgressSink terminal_progress() {
  if (::isatty(STDERR_FILENO) != 0) {
    return [](const ProgressUpdate& update) {
      std::fputs(("\r\033[K" + format_progress(update) + (update.finished ? "\n" : "")).c_str(),
                 stderr);
      std::fflush(stderr);
    };
  }
  return [last = std::make_shared<Clock::time_point>(Clock::now())](const ProgressUpdate& update) {
    if (!update.finished && Clock::now() - *last < std::chrono::seconds(5)) return;
    *last = Clock::now();
    std::fputs((format_progress(update) + "\n").c_str(), stderr);
  };
}

ProgressSink json_progress() {
  return [](const ProgressUpdate& update) {
    std::fputs(fmt::format("{{\"task\":{},\"done\":{},\"total\":{},\"unit\":{},\"rate\":{:.3f},"
                           "\"eta_seconds\":{:.3f},\"finished\":{}}}\n",
                           quoted(update.task), update.done, update.total, quoted(update.unit),
                           update.rate, update.eta_seconds, update.finished)
                   .c_str(),
               stderr);
  };
}

}  // namespace fathom
