#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/checked.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fathom {
namespace {

// Longer than the gap between two loops of one token, far shorter than a scheduler's slice. A time,
// not a number of pauses: those take 40 cycles on some CPUs and 140 on others.
constexpr auto kSpinTime = std::chrono::microseconds(100);
constexpr std::size_t kWordBits = 8 * sizeof(unsigned long);
constexpr std::uint32_t kClosed = 0xFFFFFFFFU;  // in place of the next chunk: none to take

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Waits until done() or, if not `patient`, at once, else for kSpinTime; tells whether it is done.
template <typename Done>
bool spin(bool patient, const Done& done) {
  if (done()) return true;
  if (!patient) return false;
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    // Looking at the clock costs about as much as a pause.
    for (int i = 0; i < 16; ++i) {
      pause();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

unsigned available_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    return std::max(1U, static_cast<unsigned>(CPU_COUNT(&set)));
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads, NumaOptions numa) : numa_(std::move(numa)) {
  const unsigned cpus = available_cpus();
  if (threads == 0) threads = cpus;
  // More threads than CPUs: who spins takes a CPU from a thread that has work.
  spins_ = threads <= cpus;
  most_awake_ = std::min(threads, cpus) - 1;
  workers_.reserve(threads - 1);
  for (unsigned worker = 1; worker < threads; ++worker) {
    workers_.emplace_back([this, worker] { worker_main(worker); });
  }
  copies_.resize(threads);
  if (numa_.off()) return;
  try {
    bind_workers();
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::bind_workers() {
  const std::vector<unsigned> order = numa_.topology.thread_order();
  for (unsigned worker = 1; worker < size(); ++worker) {
    const unsigned cpu = order[worker % order.size()];  // order[0] is left to the caller
    std::vector<unsigned long> words(cpu / kWordBits + 1);
    words[cpu / kWordBits] |= 1UL << cpu % kWordBits;
    const int error =
        pthread_setaffinity_np(workers_[worker - 1].native_handle(), words.size() * sizeof words[0],
                               reinterpret_cast<const cpu_set_t*>(words.data()));
    require(error == 0, ErrorCode::Unsupported,
            "cannot bind a thread to CPU {}: {}; a container may forbid it (--numa off does "
            "without)",
            cpu, std::strerror(error));
    copies_[worker] = copy_near(cpu);
  }
}

std::size_t ThreadPool::copy_near(unsigned cpu) const {
  if (numa_.copies() == 1) return 0;
  const std::vector<NumaNode>& nodes = numa_.topology.nodes;
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    if (std::ranges::find(nodes[node].cpus, cpu) == nodes[node].cpus.end()) continue;
    const std::vector<std::size_t> copies = numa_.topology.with_memory();
    return static_cast<std::size_t>(std::ranges::find(copies, numa_.topology.nearest_memory(node)) -
                                    copies.begin());
  }
  return 0;
}

void ThreadPool::stop() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run(std::size_t chunks, Body body) {
  if (chunks == 0) return;
  const std::size_t nearest =
      numa_.copies() == 1 ? 0 : copy_near(static_cast<unsigned>(std::max(0, sched_getcpu())));
  if (chunks == 1 || workers_.empty()) {
    // Nothing to share; the lock still keeps loops from overlapping on per-worker scratch.
    std::lock_guard lock(caller_);
    caller_copy_ = nearest;
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) body(chunk, 0);
    return;
  }
  std::lock_guard lock(caller_);
  caller_copy_ = nearest;
  const auto count = checked_cast<std::uint32_t>(chunks, "parallel loop's chunks");
  const std::uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  // First of all nobody may claim: a late worker of the last loop that sees the new number of
  // chunks beside the old claim would take a chunk that is not its own.
  claim_.store(std::uint64_t{epoch} << 32 | kClosed);
  body_ = &body;
  chunks_.store(count, std::memory_order_release);
  error_ = nullptr;
  error_set_.clear();
  done_.store(0, std::memory_order_relaxed);
  claim_.store(std::uint64_t{epoch} << 32, std::memory_order_release);
  epoch_.store(epoch);
  wake(count - 1);

  work(epoch, 0);
  if (!spin(spins_, [&] { return done_.load(std::memory_order_acquire) == count; })) {
    // Somebody's chunk takes long, or is kept off its core.
    for (std::uint32_t seen = done_.load(); seen != count; seen = done_.load()) done_.wait(seen);
  }
  body_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::wake(std::uint32_t useful) {
  // As many as there is work and there are CPUs for, less those that are awake already: a hundred
  // threads on two CPUs would only push each other aside. All chunks get done without any of them.
  const unsigned sleepers = sleepers_.load();
  if (sleepers == 0) return;
  const auto workers = static_cast<unsigned>(workers_.size());
  const unsigned awake = workers - std::min(workers, sleepers);
  const unsigned wanted = std::min<unsigned>(useful, most_awake_);
  if (sleepers <= wanted - std::min(wanted, awake)) {
    epoch_.notify_all();
    return;
  }
  for (unsigned i = awake; i < wanted; ++i) epoch_.notify_one();
}

void ThreadPool::work(std::uint32_t epoch, unsigned worker) {
  std::uint64_t claim = claim_.load(std::memory_order_acquire);
  for (;;) {
    // The epoch in the claim makes a late worker harmless: it cannot take a chunk of a loop it did
    // not see start, and a loop cannot end while a chunk of it is claimed but not done.
    if (static_cast<std::uint32_t>(claim >> 32) != epoch) return;
    const auto chunk = static_cast<std::uint32_t>(claim);
    if (chunk >= chunks_.load(std::memory_order_acquire)) return;
    if (!claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    try {
      (*body_)(chunk, worker);
    } catch (...) {
      if (!error_set_.test_and_set()) error_ = std::current_exception();
    }
    // Read before the chunk counts as done: afterwards the next loop may set it.
    const std::uint32_t chunks = chunks_.load(std::memory_order_relaxed);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) {
      done_.notify_all();  // a system call only if the caller sleeps
      return;
    }
    claim = claim_.load(std::memory_order_acquire);
  }
}

void ThreadPool::worker_main(unsigned worker) {
  std::uint32_t seen = 0;
  for (;;) {
    std::uint32_t epoch = seen;
    if (!spin(spins_, [&] { return (epoch = epoch_.load()) != seen; })) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
      epoch = epoch_.load();
    }
    if (stop_.load()) return;
    seen = epoch;
    work(epoch, worker);
  }
}

void ThreadPool::for_ranges(std::size_t items, std::size_t grain,
                            FunctionRef<void(std::size_t, std::size_t)> body) {
  grain = std::max<std::size_t>(grain, 1);
  run((items + grain - 1) / grain, [&](std::size_t chunk, unsigned) {
    const std::size_t begin = chunk * grain;
    body(begin, std::min(items, begin + grain));
  });
}

}  // namespace fathom
