#include "store/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <csignal>
#include <random>
#include <stdexcept>
#include <string_view>

#include "base/sha256.h"

namespace fathom::test {
namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::shared_ptr<SSL_CTX> make_self_signed() {
  const std::shared_ptr<EVP_PKEY> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::shared_ptr<X509> certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  const auto* common = reinterpret_cast<const unsigned char*>("fathom test");
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common, -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  const std::shared_ptr<X509_EXTENSION> extension(
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1"),
      X509_EXTENSION_free);
  X509_add_ext(certificate.get(), extension.get(), -1);
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0 ||
      SSL_CTX_use_certificate(context.get(), certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    throw std::runtime_error("the test server cannot make a certificate");
  }
  return context;
}

}  // namespace

/// One client's socket, with TLS on it or not. Closes it.
class Connection {
 public:
  Connection(int socket, SSL_CTX* tls)
      : socket_(socket), ssl_(tls != nullptr ? SSL_new(tls) : nullptr) {
    if (ssl_ != nullptr) SSL_set_fd(ssl_, socket_);
  }
  ~Connection() {
    SSL_free(ssl_);
    ::close(socket_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool handshake() { return ssl_ == nullptr || SSL_accept(ssl_) == 1; }
  ssize_t receive(char* to, std::size_t size) {
    return ssl_ != nullptr ? SSL_read(ssl_, to, static_cast<int>(size))
                           : ::recv(socket_, to, size, 0);
  }
  bool send_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ssl_ != nullptr
                               ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                               : ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void end() {
    if (ssl_ != nullptr) SSL_shutdown(ssl_);
    ::shutdown(socket_, SHUT_WR);
  }

 private:
  int socket_;
  SSL* ssl_;
};

std::string ServedRequest::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

HttpServer::HttpServer(Handler handler, SelfSigned) : HttpServer(std::move(handler)) {
  ::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
  tls_ = make_self_signed();   // nobody has the address yet
}

std::string HttpServer::certificate() const {
  const std::shared_ptr<BIO> memory(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_X509(memory.get(), SSL_CTX_get0_certificate(tls_.get()));
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error("the test server cannot listen on loopback");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

HttpServer::~HttpServer() {
  stop_ = true;
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  ::close(listener_);
  for (std::thread& worker : workers_) worker.join();
}

std::string HttpServer::url(const std::string& path, const std::string& host) const {
  return fmt::format("{}://{}:{}{}", tls_ ? "https" : "http", host, port_, path);
}

std::vector<ServedRequest> HttpServer::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

std::size_t HttpServer::count(const std::string& method, const std::string& path_part) const {
  const auto requests = log();
  return static_cast<std::size_t>(
      std::count_if(requests.begin(), requests.end(), [&](const ServedRequest& request) {
        return request.method == method && request.target.find(path_part) != std::string::npos;
      }));
}

void HttpServer::accept_loop() {
  while (!stop_) {
    const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    workers_.emplace_back([this, socket] {
      Connection connection(socket, tls_.get());
      if (connection.handshake()) serve(connection);
    });
  }
}

void HttpServer::serve(Connection& connection) {
  std::string text;
  char piece[4096];
  while (text.find("\r\n\r\n") == std::string::npos) {
    const ssize_t count = connection.receive(piece, sizeof piece);
    if (count <= 0 || text.size() > 1'000'000) return;
    text.append(piece, static_cast<std::size_t>(count));
  }
  ServedRequest request;
  const auto line_end = text.find("\r\n");
  const std::string line = text.substr(0, line_end);
  const auto first = line.find(' ');
  const auto second = line.find(' ', first + 1);
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, second - first - 1);
  for (auto at = line_end + 2; at < text.size();) {
    const auto end = text.find("\r\n", at);
    const auto colon = text.find(": ", at);
    if (end == at || end == std::string::npos) break;
    if (colon < end) {
      request.headers[lower(text.substr(at, colon - at))] = text.substr(colon + 2, end - colon - 2);
    }
    at = end + 2;
  }
  {
    const std::lock_guard lock(mutex_);
    log_.push_back(request);
  }
  const ServedResponse response = handler_(request);
  std::string head = fmt::format("HTTP/1.1 {} Status\r\nConnection: close\r\n", response.status);
  if (response.send_length) head += fmt::format("Content-Length: {}\r\n", response.body.size());
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  if (!connection.send_all(head + "\r\n")) return;
  if (response.before_body) response.before_body();
  if (request.method == "HEAD") return;
  std::string_view body = response.body;
  if (response.cut_after) body = body.substr(0, *response.cut_after);
  connection.send_all(body);
  connection.end();
  // Wait for the client to close, so that no reset overtakes the last bytes.
  while (connection.receive(piece, sizeof piece) > 0) {
  }
}

ServedResponse serve_bytes(const ServedRequest& request, const std::string& content,
                           const std::string& etag) {
  ServedResponse response;
  response.headers.emplace_back("ETag", etag);
  response.headers.emplace_back("Accept-Ranges", "bytes");
  const std::string range = request.header("range");
  const std::string condition = request.header("if-range");
  std::size_t start = 0;
  if (range.starts_with("bytes=") && (condition.empty() || condition == etag)) {
    std::from_chars(range.data() + 6, range.data() + range.size(), start);
    if (start >= content.size()) {
      response.status = 416;
      response.headers.emplace_back("Content-Range", fmt::format("bytes */{}", content.size()));
      return response;
    }
    response.status = 206;
    response.headers.emplace_back(
        "Content-Range", fmt::format("bytes {}-{}/{}", start, content.size() - 1, content.size()));
  }
  response.body = content.substr(start);
  return response;
}

FakeHub::FakeHub()
    : hub_([this](const ServedRequest& request) { return answer_hub(request); }),
      cdn_([this](const ServedRequest& request) { return answer_cdn(request); }) {}

ServedResponse FakeHub::describe() const {
  std::string siblings;
  for (const auto& [path, file] : files) {
    siblings += fmt::format("{}{{\"rfilename\":\"{}\",\"size\":{}}}", siblings.empty() ? "" : ",",
                            path, file.content.size());
  }
  ServedResponse response;
  response.headers.emplace_back("Content-Type", "application/json");
  response.body = fmt::format(
      "{{\"id\":\"acme/"
      "tiny\",\"sha\":\"{}\",\"tags\":[\"gguf\",\"license:mit\"],\"siblings\":[{}]}}",
      commit, siblings);
  return response;
}

ServedResponse FakeHub::answer_hub(const ServedRequest& request) {
  if (on_hub) {
    if (auto response = on_hub(request)) return *response;
  }
  if (!required_token.empty() && request.header("authorization") != "Bearer " + required_token) {
    return {.status = 401, .headers = {{"X-Error-Code", "GatedRepo"}}};
  }
  if (request.path().starts_with("/api/models/acme/tiny/revision/")) {
    if (!request.path().ends_with("/main")) {
      return {.status = 404, .headers = {{"X-Error-Code", "RevisionNotFound"}}};
    }
    return describe();
  }
  const std::string prefix = "/acme/tiny/resolve/" + commit + "/";
  if (!request.path().starts_with(prefix)) {
    return {.status = 401, .headers = {{"X-Error-Code", "RepoNotFound"}}};
  }
  const std::string path = request.path().substr(prefix.size());
  const auto file = files.find(path);
  if (file == files.end()) return {.status = 404, .headers = {{"X-Error-Code", "EntryNotFound"}}};
  if (file->second.lfs) {
    return {.status = 302,
            .headers = {{"Location", cdn_.url("/bytes/" + path + "?signature=secret", "localhost")},
                        {"X-Repo-Commit", commit},
                        {"X-Linked-Size", std::to_string(file->second.content.size())},
                        {"X-Linked-Etag", '"' + sha256_of(file->second.content) + '"'}}};
  }
  // A small file's ETag is its git id; the test states the right one for its one such file.
  ServedResponse response =
      serve_bytes(request, file->second.content, "\"9e26dfeeb6e641a33dae4961196235bdb965b21b\"");
  response.headers.emplace_back("X-Repo-Commit", commit);
  return response;
}

ServedResponse FakeHub::answer_cdn(const ServedRequest& request) {
  if (on_cdn) {
    if (auto response = on_cdn(request)) return *response;
  }
  const auto file = files.find(request.path().substr(std::string_view("/bytes/").size()));
  if (file == files.end()) return {.status = 404};
  // Not the Hub's ETag: a CDN has its own.
  return serve_bytes(request, file->second.content,
                     "\"cdn-" + sha256_of(file->second.content).substr(0, 8) + '"');
}

std::string make_zip(const std::vector<std::pair<std::string, std::string>>& entries) {
  const auto little = [](std::uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
    return out;
  };
  const auto crc32 = [](const std::string& data) {
    std::uint32_t crc = ~0U;
    for (const unsigned char byte : data) {
      crc ^= byte;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0U);
    }
    return ~crc;
  };
  std::string zip;
  std::string directory;
  for (const auto& [name, data] : entries) {
    const std::string common = little(20, 2) + little(0, 2) + little(0, 2) + little(0, 4) +
                               little(crc32(data), 4) + little(data.size(), 4) +
                               little(data.size(), 4) + little(name.size(), 2) + little(0, 2);
    directory += "PK\x01\x02" + little(20, 2) + common + little(0, 2) + little(0, 2) +
                 little(0, 2) + little(0, 4) + little(zip.size(), 4) + name;
    zip += "PK\x03\x04" + common + name + data;
  }
  const std::size_t start = zip.size();
  return zip + directory + "PK\x05\x06" + little(0, 4) + little(entries.size(), 2) +
         little(entries.size(), 2) + little(directory.size(), 4) + little(start, 4) + little(0, 2);
}

std::string make_wheel(const std::string& package, const std::string& version,
                       const std::vector<std::pair<std::string, std::string>>& files) {
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const auto base64_of_hex = [&](const std::string& hex) {
    std::string bits;
    for (const char c : hex) {
      const int value = c <= '9' ? c - '0' : c - 'a' + 10;
      for (int bit = 3; bit >= 0; --bit) bits += static_cast<char>('0' + (value >> bit & 1));
    }
    std::string out;
    for (std::size_t i = 0; i < bits.size(); i += 6) {
      std::string six = bits.substr(i, 6);
      six.resize(6, '0');
      out += kAlphabet[std::stoi(six, nullptr, 2)];
    }
    return out;
  };
  std::string dist = package + "-" + version + ".dist-info";
  std::replace(dist.begin(), dist.begin() + static_cast<std::ptrdiff_t>(package.size()), '-', '_');
  auto entries = files;
  entries.emplace_back(dist + "/METADATA", "Metadata-Version: 2.1\nName: " + package +
                                               "\nVersion: " + version +
                                               "\nLicense: Apache-2.0\n\nText\nLicense: none\n");
  std::string record;
  for (const auto& [name, data] : entries) {
    record += fmt::format("{},sha256={},{}\n", name, base64_of_hex(sha256_of(data)), data.size());
  }
  entries.emplace_back(dist + "/RECORD", record + dist + "/RECORD,,\n");
  return make_zip(entries);
}

std::string sha256_of(const std::string& text) {
  return sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
}

std::string fake_model(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text = "GGUF";
  while (text.size() < size) text += static_cast<char>(random());
  text.resize(size);
  return text;
}

}  // namespace fathom::test
