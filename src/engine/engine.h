// The engine: requests in, streams of events out. One thread owns the model.
//
// Everything that talks with a model goes through here: the chat command, the server, rollouts of a
// trainer, the auditor. The scheduling is in scheduler.h; this file owns the thread and the
// hand-over to and from it.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>

#include "engine/request.h"
#include "engine/scheduler.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

/// A submitted request. Any thread may cancel it; its last event then says so.
class Ticket {
 public:
  explicit Ticket(std::shared_ptr<Job> job) : job_(std::move(job)) {}
  void cancel() { job_->cancelled = true; }

 private:
  std::shared_ptr<Job> job_;
};

/// A request's events, for a reader that waits. Cancels the request when destroyed.
class Stream {
 public:
  struct Queue;
  Stream(std::shared_ptr<Queue> queue, Ticket ticket);
  ~Stream();
  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&&) = delete;

  /// The next event, waiting for it; nothing after Finished.
  std::optional<Event> next();
  /// Nothing when `timeout` passes first, or after Finished (see over()).
  std::optional<Event> next_for(std::chrono::milliseconds timeout);
  /// Finished has been read.
  bool over() const { return over_; }
  void cancel() { ticket_.cancel(); }

 private:
  std::optional<Event> take(Event event);

  std::shared_ptr<Queue> queue_;
  Ticket ticket_;
  bool over_ = false;
};

class Engine {
 public:
  /// Takes the model. Throws Error(InvalidArgument | Corrupt) when options, model and tokenizer do
  /// not fit together.
  Engine(std::unique_ptr<Model> model, Tokenizer tokenizer, const SchedulerOptions& options = {});
  /// Ends all requests with FinishReason::Cancelled.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Events go to `sink` on the engine's thread. Throws Error(InvalidArgument) for a request that
  /// cannot be: an empty prompt, a token outside the vocabulary, settings out of range, a prompt
  /// that leaves the context no room for an answer. Thread-safe.
  Ticket submit(Request request, EventSink sink);
  /// The same, for a reader that waits.
  Stream submit(Request request);

  /// Drops what the cache keeps of ended requests, all or those of one Request::cache_scope; what
  /// requests that run now would leave is dropped at their end. How many sequences. Waits for the
  /// step that runs. Thread-safe; not on the engine's own thread.
  std::size_t forget(std::optional<std::uint64_t> scope = {});

  const ModelConfig& config() const;
  const Tokenizer& tokenizer() const;
  /// The tokens, for grammars over this vocabulary: control tokens as symbols, those that end an
  /// answer left out. Made on the first call, in some 50 ms. Thread-safe.
  std::shared_ptr<const grammar::TokenTable> token_table() const;
  /// Longest prompt and answer together, in tokens.
  std::size_t context_tokens() const;
  /// As of the last step. Thread-safe.
  SchedulerStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom
