// HTTP as the store uses it: verified TLS, redirects by policy, credentials that stay at home.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "store/options.h"

namespace fathom {

/// A failure that may go away: a lost connection, a timeout, 408, 429 or 5xx.
class TransientError : public Error {
 public:
  TransientError(const std::string& message, std::chrono::milliseconds retry_after,
                 bool reached = true)
      : Error(ErrorCode::Network, message), retry_after_(retry_after), reached_(reached) {}
  /// What the server asked for (Retry-After); zero when it did not.
  std::chrono::milliseconds retry_after() const { return retry_after_; }
  /// How often to try again: not long if there was no server at all, for then this machine is
  /// probably offline, and a person waits.
  int retries(const NetworkOptions& options) const {
    return reached_ ? options.retries : std::min(options.retries, 1);
  }

 private:
  std::chrono::milliseconds retry_after_;
  bool reached_;
};

struct HttpRequest {
  std::string url;
  bool head = false;
  /// false: a redirect to another origin is returned as the answer; one within it is followed.
  bool leave_origin = true;
  std::string bearer_token;  // sent only to `url`'s own origin, whatever redirects follow
  std::vector<std::pair<std::string, std::string>> headers;  // sent on every hop
};

struct HttpResponse {
  int status = 0;
  std::string url;                             // of the hop that gave this answer
  std::map<std::string, std::string> headers;  // names in lower case; the last one wins

  /// The header, or "" when absent.
  const std::string& header(const std::string& lower_case_name) const;
  /// Content-Length of this body, if stated.
  std::optional<std::uint64_t> content_length() const;
};

/// Receives an answer that is not a redirect: `begin` once, with status and headers, then `data`.
struct BodySink {
  std::function<void(const HttpResponse&)> begin;
  std::function<void(std::span<const std::byte>)> data;
};

/// What one origin is allowed and given, beyond NetworkOptions: pip's trusted hosts, certificates.
struct HttpTrust {
  std::filesystem::path ca_file;
  std::filesystem::path client_cert;
  std::string proxy;                       // for both schemes, when not empty
  std::vector<std::string> trusted_hosts;  // "host" or "host:port"
};

/// Not thread-safe; keeps connections open between requests. Redirects are followed from https to
/// https only; from plain http (which needs a loopback or explicitly allowed host) also to https;
/// never from another machine to this one. At most NetworkOptions::max_redirects, and 64 KiB of
/// headers an answer.
class HttpClient {
 public:
  HttpClient(const NetworkOptions& options, const std::atomic<bool>* cancelled,
             HttpTrust trust = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// One attempt. Statuses are returned, not thrown. Throws TransientError, Error(Network) for what
  /// a retry cannot mend (TLS, policy), Error(Cancelled), and what the sink throws.
  HttpResponse request(const HttpRequest& request, const BodySink& sink = {});

  /// A small document, with retries: the answer and its body. Statuses that are not transient are
  /// returned. Throws Error(ResourceLimit) for a body over `limit` bytes.
  std::pair<HttpResponse, std::string> fetch(const HttpRequest& request, std::size_t limit,
                                             const std::function<void(const std::string&)>& notice);

  const NetworkOptions& options() const { return options_; }
  const std::atomic<bool>* cancelled() const { return cancelled_; }

 private:
  struct Impl;
  void check_allowed(const std::string& url, const std::string* from) const;
  bool is_trusted(const std::string& url) const;

  NetworkOptions options_;
  HttpTrust trust_;
  const std::atomic<bool>* cancelled_;
  std::unique_ptr<Impl> impl_;
};

/// Throws TransientError for 408, 429 and 5xx; returns otherwise.
void throw_if_transient(const HttpResponse& response);

/// Waits before retry number `attempt` (0, 1, ...): at least what the server asked for (at most two
/// minutes), else first_backoff doubled each time. Throws Error(Cancelled) as soon as cancelled.
void back_off(const NetworkOptions& options, int attempt, std::chrono::milliseconds retry_after,
              const std::atomic<bool>* cancelled);

}  // namespace fathom
