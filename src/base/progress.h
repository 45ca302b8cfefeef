// Progress of long work: a line with rate and ETA for people, JSON lines for programs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace fathom {

struct ProgressUpdate {
  std::string task;            // "packing weights", "downloading model.gguf"
  std::uint64_t done = 0;      // in `unit`
  std::uint64_t total = 0;     // 0 when unknown
  std::string unit = "bytes";  // "bytes", "tensors", "tokens"
  double rate = 0;             // units a second, over the whole task
  double eta_seconds = -1;     // -1 when unknown
  bool finished = false;
};

using ProgressSink = std::function<void(const ProgressUpdate&)>;

/// Reports at most ten times a second, and once at the end. With an empty sink it costs nothing.
class Progress {
 public:
  Progress(ProgressSink sink, std::string task, std::uint64_t total, std::string unit = "bytes");
  /// Reports the end, as finished() would, unless an exception is passing through.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::uint64_t amount) { set(update_.done + amount); }
  void set(std::uint64_t done);
  /// For work whose size becomes known only on the way.
  void set_total(std::uint64_t total) { update_.total = total; }
  /// Work already done by an earlier run: counts towards `done`, not towards the rate.
  void resume_at(std::uint64_t done);
  void finish();

 private:
  void report(bool finished);

  ProgressSink sink_;
  ProgressUpdate update_;
  std::uint64_t resumed_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
  int exceptions_;
};

/// "12.3 MiB", "1.61 GiB".
std::string format_bytes(std::uint64_t bytes);
/// "4s", "3m 20s", "2h 05m".
std::string format_duration(double seconds);
/// One line without a line break: "downloading x.gguf  12.3 of 92.8 MiB  13%  4.1 MiB/s  ETA 20s".
std::string format_progress(const ProgressUpdate& update);

/// Draws format_progress() on stderr, in place when it is a terminal, else a line every 5 seconds.
ProgressSink terminal_progress();
/// Writes one JSON object a line to stderr, for `--json`.
ProgressSink json_progress();

}  // namespace fathom
