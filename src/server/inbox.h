// Events on their way from the engine's thread to a connection's.
#pragma once

#include <boost/asio.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "engine/request.h"

namespace fathom::server {

/// What the engine has said of a generation and its connection has not read yet. Bounded by the
/// answers' own length: an event a token. The engine may hold it longer than the listener lives, so
/// that nothing of the listener may stay in it once it is closed. Lives in a shared_ptr.
class Inbox : public std::enable_shared_from_this<Inbox> {
  using Timer = boost::asio::steady_timer;

 public:
  explicit Inbox(const boost::asio::any_io_executor& executor)
      : clock_(std::in_place, executor),
        wake_(std::make_shared<Timer>(executor, Timer::time_point::max())) {}

  /// On the engine's thread, which nothing here may end: an event that there is no memory for ends
  /// its connection.
  void put(std::size_t choice, Event event) noexcept {
    const std::scoped_lock open(open_mutex_);
    if (wake_ == nullptr) return;
    try {
      if (!add(choice, std::move(event))) return;
      boost::asio::post(wake_->get_executor(), [wake = wake_] { wake->cancel(); });
    } catch (const std::bad_alloc&) {
      lost_ = true;
    }
  }

  // The rest on the connection's thread.

  std::vector<std::pair<std::size_t, Event>> take() {
    const std::scoped_lock lock(events_mutex_);
    return std::exchange(events_, {});
  }
  /// Waits until something has come, the client has gone, or `limit` has passed.
  boost::asio::awaitable<void> wait(std::chrono::milliseconds limit) {
    end_ = Timer::clock_type::now() + limit;
    ended_ = false;
    keep_time();
    // What comes from here on is posted to this thread, thus after the wait has begun. A wake for
    // events that were taken before it came ends nothing.
    while (!ended_ && !gone() && must_wait()) {
      co_await wake_->async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    }
  }
  void leave() {
    gone_ = true;
    if (!closed()) wake_->cancel();
  }
  bool gone() const { return gone_ || lost_; }
  bool closed() const { return wake_ == nullptr; }
  void close() {
    const std::scoped_lock open(open_mutex_);
    wake_.reset();
    clock_.reset();
    events_.clear();
  }

 private:
  /// Whether the connection is to be woken for it.
  bool add(std::size_t choice, Event event) {
    const std::scoped_lock lock(events_mutex_);
    events_.emplace_back(choice, std::move(event));
    return std::exchange(waits_, false);
  }
  bool must_wait() {
    const std::scoped_lock lock(events_mutex_);
    return waits_ = events_.empty();
  }
  /// One timer goes on through many waits, each of which would else set and unset the kernel's for
  /// every token: at its end it looks whether the last one's has come.
  void keep_time() {
    if (keeps_time_ && clock_->expiry() <= end_) return;
    keeps_time_ = true;
    clock_->expires_at(end_);
    clock_->async_wait([held = weak_from_this()](const boost::system::error_code& error) {
      const std::shared_ptr<Inbox> inbox = held.lock();
      if (!error && inbox != nullptr && !inbox->closed()) inbox->tell_time();
    });
  }
  void tell_time() {
    keeps_time_ = false;
    if (Timer::clock_type::now() < end_) return keep_time();
    ended_ = true;
    wake_->cancel();
  }

  std::optional<Timer> clock_;   // ends at end_, or before it to be set anew
  std::shared_ptr<Timer> wake_;  // cancelled when there is something to do; null: closed
  Timer::time_point end_;        // of the wait
  bool ended_ = false;
  bool keeps_time_ = false;
  bool gone_ = false;               // the client has closed the connection
  std::atomic<bool> lost_ = false;  // an event has
  std::mutex open_mutex_;           // while something is put, so that the listener lives
  std::mutex events_mutex_;         // apart, so that a thread that was woken need not wait for it
  std::vector<std::pair<std::size_t, Event>> events_;
  bool waits_ = false;  // for the next event
};

}  // namespace fathom::server
