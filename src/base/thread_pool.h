// Worker threads for kernels: one parallel loop at a time, chunks handed out dynamically.
//
// It neither burns an idle machine nor waits for a descheduled worker: workers spin for a tenth of
// a millisecond after a loop (a token is hundreds of short loops), then sleep in the kernel; and
// a loop is over when its chunks are done, not when every worker has shown up. A worker that
// another process keeps off its core simply takes no chunks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/function_ref.h"
#include "base/numa.h"

namespace fathom {

class ThreadPool {
 public:
  /// `threads` counts the caller; 0 means every CPU this process may run on.
  /// With `numa` not Off, workers are bound to CPUs in the order of thread_order(); the caller is
  /// not, as its threads would inherit that. Throws Error(Unsupported) if binding is refused.
  explicit ThreadPool(unsigned threads = 0, NumaOptions numa = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Threads that may run chunks, the caller included.
  unsigned size() const { return static_cast<unsigned>(workers_.size()) + 1; }

  const NumaOptions& numa() const { return numa_; }
  /// The copy of the weights that is nearest to a worker, in [0, numa().copies()). For the caller,
  /// worker 0: where it was when the loop began.
  std::size_t copy(unsigned worker) const { return worker == 0 ? caller_copy_ : copies_[worker]; }

  /// Calls body(chunk, worker) once for each chunk in [0, chunks), `worker` in [0, size()), and
  /// returns when all are done. Which worker gets which chunk is not determined, so a chunk's
  /// result must not depend on it. The first exception thrown by a body is rethrown here after the
  /// loop. One loop runs at a time: concurrent callers queue. Must not be called from within a
  /// body.
  void run(std::size_t chunks, FunctionRef<void(std::size_t chunk, unsigned worker)> body);

  /// Splits [0, items) into ranges of `grain` items (the last may be shorter) and runs
  /// body(begin, end) on each.
  void for_ranges(std::size_t items, std::size_t grain,
                  FunctionRef<void(std::size_t begin, std::size_t end)> body);

 private:
  using Body = FunctionRef<void(std::size_t, unsigned)>;
  void worker_main(unsigned worker);
  void work(std::uint32_t epoch, unsigned worker);
  /// Wakes sleeping workers, as far as `useful` of them find a chunk and a CPU.
  void wake(std::uint32_t useful);

  void bind_workers();
  void stop();
  /// The copy nearest to a CPU.
  std::size_t copy_near(unsigned cpu) const;

  NumaOptions numa_;
  std::vector<std::size_t> copies_;  // by worker
  std::size_t caller_copy_ = 0;
  bool spins_ = true;        // there is a CPU for every thread
  unsigned most_awake_ = 0;  // workers that find a CPU beside the caller
  std::vector<std::thread> workers_;
  std::mutex caller_;  // held while a loop runs

  const Body* body_ = nullptr;  // of the running loop; read only by who has claimed a chunk of it
  std::atomic<std::uint32_t> chunks_{0};  // a late worker may look at it while the next loop starts
  std::exception_ptr error_;
  std::atomic_flag error_set_;

  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // bumped when a loop starts, or on stop
  alignas(64) std::atomic<std::uint64_t> claim_{0};  // epoch << 32 | next chunk
  alignas(64) std::atomic<std::uint32_t> done_{0};   // chunks completed in this loop
  alignas(64) std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace fathom
