// Any request to the server's API, without the wire: a line "METHOD PATH", header lines, an empty
// line, and the body. Each must end in a response that is JSON and no "internal error", or in an
// answer that runs to its end, or to where its client leaves ("leave: N", after N events).
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "server_fuzz.h"

namespace {

using namespace fathom;
using fuzz::insist;

constexpr const char* kKey = "a-key-of-some-length";

struct Input {
  server::HttpRequest request;
  std::size_t leave = SIZE_MAX;
};

/// Up to `end`, which is dropped.
std::string_view cut(std::string_view& rest, std::string_view end) {
  const std::size_t at = rest.find(end);
  const std::string_view found = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + end.size());
  return found;
}

Input read(std::string_view text) {
  Input input;
  server::HttpRequest& request = input.request;
  request.host = "localhost";
  request.content_type = "application/json";
  std::string_view first = cut(text, "\n");
  request.method = cut(first, " ");
  request.path = first;
  while (!text.empty()) {
    std::string_view line = cut(text, "\n");
    if (line.empty()) break;
    const std::string_view name = cut(line, ": ");
    if (name == "host") request.host = line;
    if (name == "origin") request.origin = line;
    if (name == "content-type") request.content_type = line;
    if (name == "authorization") request.authorization = line;
    if (name == "x-api-key") request.x_api_key = line;
    if (name == "leave") input.leave = line.size();
  }
  request.body = text;
  return input;
}

/// What the engine says, for this thread.
struct Inbox {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::pair<std::size_t, Event>> events;

  void put(std::size_t choice, Event event) {
    const std::scoped_lock lock(mutex);
    events.emplace_back(choice, std::move(event));
    changed.notify_one();
  }
  std::pair<std::size_t, Event> take() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !events.empty(); });
    auto event = std::move(events.front());
    events.pop_front();
    return event;
  }
};

void check(const server::HttpResponse& response) {
  insist(response.status >= 200 && response.status < 600 && response.status != 500);
  insist(response.status == 204 || response.content_type != "application/json" ||
         server::Json::accept(response.body));
}

void run(server::Generation& generation, std::size_t leave) {
  const auto inbox = std::make_shared<Inbox>();
  try {
    generation.start(
        [inbox](std::size_t choice, Event event) { inbox->put(choice, std::move(event)); });
  } catch (const server::ApiError& error) {
    check(generation.refusal(error));
    return;
  }
  std::string sent;
  for (std::size_t taken = 0; !generation.done(); ++taken) {
    if (taken == leave) return;
    auto [choice, event] = inbox->take();
    sent += generation.take(choice, std::move(event));
  }
  if (generation.streams()) {
    fuzz::check_events(sent);
  } else {
    insist(sent.empty());
    check(generation.result());
  }
}

server::ApiOptions with_key() {
  server::ApiOptions options;
  options.keys = {kKey};
  options.origins = {"https://chat.example.org"};
  return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::unique_ptr<server::Api> open = fuzz::make_api({});
  static const std::unique_ptr<server::Api> locked = fuzz::make_api(with_key());
  const Input input = read({reinterpret_cast<const char*>(data), size});
  const server::HttpRequest& request = input.request;
  const bool shows_key =
      request.authorization == std::string("Bearer ") + kKey ||
      (!request.authorization.starts_with("Bearer ") && request.x_api_key == kKey);
  const auto refused = locked->refuse(request);
  insist(refused || shows_key || request.method == "OPTIONS");
  if (refused) check(*refused);
  for (const auto& [name, value] : locked->cross_origin_headers(request)) {
    insist(value.find_first_of("\r\n") == std::string::npos);
  }
  if (const auto no = open->refuse(request)) {
    check(*no);
    return 0;
  }
  server::Api::Answer answer = open->handle(request);
  if (const auto* response = std::get_if<server::HttpResponse>(&answer)) {
    check(*response);
  } else {
    run(*std::get<std::unique_ptr<server::Generation>>(answer), input.leave);
  }
  return 0;
}
