// Any bytes on a connection to the server, followed by its client's leaving. The server must answer
// in HTTP or not at all, close the connection, and never call anything its own error.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include "server/listener.h"
#include "server_fuzz.h"

namespace {

using namespace fathom;
using fuzz::insist;

/// Serves until the process ends.
class Server {
 public:
  Server() : api_(fuzz::make_api({})), listener_(*api_, options()) {
    std::thread([this] { listener_.run(); }).detach();
  }
  std::uint16_t port() const { return listener_.port(); }

 private:
  static server::ListenerOptions options() {
    server::ListenerOptions options;
    options.port = 0;
    options.max_header_bytes = 4096;
    options.max_body_bytes = 4096;
    return options;
  }
  std::unique_ptr<server::Api> api_;
  server::Listener listener_;
};

int connect_to(std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  insist(::connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  // A server that does not close is a finding.
  const timeval patience{8, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return socket;
}

std::string exchange(std::uint16_t port, const std::uint8_t* data, std::size_t size) {
  const int socket = connect_to(port);
  for (std::size_t sent = 0; sent < size;) {
    const ssize_t count = ::send(socket, data + sent, size - sent, MSG_NOSIGNAL);
    if (count <= 0) break;  // it has closed already
    sent += static_cast<std::size_t>(count);
  }
  ::shutdown(socket, SHUT_WR);
  std::string answer;
  char block[16384];
  ssize_t count = 0;
  do {
    count = ::recv(socket, block, sizeof block, 0);
    if (count > 0) answer.append(block, static_cast<std::size_t>(count));
  } while (count > 0 || (count < 0 && errno == EINTR));  // the fuzzer's own alarm
  insist(count == 0 || errno == ECONNRESET);
  ::close(socket);
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Server& server = *new Server;
  const std::string answer = exchange(server.port(), data, size);
  insist(answer.empty() || answer.starts_with("HTTP/1.1 ") || answer.starts_with("HTTP/1.0 "));
  insist(answer.find("HTTP/1.1 500 ") == std::string::npos);
  return 0;
}
