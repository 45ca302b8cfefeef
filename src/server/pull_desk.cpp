#include "server/pull_desk.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include "server/api_error.h"

namespace fathom::server {
namespace {

constexpr std::size_t kMostWaiting = 8;
constexpr std::size_t kMostEnded = 32;
constexpr std::size_t kLongestLine = 16 << 10;
constexpr std::size_t kLongestText = 1000;  // a message's, in bytes

constexpr const char* kGone =
    "the process that fetches models has ended; the server has to be started again";

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// A member that is a text, in bounds, without half a character at its end.
std::optional<std::string> text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  std::string text = *found;
  if (text.size() > kLongestText) {
    std::size_t end = kLongestText;
    while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
    text.resize(end);
  }
  return text;
}

/// A member that is a number of at least 0.
std::optional<double> amount_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double value = *found;
  return value >= 0 && value < 1e18 ? std::optional(value) : std::nullopt;
}

/// What a client sees of it; nothing if it is not as it should be.
std::optional<Json> progress_of(const Json& said) {
  if (!said.is_object()) return std::nullopt;
  const auto task = text_of(said, "task"), unit = text_of(said, "unit");
  const auto done = amount_of(said, "done"), total = amount_of(said, "total");
  const auto rate = amount_of(said, "rate"), eta = amount_of(said, "eta_seconds");
  if (!task || !unit || !done || !total || !rate) return std::nullopt;
  return Json{{"task", *task},
              {"done", static_cast<std::uint64_t>(*done)},
              {"total", *total > 0 ? Json(static_cast<std::uint64_t>(*total)) : Json()},
              {"unit", *unit},
              {"rate", *rate},
              {"eta_seconds", eta ? Json(*eta) : Json()}};
}

}  // namespace

PullDesk::PullDesk(int socket, PullRules rules) : socket_(socket), rules_(std::move(rules)) {
  reader_ = std::thread([this] { read(); });
}

PullDesk::~PullDesk() {
  ::shutdown(socket_, SHUT_RDWR);
  reader_.join();
  ::close(socket_);
}

Json PullDesk::pull(const std::string& model) {
  if (!rules_.allow(model)) {
    throw ApiError(403,
                   fmt::format("'{}' is none of the models that this server may fetch (GET "
                               "/v1/pulls lists them; --allow-pull)",
                               model),
                   "model");
  }
  const std::scoped_lock lock(mutex_);
  if (!connected_) throw ApiError(503, kGone);
  const auto same = std::ranges::find(pulls_, model, &Pull::model);
  if (same != pulls_.end() && !over(*same)) return json_of(*same);
  const auto waiting = std::ranges::count(pulls_, Status::Waiting, &Pull::status);
  if (static_cast<std::size_t>(waiting) >= kMostWaiting) {
    throw ApiError(429, fmt::format("{} models wait to be fetched already", waiting));
  }
  if (same != pulls_.end()) pulls_.erase(same);
  pulls_.push_back({.model = model, .created = now()});
  start_next();
  forget_old();
  return json_of(pulls_.back());
}

Json PullDesk::cancel(const std::string& model) {
  const std::scoped_lock lock(mutex_);
  const auto found = std::ranges::find(pulls_, model, &Pull::model);
  if (found == pulls_.end()) {
    throw ApiError(404, fmt::format("nobody asked for '{}' to be fetched", model), "model");
  }
  if (found->status == Status::Waiting) found->status = Status::Cancelled;
  // It says itself when it has stopped.
  if (found->status == Status::Running) send({{"cancel", model}});
  return json_of(*found);
}

Json PullDesk::list() const {
  const std::scoped_lock lock(mutex_);
  Json data = Json::array();
  for (const Pull& pull : pulls_) data.push_back(json_of(pull));
  return {{"object", "list"}, {"allowed", rules_.allowed()}, {"data", std::move(data)}};
}

Json PullDesk::json_of(const Pull& pull) {
  constexpr std::array kNames{"waiting", "running", "done", "failed", "cancelled"};
  Json json{
      {"object", "pull"},          {"model", pull.model},
      {"created", pull.created},   {"status", kNames.at(static_cast<std::size_t>(pull.status))},
      {"progress", pull.progress}, {"name", pull.status == Status::Done ? Json(pull.name) : Json()},
      {"error", nullptr}};
  if (pull.status == Status::Failed) {
    json["error"] = {{"code", pull.code}, {"message", pull.message}};
  }
  return json;
}

void PullDesk::read() {
  std::string pending;
  char block[4096];
  while (true) {
    const ssize_t count = ::recv(socket_, block, sizeof block, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    pending.append(block, static_cast<std::size_t>(count));
    std::size_t begin = 0;
    bool good = true;
    for (std::size_t end; good && (end = pending.find('\n', begin)) != std::string::npos;) {
      good = take(std::string_view(pending).substr(begin, end - begin));
      begin = end + 1;
    }
    pending.erase(0, begin);
    if (!good || pending.size() > kLongestLine) break;
  }
  ::shutdown(socket_, SHUT_RDWR);
  const std::scoped_lock lock(mutex_);
  connected_ = false;
  for (Pull& pull : pulls_) {
    if (over(pull)) continue;
    pull.status = Status::Failed;
    pull.code = "internal";
    pull.message = kGone;
  }
}

bool PullDesk::take(std::string_view line) {
  const std::optional<Json> said = parse_inner(line);
  if (!said || !said->is_object() || said->size() != 1) return false;
  const std::string& kind = said->begin().key();
  const Json& value = said->begin().value();
  const std::scoped_lock lock(mutex_);
  Pull* pull = running();
  if (pull == nullptr) return false;
  if (kind == "progress") {
    const auto progress = progress_of(value);
    if (progress) pull->progress = *progress;
    return progress.has_value();
  }
  if (kind == "done") {
    const auto name = text_of(*said, "done");
    if (!name) return false;
    pull->status = Status::Done;
    pull->name = *name;
  } else if (kind == "failed" && value.is_object()) {
    const auto code = text_of(value, "code"), message = text_of(value, "message");
    if (!code || !message) return false;
    pull->status = *code == "cancelled" ? Status::Cancelled : Status::Failed;
    pull->code = *code;
    pull->message = *message;
  } else {
    return false;
  }
  start_next();
  forget_old();
  return true;
}

PullDesk::Pull* PullDesk::running() {
  const auto found = std::ranges::find(pulls_, Status::Running, &Pull::status);
  return found == pulls_.end() ? nullptr : &*found;
}

void PullDesk::send(const Json& line) {
  const std::string text = line.dump() + "\n";
  // It reads at once whatever it does: a full socket is a process that has stopped. Its end is told
  // of by the reader.
  const ssize_t sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(text.size())) ::shutdown(socket_, SHUT_RDWR);
}

void PullDesk::start_next() {
  if (running() != nullptr) return;
  const auto next = std::ranges::find(pulls_, Status::Waiting, &Pull::status);
  if (next == pulls_.end()) return;
  next->status = Status::Running;
  send({{"pull", next->model}});
}

void PullDesk::forget_old() {
  auto ended = static_cast<std::size_t>(std::ranges::count_if(pulls_, over));
  for (auto at = pulls_.begin(); ended > kMostEnded && at != pulls_.end();) {
    if (!over(*at)) {
      ++at;
      continue;
    }
    at = pulls_.erase(at);
    --ended;
  }
}

}  // namespace fathom::server
