// No memory: each allocation on a request's way fails once, and the server says so and goes on. A
// program of its own, since it replaces the operators new and delete of all of it.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "server/process.h"
#include "server/test_server.h"

namespace {

std::atomic<std::int64_t> to_failure{-1};  // allocations until one fails; negative: none will
thread_local bool exempt = false;          // what gtest and the test's own client allocate

/// Small ones do not: the JSON library's destructors make such, and have no way to fail. What a
/// server with too little memory misses first is the large ones.
constexpr std::size_t kLeastToFail = 1024;

bool fails_now(std::size_t bytes) {
  return !exempt && bytes >= kLeastToFail && to_failure.load(std::memory_order_relaxed) >= 0 &&
         to_failure-- == 0;
}

void* allocate(std::size_t bytes) {
  void* memory = fails_now(bytes) ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace fathom {
namespace {

using namespace test;  // NOLINT

struct Ask {
  const char* path;
  const char* body;
};
constexpr Ask kAsks[] = {
    {"/v1/chat/completions",
     R"({"messages": [{"role": "user", "content": "w"}], "stream": true, "n": 2, "logprobs": true,
         "stop": ["q"], "logit_bias": {"5": 1}})"},
    {"/v1/chat/completions",
     R"({"messages": [{"role": "user", "content": "w"}], "max_tokens": 20, "tools": [{"type":
         "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
         "tool_choice": "required"})"},
    {"/v1/completions", R"({"prompt": "w", "echo": true})"},
    {"/v1/messages",
     R"({"max_tokens": 9, "messages": [{"role": "user", "content": "w"}], "stream": true})"},
    {"/v1/responses", R"({"input": "w"})"},
    {"/tokenize", R"({"content": "abc"})"},
};

/// Makes allocation number `n` from here fail; at the end tells whether it was reached.
class Failure {
 public:
  explicit Failure(std::int64_t n) { to_failure = n; }
  ~Failure() { to_failure = -1; }
  bool reached() const { return to_failure < 0; }
};

TEST(Allocation, AnyOfARequestsMayFailAndTheApiSays503) {
  exempt = true;
  TestServer server;
  for (const Ask& ask : kAsks) {
    server::HttpRequest request;
    request.method = "POST";
    request.path = ask.path;
    request.host = "localhost";
    request.content_type = "application/json";
    request.body = ask.body;
    bool reached = true;
    for (std::int64_t n = 0; reached; ++n) {
      server::Api::Answer answer;
      {
        Failure failure(n);
        exempt = false;
        answer = server.api().handle(request);
        exempt = true;
        reached = failure.reached();
      }
      const auto* response = std::get_if<server::HttpResponse>(&answer);
      if (!reached) {
        EXPECT_TRUE(response == nullptr || response->status == 200) << response->body;
      } else if (response != nullptr && response->status != 200) {
        ASSERT_EQ(response->status, 503) << ask.path << ", allocation " << n << response->body;
      }
      ASSERT_LT(n, 100'000);
    }
  }
}

/// Anywhere between the bytes that come and those that go: in the listener's thread, the workers',
/// the engine's.
TEST(Allocation, TheServerOutlivesAnyThatFails) {
  exempt = true;
  server::ListenerOptions options;
  options.comment_interval = std::chrono::milliseconds(20);  // when a lost event is noticed
  TestServer server(options);
  for (const Ask& ask : kAsks) {
    bool reached = true;
    for (std::int64_t n = 0; reached; ++n) {
      {
        Failure failure(n);
        Client client(server.port());
        client.send(post(ask.path, ask.body, "Connection: close\r\n"));
        client.read_until([](const std::string&) { return false; }, std::chrono::seconds(30));
        ASSERT_TRUE(client.closed()) << ask.path << ", allocation " << n << ": it hangs";
        reached = failure.reached();
      }
      ASSERT_LT(n, 100'000);
      if (n % 16 == 0) {
        ASSERT_EQ(server.ask(get("/health")).status, 200) << ask.path << ", allocation " << n;
      }
    }
    EXPECT_EQ(server.chat({}).json().at("choices")[0].at("message").at("content"), "vwxyz");
  }
  EXPECT_TRUE(soon([&] { return server.api().metrics().connections == 0; }));
  EXPECT_TRUE(soon([&] { return server.stats().active == 0; }));
  EXPECT_EQ(server.api().metrics().body_bytes, 0);
}

}  // namespace
}  // namespace fathom
