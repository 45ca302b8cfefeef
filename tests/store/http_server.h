// A small HTTP server on a loopback port, in the test's own process: handlers are plain functions,
// so a test can answer as badly as it needs to.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace fathom::test {

struct ServedRequest {
  std::string method;
  std::string target;                          // path and query
  std::map<std::string, std::string> headers;  // names in lower case

  std::string header(const std::string& name) const;
  std::string path() const { return target.substr(0, target.find('?')); }
};

struct ServedResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  /// Sends Content-Length for the whole body, then closes after this many bytes of it.
  std::optional<std::size_t> cut_after = {};
  bool send_length = true;
  std::function<void()> before_body = {};  // called when the headers are out
};

class HttpServer {
 public:
  using Handler = std::function<ServedResponse(const ServedRequest&)>;
  explicit HttpServer(Handler handler);
  /// Speaks TLS, with a certificate for 127.0.0.1 that nobody but itself vouches for.
  struct SelfSigned {};
  HttpServer(Handler handler, SelfSigned);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// `host` "localhost" and "127.0.0.1" are two origins to a client.
  std::string url(const std::string& path = "", const std::string& host = "127.0.0.1") const;
  /// The server's certificate (PEM), for those who want to trust it.
  std::string certificate() const;
  /// All requests so far, in order.
  std::vector<ServedRequest> log() const;
  std::size_t count(const std::string& method, const std::string& path_part) const;

 private:
  void accept_loop();
  void serve(class Connection& connection);

  Handler handler_;
  std::shared_ptr<ssl_ctx_st> tls_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<ServedRequest> log_;
  std::vector<std::thread> workers_;
  std::thread acceptor_;
};

/// `content` as a correct server gives it: Range and If-Range heeded.
ServedResponse serve_bytes(const ServedRequest& request, const std::string& content,
                           const std::string& etag);

/// A model repository as the Hub serves it, large files on a second server as on its CDN.
class FakeHub {
 public:
  FakeHub();

  struct File {
    std::string content;
    bool lfs = true;
  };

  std::string endpoint() const { return hub_.url(); }
  HttpServer& hub() { return hub_; }
  HttpServer& cdn() { return cdn_; }

  std::string commit = "0123456789abcdef0123456789abcdef01234567";
  std::map<std::string, File> files;
  std::string required_token;
  /// Answers instead of the Hub or the CDN when it returns something.
  std::function<std::optional<ServedResponse>(const ServedRequest&)> on_hub;
  std::function<std::optional<ServedResponse>(const ServedRequest&)> on_cdn;

 private:
  ServedResponse answer_hub(const ServedRequest& request);
  ServedResponse answer_cdn(const ServedRequest& request);
  ServedResponse describe() const;

  HttpServer hub_;
  HttpServer cdn_;
};

/// A zip file of stored (uncompressed) entries, as a wheel may be.
std::string make_zip(const std::vector<std::pair<std::string, std::string>>& entries);

/// A wheel of one package that carries `files`, with a RECORD that fits.
std::string make_wheel(const std::string& package, const std::string& version,
                       const std::vector<std::pair<std::string, std::string>>& files);

std::string sha256_of(const std::string& text);
/// Bytes that look like a GGUF file to a human and to nothing else.
std::string fake_model(std::size_t size, unsigned seed = 1);

}  // namespace fathom::test
