#include "cli/pull_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "cli/model_store.h"
#include "server/sandbox.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

/// What the resolver, OpenSSL and curl read, on the systems that are about. (Name services are
/// libraries, loaded when the first name is looked up.)
constexpr const char* kNetworkFiles[] = {"/etc/resolv.conf",
                                         "/etc/hosts",
                                         "/etc/nsswitch.conf",
                                         "/etc/host.conf",
                                         "/etc/gai.conf",
                                         "/etc/services",
                                         "/etc/ssl",
                                         "/etc/pki",
                                         "/etc/crypto-policies",
                                         "/etc/ca-certificates",
                                         "/etc/ld.so.cache",
                                         "/lib",
                                         "/lib64",
                                         "/usr/lib",
                                         "/usr/lib64",
                                         "/usr/share/ca-certificates",
                                         "/usr/local/share/ca-certificates",
                                         "/run/systemd/resolve"};

void put_up_walls(const Store& store, const NetworkOptions& network) {
  server::FileAccess access;
  for (const char* file : kNetworkFiles) access.read.emplace_back(file);
  for (const auto& file :
       {network.ca_file, network.packages.ca_file, network.packages.client_cert}) {
    if (!file.empty()) access.read.push_back(file);
  }
  for (const std::string& link : network.packages.find_links) {
    if (link.starts_with('/')) access.read.emplace_back(link);
  }
  access.write = store.make_ready();
  if (server::can_restrict_files()) server::restrict_files(access);
  server::only_connect();
}

/// Reads what the server says as it comes, so that a running download hears of being cancelled; at
/// its end this process ends, whatever it is doing. What has come of a model stays in the store.
class Orders {
 public:
  explicit Orders(int socket) : socket_(socket), reader_([this] { read(); }) {}

  /// Waits for it.
  std::string next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return model_.has_value(); });
    return *std::exchange(model_, std::nullopt);
  }
  const std::atomic<bool>& cancelled() const { return cancelled_; }

 private:
  void read() {
    std::string pending;
    char block[4096];
    while (true) {
      const ssize_t count = ::recv(socket_, block, sizeof block, 0);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) ::_exit(0);
      pending.append(block, static_cast<std::size_t>(count));
      for (std::size_t end; (end = pending.find('\n')) != std::string::npos;) {
        take(Json::parse(pending.substr(0, end), nullptr, false));
        pending.erase(0, end + 1);
      }
    }
  }
  void take(const Json& order) {
    if (!order.is_object()) return;
    const std::scoped_lock lock(mutex_);
    if (const auto pull = order.find("pull"); pull != order.end() && pull->is_string()) {
      model_ = *pull;
      cancelled_ = false;
      changed_.notify_one();
    } else if (order.contains("cancel")) {
      cancelled_ = true;  // of the one that runs: the server names no other
    }
  }

  const int socket_;
  std::mutex mutex_;  // guards model_
  std::condition_variable changed_;
  std::optional<std::string> model_;
  std::atomic<bool> cancelled_ = false;
  std::thread reader_;  // never ends before the process
};

void say(int socket, const Json& line) {
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t sent = ::send(socket, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) ::_exit(0);  // the server is gone
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
}

Json failure(const char* code, const std::string& message) {
  return {{"failed", {{"code", code}, {"message", message}}}};
}

Json fetch(Store& store, const server::PullRules& rules, const NetworkOptions& network,
           const std::string& model) {
  try {
    const bool is_path = std::holds_alternative<PathSpec>(parse_model_spec(model).source);
    require(rules.allow(model) && !is_path, ErrorCode::InvalidArgument,
            "{} is none of the models that may be fetched", model);
    return {{"done", store.pull(model, network).name}};
  } catch (const Error& error) {
    return failure(to_string(error.code()), error.what());
  } catch (const std::exception& error) {
    return failure(to_string(ErrorCode::Internal), error.what());
  }
}

[[noreturn]] void fetch_for_the_server(int socket, const server::PullRules& rules, bool walls,
                                       const Context& context) {
  // Ctrl-C is for the server, which may have answers to end; that ends this one too.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  ::prctl(PR_SET_NAME, "fathom-pull");
  server::forbid_core_dumps();
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int output : {STDIN_FILENO, STDOUT_FILENO}) ::dup2(nothing, output);
  try {
    const NetworkOptions network = default_network(context);
    if (walls) put_up_walls(open_store(context), network);
    static Orders orders(socket);  // with a thread in it that never ends: not to be destroyed
    StoreOptions options = store_options(context);
    options.progress = [socket](const ProgressUpdate& update) {
      say(socket, {{"progress",
                    {{"task", update.task},
                     {"done", update.done},
                     {"total", update.total},
                     {"unit", update.unit},
                     {"rate", update.rate},
                     {"eta_seconds", update.eta_seconds}}}});
    };
    options.notice = {};
    options.cancelled = &orders.cancelled();
    Store store(std::move(options));
    while (true) {
      const std::string model = orders.next();
      say(socket, fetch(store, rules, network, model));
    }
  } catch (const std::exception& error) {
    // The server tells whoever asks that this process has ended; why is for the operator.
    print_note(context, fmt::format("fetching models is not possible: {}", error.what()));
  }
  ::_exit(1);
}

}  // namespace

int start_pull_process(const server::PullRules& rules, bool walls, const Context& context) {
  open_store(context).make_ready();
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, ErrorCode::Io,
          "no pair of sockets can be made: {}", std::strerror(errno));
  std::fflush(nullptr);  // or the child would write it again
  const pid_t child = ::fork();
  require(child >= 0, ErrorCode::Io, "no process can be made: {}", std::strerror(errno));
  if (child == 0) {
    ::close(ends[0]);
    fetch_for_the_server(ends[1], rules, walls, context);
  }
  ::close(ends[1]);
  return ends[0];
}

}  // namespace fathom
