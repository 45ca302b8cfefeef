#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace fathom {
namespace {

TEST(ThreadPool, RunsEveryChunkExactlyOnce) {
  ThreadPool pool(4);
  for (std::size_t chunks : {0UL, 1UL, 2UL, 3UL, 64UL, 1000UL}) {
    std::vector<std::atomic<int>> hits(chunks);
    pool.run(chunks, [&](std::size_t chunk, unsigned worker) {
      EXPECT_LT(worker, pool.size());
      hits[chunk].fetch_add(1);
    });
    for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
  }
}

TEST(ThreadPool, ManyShortLoopsDoNotLoseChunks) {
  ThreadPool pool(3);
  std::atomic<std::uint64_t> sum{0};
  for (int loop = 0; loop < 20000; ++loop) {
    pool.run(5, [&](std::size_t chunk, unsigned) { sum.fetch_add(chunk); });
  }
  EXPECT_EQ(sum.load(), 20000U * 10U);
}

TEST(ThreadPool, AWorkerLateFromAShortLoopTakesNoChunkOfALongerOne) {
  // A worker that has seen the short loop's last claim must not take it for a chunk of the next.
  ThreadPool pool(4);
  std::array<std::atomic<int>, 64> hits{};
  for (int loop = 0; loop < 20000; ++loop) {
    pool.run(2, [](std::size_t, unsigned) {});
    pool.run(hits.size(), [&](std::size_t chunk, unsigned) { hits[chunk].fetch_add(1); });
    for (auto& hit : hits) ASSERT_EQ(hit.exchange(0), 1) << "loop " << loop;
  }
}

TEST(ThreadPool, RethrowsTheBodysExceptionAndStaysUsable) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.run(8,
                        [](std::size_t chunk, unsigned) {
                          if (chunk == 3) throw std::runtime_error("chunk 3");
                        }),
               std::runtime_error);
  std::atomic<int> count{0};
  pool.run(8, [&](std::size_t, unsigned) { count.fetch_add(1); });
  EXPECT_EQ(count.load(), 8);
}

TEST(ThreadPool, WakesAfterItsWorkersWentToSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> count{0};
    pool.run(100, [&](std::size_t, unsigned) { count.fetch_add(1); });
    EXPECT_EQ(count.load(), 100);
  }
}

TEST(ThreadPool, UsesNoCpuWhileItIsIdle) {
  const auto cpu_ms = [] {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return 1e3 * static_cast<double>(used.tv_sec) + 1e-6 * static_cast<double>(used.tv_nsec);
  };
  for (const unsigned threads : {0U, 2U, 32U}) {
    ThreadPool pool(threads);
    std::atomic<int> count{0};
    pool.run(1000, [&](std::size_t, unsigned) { count.fetch_add(1); });
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // they spin, and fall asleep
    const double before = cpu_ms();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_LT(cpu_ms() - before, 5) << pool.size() << " threads";
  }
}

TEST(ThreadPool, ManyMoreThreadsThanCpusLoseNothing) {
  ThreadPool pool(128);
  std::array<std::atomic<int>, 300> hits{};
  for (int loop = 0; loop < 1000; ++loop) {
    // Few chunks wake few workers, many wake more: both with others still on their way to sleep.
    const std::size_t chunks = loop % 3 == 0 ? hits.size() : 2 + static_cast<std::size_t>(loop % 7);
    pool.run(chunks, [&](std::size_t chunk, unsigned worker) {
      EXPECT_LT(worker, 128U);
      hits[chunk].fetch_add(1);
    });
    for (std::size_t i = 0; i < hits.size(); ++i) {
      ASSERT_EQ(hits[i].exchange(0), i < chunks ? 1 : 0) << "loop " << loop << ", chunk " << i;
    }
  }
}

TEST(ThreadPool, ManyMoreThreadsThanCpusAllStop) {
  for (int round = 0; round < 5; ++round) {
    ThreadPool pool(64);
    pool.run(3, [](std::size_t, unsigned) {});
  }
}

TEST(ThreadPool, RangesCoverTheItemsWithAShortTail) {
  ThreadPool pool(2);
  std::vector<std::atomic<int>> hits(103);
  pool.for_ranges(103, 10, [&](std::size_t begin, std::size_t end) {
    EXPECT_LE(end - begin, 10U);
    for (std::size_t i = begin; i < end; ++i) hits[i].fetch_add(1);
  });
  for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
}

}  // namespace
}  // namespace fathom
