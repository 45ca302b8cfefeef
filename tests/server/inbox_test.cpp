#include "server/inbox.h"

#include <gtest/gtest.h>

#include <boost/asio.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>

#include "engine/request.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

Event event() { return PromptProgress{}; }

class Inboxes : public testing::Test {
 protected:
  template <typename Work>
  void run(Work work) {
    bool ended = false;
    asio::co_spawn(
        io,
        [&]() -> asio::awaitable<void> {
          co_await work();
          ended = true;
          inbox->close();
        },
        asio::detached);
    io.run_for(60s);
    EXPECT_TRUE(ended) << "still waiting after a minute";
  }
  /// How many events a wait has brought.
  asio::awaitable<std::size_t> waited(std::chrono::milliseconds limit) {
    co_await inbox->wait(limit);
    co_return inbox->take().size();
  }

  asio::io_context io{1};
  std::shared_ptr<Inbox> inbox = std::make_shared<Inbox>(io.get_executor());
};

TEST_F(Inboxes, WhatComesEndsAWait) {
  std::jthread engine;
  run([&]() -> asio::awaitable<void> {
    engine = std::jthread([this] {
      std::this_thread::sleep_for(20ms);
      inbox->put(0, event());
    });
    EXPECT_EQ(co_await waited(1h), 1);
    inbox->put(0, event());
    inbox->put(1, event());
    EXPECT_EQ(co_await waited(1h), 2) << "what has come already";
  });
}

// The wake for an event that was taken before it came would else be the next wait's, after which
// the stream says that nothing has come.
TEST_F(Inboxes, WhatWasTakenEndsNoWait) {
  run([&]() -> asio::awaitable<void> {
    inbox->put(0, event());
    EXPECT_EQ(inbox->take().size(), 1);
    const auto begin = Clock::now();
    EXPECT_EQ(co_await waited(50ms), 0);
    EXPECT_GE(Clock::now() - begin, 50ms);
  });
}

TEST_F(Inboxes, EachWaitHasItsOwnEnd) {
  run([&]() -> asio::awaitable<void> {
    for (const std::chrono::milliseconds limit : {30ms, 60ms, 10ms}) {
      const auto begin = Clock::now();
      EXPECT_EQ(co_await waited(limit), 0);
      EXPECT_GE(Clock::now() - begin, limit);
    }
    // A timer that was set for a wait that ended sooner is not the next one's end, nor a later one.
    inbox->put(0, event());
    EXPECT_EQ(co_await waited(40ms), 1);
    const auto begin = Clock::now();
    EXPECT_EQ(co_await waited(80ms), 0);
    EXPECT_GE(Clock::now() - begin, 80ms);
    inbox->put(0, event());
    EXPECT_EQ(co_await waited(1h), 1);
    EXPECT_EQ(co_await waited(10ms), 0);
  });
}

TEST_F(Inboxes, ALeavingClientEndsAWait) {
  run([&]() -> asio::awaitable<void> {
    asio::post(io, [this] { inbox->leave(); });
    EXPECT_EQ(co_await waited(1h), 0);
    EXPECT_TRUE(inbox->gone());
  });
}

TEST(Inbox, TheEngineMayHoldItLonger) {
  std::shared_ptr<Inbox> inbox;
  {
    asio::io_context io{1};
    inbox = std::make_shared<Inbox>(io.get_executor());
    inbox->put(0, event());
    inbox->close();
  }
  inbox->put(0, event());
  EXPECT_TRUE(inbox->closed());
  EXPECT_TRUE(inbox->take().empty());
}

}  // namespace
}  // namespace fathom::server
