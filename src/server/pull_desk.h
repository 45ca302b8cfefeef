// Models that users ask to have fetched: which were asked for, and how far each has got.
//
// The server's process can connect to nothing (sandbox.h). Another one fetches, started before the
// door closes (cli/pull_process.h); this is the server's end of the socket between them, over which
// go lines of JSON:
//   there  {"pull": MODEL}, one at a time, and {"cancel": MODEL}
//   here   {"progress": {"task", "done", "total", "unit", "rate", "eta_seconds"}}, then
//          {"done": NAME} or {"failed": {"code", "message"}}
// That process reads what the network sends, so that its lines may be anything: one that is none of
// these ends the connection with it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "server/fields.h"
#include "server/pull_rules.h"

namespace fathom::server {

/// Thread-safe.
class PullDesk {
 public:
  /// `socket`: a stream, owned from here on; at its end the fetching process ends.
  PullDesk(int socket, PullRules rules);
  ~PullDesk();
  PullDesk(const PullDesk&) = delete;
  PullDesk& operator=(const PullDesk&) = delete;

  // Objects as openapi.json describes them: "Pull", and a list of them for list().

  /// Asks for it, unless it waits or runs already. Throws ApiError(403) for what may not be
  /// fetched, ApiError(429) if many wait, ApiError(503) if the fetching process has ended.
  Json pull(const std::string& model);
  /// What has come stays, for the next time. One that has ended stays as it is. Throws
  /// ApiError(404).
  Json cancel(const std::string& model);
  /// In the order in which they were asked for. Of those that have ended the last ones are kept.
  Json list() const;

 private:
  enum class Status { Waiting, Running, Done, Failed, Cancelled };
  struct Pull {
    std::string model;
    std::int64_t created = 0;  // seconds since 1970
    Status status = Status::Waiting;
    Json progress = nullptr;
    std::string name = {};                // Done: what the store calls it
    std::string code = {}, message = {};  // Failed
  };

  static Json json_of(const Pull& pull);
  static bool over(const Pull& pull) { return pull.status > Status::Running; }
  void read();
  /// False for what is no line of the fetching process's.
  bool take(std::string_view line);

  // With mutex_ held:
  Pull* running();
  void send(const Json& line);
  void start_next();
  void forget_old();

  const int socket_;
  const PullRules rules_;
  mutable std::mutex mutex_;  // guards what follows
  std::deque<Pull> pulls_;
  bool connected_ = true;

  std::thread reader_;  // last: it uses the rest
};

}  // namespace fathom::server
