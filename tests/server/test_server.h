// A server on a free port of loopback with the scripted model of tests/engine, and a client that
// sends whatever bytes a test wants.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "engine/fake_model.h"
#include "server/exchange.h"
#include "server/listener.h"
#include "server/openapi_check.h"

namespace fathom::test {

/// Messages end in <|end|>; the answer begins after the last message's text, so that the alphabet
/// goes on from its last letter.
inline constexpr const char* kTemplate =
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if enable_thinking %}<think>{% endif %}";

/// The data of each event of a stream whose events have types, as Messages' and Responses' do.
inline std::vector<Json> events_of(const Reply& reply) {
  std::vector<Json> found;
  for (const std::string& event : reply.events()) {
    Json data = Json::parse(event);
    const std::string line = "event: " + data.at("type").get<std::string>() + "\n";
    EXPECT_NE(reply.body.find(line), std::string::npos) << event;
    found.push_back(std::move(data));
  }
  return found;
}

/// From <think>: a, b, </think>, then y and z.
inline TokenId thinker(TokenId last, std::size_t position) {
  if (last == kThink) return ids("a")[0];
  if (last == ids("b")[0]) return kEndThink;
  if (last == kEndThink) return ids("y")[0];
  return alphabet(last, position);
}

class Client {
 public:
  /// `room`: bytes that its socket holds unread, if the system's own choice is too many.
  explicit Client(std::uint16_t port, int room = 0) {
    std::signal(SIGPIPE, SIG_IGN);
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (room > 0) ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) std::abort();
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  /// False once the server has closed the connection.
  bool send(std::string_view bytes) {
    sent_ += bytes;
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  /// What comes until `enough` is content, the server closes, or nothing comes for `patience`.
  std::string read_until(const std::function<bool(const std::string&)>& enough,
                         std::chrono::milliseconds patience = std::chrono::seconds(20)) {
    while (!enough(pending_)) {
      pollfd poll_of{socket_, POLLIN, 0};
      if (::poll(&poll_of, 1, static_cast<int>(patience.count())) <= 0) break;
      char block[16384];
      const ssize_t count = ::recv(socket_, block, sizeof block, 0);
      if (count <= 0) {
        closed_ = true;
        break;
      }
      pending_.append(block, static_cast<std::size_t>(count));
    }
    return pending_;
  }
  /// The server has closed the connection (which is waited for).
  bool closed() {
    read_until([](const std::string&) { return false; }, std::chrono::seconds(5));
    return closed_;
  }

  /// The next whole response, which must be one that openapi.json describes for its request.
  Reply reply() {
    const Asked asked = take_request(sent_);
    Reply reply = read_reply(asked);
    if (reply.status != 0) {
      EXPECT_EQ(undescribed(asked, reply), "")
          << asked.method << ' ' << asked.path << ' ' << asked.body.value_or("") << '\n'
          << reply.raw;
    }
    return reply;
  }

 private:
  /// Its status is 0 if the server closed the connection instead.
  Reply read_reply(const Asked& asked) {
    Reply reply;
    std::size_t head = std::string::npos;
    read_until([&](const std::string& text) {
      return (head = text.find("\r\n\r\n")) != std::string::npos;
    });
    if (head == std::string::npos) return reply;
    std::string lines = pending_.substr(0, head + 2);
    reply.status = std::atoi(lines.c_str() + lines.find(' ') + 1);
    for (std::size_t at = lines.find("\r\n") + 2; at < lines.size();) {
      const std::size_t end = lines.find("\r\n", at);
      const std::size_t colon = lines.find(':', at);
      std::string name = lines.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      reply.headers[name] = lines.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    head += 4;
    if (reply.headers.contains("transfer-encoding")) {
      std::size_t end = std::string::npos;
      read_until([&](const std::string& text) {
        return (end = text.find("\r\n0\r\n\r\n", head - 2)) != std::string::npos;
      });
      if (end == std::string::npos) end = pending_.size();
      for (std::size_t at = head; at < end;) {
        const std::size_t size = std::strtoul(pending_.c_str() + at, nullptr, 16);
        at = pending_.find("\r\n", at) + 2;
        reply.body += pending_.substr(at, size);
        at += size + 2;
      }
      end = std::min(pending_.size(), end + 7);
      reply.raw = pending_.substr(0, end);
      pending_.erase(0, end);
      return reply;
    }
    std::size_t length = 0;
    if (reply.headers.contains("content-length")) {
      if (asked.method != "HEAD") length = std::stoul(reply.headers.at("content-length"));
    } else if (reply.status != 204) {  // its end is the connection's
      length = read_until([](const std::string&) { return false; }).size() - head;
    }
    const std::size_t wanted = head + length;
    read_until([wanted](const std::string& text) { return text.size() >= wanted; });
    reply.body = pending_.substr(head, length);
    reply.raw = pending_.substr(0, wanted);
    pending_.erase(0, wanted);
    return reply;
  }

  int socket_ = -1;
  bool closed_ = false;
  std::string sent_;     // whose answers were not read
  std::string pending_;  // of answers
};

inline std::string post(const std::string& path, const std::string& body,
                        const std::string& more_headers = {}) {
  return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         more_headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string get(const std::string& path, const std::string& more_headers = {}) {
  return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + more_headers + "\r\n";
}

class TestServer {
 public:
  explicit TestServer(server::ListenerOptions listener = {}, server::ApiOptions api = {},
                      std::chrono::milliseconds token_time = {},
                      FakeModel::Script script = alphabet, std::optional<server::Price> price = {},
                      const std::string& filter = {}) {
    listener.port = 0;
    auto fake = std::make_unique<FakeModel>(std::move(script));
    fake->delay = token_time;
    server::ServedModel model;
    model.name = "fake";
    model.aliases = {"deepseek-chat"};
    model.chat = std::make_unique<ChatFormat>(kTemplate, small_tokenizer());
    model.sampling.temperature = 0;
    model.fingerprint = "fp_test";
    model.price = price;
    if (!filter.empty()) {
      model.filter =
          std::make_shared<const server::Filter>(server::Filter::parse(filter, "filter.json"));
    }
    model.engine = std::make_unique<Engine>(std::move(fake), small_tokenizer());
    start(std::make_shared<server::ModelPool>(std::move(model)), std::move(api), listener);
  }
  explicit TestServer(std::shared_ptr<server::ModelPool> models,
                      server::ListenerOptions listener = {}) {
    listener.port = 0;
    start(std::move(models), {}, listener);
  }
  ~TestServer() { stop(); }

  void stop() {
    if (!thread_.joinable()) return;
    listener_->stop();
    thread_.join();
  }
  std::uint16_t port() const { return port_; }
  server::Api& api() { return *api_; }
  SchedulerStats stats() const { return api_->models().find({})->engine->stats(); }

  Reply ask(const std::string& bytes) {
    Client client(port_);
    client.send(bytes);
    return client.reply();
  }
  Reply chat(const Json& more, const std::string& headers = {}) {
    Json body{{"model", "fake"}, {"messages", Json::array({{{"role", "user"}, {"content", "u"}}})}};
    if (!more.is_null()) body.update(more);
    return ask(post("/v1/chat/completions", body.dump(), headers));
  }

 private:
  void start(std::shared_ptr<server::ModelPool> models, server::ApiOptions api,
             const server::ListenerOptions& listener) {
    api_ = std::make_unique<server::Api>(std::move(models), std::move(api));
    listener_ = std::make_unique<server::Listener>(*api_, listener);
    port_ = listener_->port();
    thread_ = std::thread([this] { listener_->run(); });
  }

  std::unique_ptr<server::Api> api_;
  std::unique_ptr<server::Listener> listener_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace fathom::test
