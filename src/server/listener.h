// HTTP/1.1 on a port: connections, limits, timeouts, streams. What is answered is the Api's affair.
//
// One thread runs all connections as coroutines; what may take a while (parsing a large body,
// rendering a template) runs on a few others, and the model on the engine's own. A slow client thus
// costs memory, bounded, and nobody's time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "server/api.h"
#include "server/tls_files.h"

namespace fathom::server {

struct ListenerOptions {
  std::optional<TlsFiles> tls;  // HTTPS alone, then
  std::string address = "127.0.0.1";
  std::uint16_t port = 8080;  // 0: any that is free
  std::size_t max_connections = 1024;
  std::uint32_t max_header_bytes = 32u << 10;          // past it, 431
  std::uint64_t max_body_bytes = 32u << 20;            // past it, 413
  std::size_t max_total_body_bytes = 256u << 20;       // of all connections' bodies; past it, 503
  std::chrono::milliseconds header_timeout{10'000};    // for a whole header
  std::chrono::milliseconds body_timeout{60'000};      // for a whole body
  std::chrono::milliseconds idle_timeout{75'000};      // between requests
  std::chrono::milliseconds write_timeout{30'000};     // for a reader that takes nothing
  std::chrono::milliseconds comment_interval{10'000};  // ": keep-alive" while a stream waits
  std::chrono::milliseconds drain_timeout{30'000};     // for running answers, when told to stop
  unsigned workers = 2;                                // threads that read bodies
  bool stop_on_signals = false;                        // SIGINT and SIGTERM call stop()
};

class Listener {
 public:
  /// Binds. Throws Error(Io), naming the address and the likely cause. `api` outlives it.
  Listener(Api& api, const ListenerOptions& options);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  std::uint16_t port() const;
  /// Serves until stop() has been called and the answers that were running have ended.
  void run();
  /// Takes no more connections, closes idle ones. From any thread.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom::server
