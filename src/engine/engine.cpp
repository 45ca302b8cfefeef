#include "engine/engine.h"

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <variant>

namespace fathom {

struct Stream::Queue {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Event> events;
};

Stream::Stream(std::shared_ptr<Queue> queue, Ticket ticket)
    : queue_(std::move(queue)), ticket_(std::move(ticket)) {}

Stream::~Stream() {
  if (queue_ && !over_) ticket_.cancel();
}

std::optional<Event> Stream::next() {
  if (over_) return {};
  std::unique_lock lock(queue_->mutex);
  queue_->changed.wait(lock, [&] { return !queue_->events.empty(); });
  Event event = std::move(queue_->events.front());
  queue_->events.pop_front();
  return take(std::move(event));
}

std::optional<Event> Stream::next_for(std::chrono::milliseconds timeout) {
  if (over_) return {};
  std::unique_lock lock(queue_->mutex);
  if (!queue_->changed.wait_for(lock, timeout, [&] { return !queue_->events.empty(); })) return {};
  Event event = std::move(queue_->events.front());
  queue_->events.pop_front();
  return take(std::move(event));
}

std::optional<Event> Stream::take(Event event) {
  over_ = std::holds_alternative<Finished>(event);
  return event;
}

struct Engine::Impl {
  Impl(std::unique_ptr<Model> owned, Tokenizer with, const SchedulerOptions& options)
      : model(std::move(owned)), tokenizer(std::move(with)), scheduler(*model, tokenizer, options) {
    last_stats = scheduler.stats();
    thread = std::thread([this] { work(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_one();
    thread.join();
  }

  /// What shall be forgotten, and who waits for it.
  struct Forget {
    std::optional<std::uint64_t> scope;
    std::promise<std::size_t> done;
  };

  void work() {
    while (true) {
      std::vector<Forget> to_forget;
      bool last = false;
      {
        std::unique_lock lock(mutex);
        last_stats = scheduler.stats();
        changed.wait(lock, [&] {
          return stopping || !inbox.empty() || !forgets.empty() || scheduler.has_work();
        });
        for (auto& job : std::exchange(inbox, {})) scheduler.add(std::move(job));
        to_forget = std::exchange(forgets, {});
        last = stopping;
      }
      for (Forget& each : to_forget) each.done.set_value(scheduler.forget(each.scope));
      if (last) break;
      try {
        scheduler.step();
      } catch (const std::bad_alloc&) {
        // Memory that was not there may be there for the next one.
        scheduler.fail_active({ErrorCode::ResourceLimit, "out of memory"});
      }
    }
    scheduler.cancel_all();
    scheduler.save_idle();
  }

  std::unique_ptr<Model> model;
  Tokenizer tokenizer;
  Scheduler scheduler;  // used by `thread` alone once it runs

  mutable std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  std::vector<std::shared_ptr<Job>> inbox;
  std::vector<Forget> forgets;
  SchedulerStats last_stats;
  bool stopping = false;

  std::once_flag table_made;
  std::shared_ptr<const grammar::TokenTable> table;

  std::thread thread;
};

Engine::Engine(std::unique_ptr<Model> model, Tokenizer tokenizer, const SchedulerOptions& options)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(tokenizer), options)) {}

Engine::~Engine() = default;

Ticket Engine::submit(Request request, EventSink sink) {
  const std::size_t vocabulary = impl_->scheduler.vocab_size();
  const std::size_t context = impl_->scheduler.context_tokens();
  require(!request.prompt.empty(), ErrorCode::InvalidArgument,
          "the prompt is empty: a model needs at least one token to go on from");
  for (const TokenId id : request.prompt) {
    require(value(id) >= 0 && static_cast<std::size_t>(value(id)) < vocabulary,
            ErrorCode::InvalidArgument, "token {} in the prompt, but the vocabulary has {} tokens",
            value(id), vocabulary);
  }
  require(request.prompt.size() < context, ErrorCode::InvalidArgument,
          "the prompt has {} tokens, which leaves no room for an answer in a context of {}",
          request.prompt.size(), context);
  auto job =
      std::make_shared<Job>(std::move(request), std::move(sink), impl_->tokenizer, vocabulary);
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->inbox.push_back(job);
  }
  impl_->changed.notify_one();
  return Ticket(std::move(job));
}

Stream Engine::submit(Request request) {
  auto queue = std::make_shared<Stream::Queue>();
  Ticket ticket = submit(std::move(request), [queue](Event event) {
    {
      const std::lock_guard lock(queue->mutex);
      queue->events.push_back(std::move(event));
    }
    queue->changed.notify_one();
  });
  return Stream(std::move(queue), std::move(ticket));
}

std::size_t Engine::forget(std::optional<std::uint64_t> scope) {
  std::promise<std::size_t> done;
  std::future<std::size_t> count = done.get_future();
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->forgets.push_back({scope, std::move(done)});
  }
  impl_->changed.notify_one();
  return count.get();
}

const ModelConfig& Engine::config() const { return impl_->model->config(); }
const Tokenizer& Engine::tokenizer() const { return impl_->tokenizer; }

std::shared_ptr<const grammar::TokenTable> Engine::token_table() const {
  std::call_once(impl_->table_made, [this] {
    const Tokenizer& tokenizer = impl_->tokenizer;
    std::vector<std::string_view> pieces(impl_->scheduler.vocab_size());
    std::deque<std::string> symbols;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const TokenId id{static_cast<std::int32_t>(i)};
      if (tokenizer.is_end_of_generation(id) || tokenizer.piece(id).empty()) continue;
      pieces[i] = tokenizer.piece(id);
      if (tokenizer.is_special(id)) {
        pieces[i] = symbols.emplace_back(grammar::control_symbol(pieces[i]));
      }
    }
    impl_->table = std::make_shared<const grammar::TokenTable>(pieces);
  });
  return impl_->table;
}

std::size_t Engine::context_tokens() const { return impl_->scheduler.context_tokens(); }

SchedulerStats Engine::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->last_stats;
}

}  // namespace fathom
