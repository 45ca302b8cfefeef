// A running answer, between the engine's events and the bytes that a client gets.
//
// The API makes one for a request that needs the model (api.h); the listener feeds it events and
// sends what it gives back. It knows nothing of sockets, and never waits.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/request.h"
#include "server/api_error.h"
#include "server/http.h"

namespace fathom::server {

struct FilterRule;

class Generation {
 public:
  /// Takes the events of answer number `choice`, on the engine's thread: must not block or throw.
  using Sink = std::function<void(std::size_t choice, Event event)>;

  Generation() = default;
  /// Cancels what still runs.
  virtual ~Generation() = default;
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Hands the requests to the engine. Throws ApiError if it refuses them: nothing runs then.
  virtual void start(Sink sink) = 0;
  /// The answer to a client whose request start() threw for, in its API's form.
  virtual HttpResponse refusal(const ApiError& error) const = 0;
  /// Whether it may still be refused: until it may not, events are taken and nothing is sent.
  virtual bool undecided() const { return false; }
  /// Why it was refused after all.
  virtual std::optional<ApiError> refused() const { return std::nullopt; }
  /// Whether what take() returns is sent as server-sent events, after status 200.
  virtual bool streams() const = 0;
  /// Takes an event in; what is to be sent now, if it streams.
  virtual std::string take(std::size_t choice, Event event) = 0;
  /// The engine need not go on with that answer, whose last event is still to be taken. `rule`: by
  /// which it ends, as its end then says; null if by none.
  virtual void stop(std::size_t choice, std::shared_ptr<const FilterRule> rule,
                    Channel channel) = 0;
  /// All answers have ended.
  virtual bool done() const = 0;
  /// Once done, if it does not stream.
  virtual HttpResponse result() = 0;
};

}  // namespace fathom::server
