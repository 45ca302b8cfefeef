// Events on their way from the engine's thread to a connection's.
#pragma once

#include <boost/asio.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "engine/request.h"

namespace fathom::server {

/// What the engine has said of a generation and its connection has not read yet. Bounded by the
/// answers' own length: an event a token. The engine may hold it longer than the listener lives, so
/// that nothing of the listener may stay in it once it is closed.
class Inbox {
 public:
  explicit Inbox(const boost::asio::any_io_executor& executor)
      : timer_(std::make_shared<boost::asio::steady_timer>(executor)) {}

  /// On the engine's thread, which nothing here may end: an event that there is no memory for ends
  /// its connection.
  void put(std::size_t choice, Event event) noexcept {
    const std::scoped_lock lock(mutex_);
    if (timer_ == nullptr) return;
    try {
      events_.emplace_back(choice, std::move(event));
      if (events_.size() > 1) return;
      boost::asio::post(timer_->get_executor(), [timer = timer_] { timer->cancel(); });
    } catch (const std::bad_alloc&) {
      lost_ = true;
    }
  }

  // The rest on the connection's thread.

  std::vector<std::pair<std::size_t, Event>> take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(events_, {});
  }
  /// Waits until something has come, the client has gone, or `limit` has passed.
  boost::asio::awaitable<void> wait(std::chrono::milliseconds limit) {
    {
      const std::scoped_lock lock(mutex_);
      if (!events_.empty() || gone_) co_return;
    }
    // What comes from here on is posted to this thread, thus after the wait has begun.
    timer_->expires_after(limit);
    co_await timer_->async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  }
  void leave() {
    gone_ = true;
    if (timer_ != nullptr) timer_->cancel();
  }
  bool gone() const { return gone_ || lost_; }
  bool closed() const { return timer_ == nullptr; }
  void close() {
    const std::scoped_lock lock(mutex_);
    timer_.reset();
    events_.clear();
  }

 private:
  std::shared_ptr<boost::asio::steady_timer> timer_;  // null: closed
  bool gone_ = false;                                 // the client has closed the connection
  std::atomic<bool> lost_ = false;                    // an event has
  std::mutex mutex_;
  std::vector<std::pair<std::size_t, Event>> events_;
};

}  // namespace fathom::server
