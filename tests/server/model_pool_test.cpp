#include "server/model_pool.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <thread>

#include <atomic>

#include "engine/fake_model.h"
#include "server/api_error.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
using server::ApiError;
using server::ModelPool;
using server::ModelSource;
using testing::HasSubstr;

server::ServedModel small_model(const std::string& name, std::chrono::milliseconds delay = {}) {
  auto fake = std::make_unique<FakeModel>(alphabet);
  fake->delay = delay;
  server::ServedModel model;
  model.name = name;
  model.chat = std::make_unique<ChatFormat>(kTemplate, small_tokenizer());
  model.sampling.temperature = 0;
  model.fingerprint = "fp_" + name;
  model.engine = std::make_unique<Engine>(std::move(fake), small_tokenizer());
  return model;
}

class ModelPoolTest : public testing::Test {
 protected:
  ModelSource source(const std::string& name) {
    return {name, 1, [this] { return bytes; },
            [this, name] {
              loads.push_back(name);
              std::this_thread::sleep_for(load_time);
              if (fails) fail(ErrorCode::Corrupt, "the file is damaged");
              return small_model(name);
            }};
  }
  void make(std::uint64_t memory, std::chrono::milliseconds unload_after = {}) {
    server::ModelPoolOptions options{
        {"default-name"}, memory, [this] { return available.load(); }, unload_after};
    pool = std::make_shared<ModelPool>(
        [this] { return std::vector<ModelSource>{source("a"), source("b"), source("c")}; },
        options);
  }
  std::vector<std::string> in_memory() const {
    std::vector<std::string> names;
    for (const auto& model : pool->loaded()) names.push_back(model->name);
    return names;
  }
  static int status_of(const std::function<void()>& work) {
    try {
      work();
    } catch (const ApiError& error) {
      return static_cast<int>(error.status());
    }
    return 200;
  }

  std::uint64_t bytes = 100;
  std::atomic<std::uint64_t> available = 1000;
  bool fails = false;
  std::chrono::milliseconds load_time{0};
  std::vector<std::string> loads;
  std::shared_ptr<ModelPool> pool;
};

TEST_F(ModelPoolTest, ModelsAreLoadedOnceWhenTheyAreAskedFor) {
  make(0);
  EXPECT_EQ(pool->list().size(), 3U);
  EXPECT_TRUE(loads.empty());
  EXPECT_EQ(pool->find("b"), nullptr);
  EXPECT_EQ(pool->load("b")->name, "b");
  EXPECT_EQ(pool->find("b")->name, "b");
  pool->load("b");
  EXPECT_THAT(loads, testing::ElementsAre("b"));
}

TEST_F(ModelPoolTest, NoNameAndAliasesMeanTheFirst) {
  make(0);
  EXPECT_EQ(pool->find({}), nullptr);
  pool->load("default-name");
  EXPECT_EQ(pool->find({})->name, "a");
  EXPECT_EQ(pool->find("default-name")->name, "a");
  EXPECT_EQ(status_of([&] { pool->find("d"); }), 404);
  EXPECT_EQ(status_of([&] { pool->load("../a"); }), 404);
}

TEST_F(ModelPoolTest, TheLeastRecentlyUsedGoesFirst) {
  make(200);
  pool->load("a");
  pool->load("b");
  pool->find("a");
  pool->load("c");
  EXPECT_THAT(in_memory(), testing::ElementsAre("a", "c"));
}

TEST_F(ModelPoolTest, WhatIsInUseStays) {
  make(200);
  const ModelPool::Held a = pool->load("a");
  pool->load("b");
  pool->find("b");
  pool->load("c");
  EXPECT_THAT(in_memory(), testing::ElementsAre("a", "c")) << "a is older, but held";
  const ModelPool::Held c = pool->find("c");
  EXPECT_EQ(status_of([&] { pool->load("b"); }), 503);
  EXPECT_THAT(in_memory(), testing::ElementsAre("a", "c"));
}

TEST_F(ModelPoolTest, WhatIsAboutToBeLetGoIsWaitedFor) {
  make(100);
  ModelPool::Held a = pool->load("a");
  std::thread soon([&] {
    ::usleep(30'000);
    a.reset();
  });
  EXPECT_EQ(pool->load("b")->name, "b");
  soon.join();
  EXPECT_THAT(in_memory(), testing::ElementsAre("b"));
}

TEST_F(ModelPoolTest, WhatTheMachineHasLeftCountsToo) {
  make(0);
  pool->load("a");
  available = 50;
  // Nothing is known of what unloading gives back: all go, then the loader has the word.
  pool->load("b");
  EXPECT_THAT(in_memory(), testing::ElementsAre("b"));
}

TEST_F(ModelPoolTest, OneThatIsTooLargeForTheServerUnloadsNobody) {
  make(200);
  pool->load("a");
  bytes = 300;
  EXPECT_THROW(pool->load("b"), Error);
  EXPECT_THAT(in_memory(), testing::ElementsAre("a"));
}

TEST_F(ModelPoolTest, OneThatCannotBeLoadedIsTriedAgainNextTime) {
  make(0);
  fails = true;
  EXPECT_THROW(pool->load("a"), Error);
  EXPECT_EQ(pool->find("a"), nullptr);
  fails = false;
  EXPECT_EQ(pool->load("a")->name, "a");
}

TEST_F(ModelPoolTest, WhatNobodyAsksForIsUnloaded) {
  make(0, std::chrono::milliseconds(50));
  ModelPool::Held a = pool->load("a");
  pool->load("b");
  for (int i = 0; i < 500 && in_memory().size() > 1; ++i) ::usleep(2'000);
  EXPECT_THAT(in_memory(), testing::ElementsAre("a")) << "a is held";
  a.reset();
  for (int i = 0; i < 500 && !in_memory().empty(); ++i) ::usleep(2'000);
  EXPECT_TRUE(in_memory().empty());
}

// --- behind the API -----------------------------------------------------------------------------

TEST_F(ModelPoolTest, ARequestLoadsTheModelThatItNames) {
  make(100);
  TestServer server(pool);
  const Json list = server.ask(get("/v1/models")).json();
  ASSERT_EQ(list.at("data").size(), 3U);
  EXPECT_EQ(list.at("data")[2].at("id"), "c");
  for (const char* name : {"a", "b", "c", "a"}) {
    const Reply reply = server.chat({{"model", name}});
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.json().at("model"), name);
  }
  EXPECT_THAT(loads, testing::ElementsAre("a", "b", "c", "a"));
  EXPECT_EQ(server.chat({{"model", "d"}}).status, 404);
  EXPECT_EQ(server.ask(post("/tokenize", R"({"content": "abc", "model": "b"})")).status, 200);
  EXPECT_THAT(server.ask(get("/metrics")).body, HasSubstr("fathom_models_loaded 1\n"));
}

TEST_F(ModelPoolTest, WhatUnloadedModelsHaveDoneStaysCounted) {
  make(100);
  TestServer server(pool);
  for (const char* name : {"a", "b", "c"}) ASSERT_EQ(server.chat({{"model", name}}).status, 200);
  ASSERT_EQ(in_memory().size(), 1U);
  for (int i = 0; i < 500 && pool->stats().active > 0; ++i) ::usleep(2'000);
  const SchedulerCounts now = pool->loaded().front()->engine->stats().counts;
  const SchedulerCounts all = pool->stats().counts;
  EXPECT_GT(now.steps, 0U);
  EXPECT_EQ(all.steps, 3 * now.steps) << "all wrote the same answer";
  EXPECT_EQ(all.step_requests, 3 * now.step_requests);
  EXPECT_EQ(all.step_tokens, 3 * now.step_tokens);
  EXPECT_EQ(all.steps_of[0], all.steps) << "one request at a time";
  EXPECT_THAT(server.ask(get("/metrics")).body,
              HasSubstr(fmt::format("fathom_step_requests_bucket{{le=\"64\"}} {0}\n"
                                    "fathom_step_requests_bucket{{le=\"+Inf\"}} {0}\n"
                                    "fathom_step_requests_sum {0}\n",
                                    all.steps)));
}

TEST_F(ModelPoolTest, OneThatCannotBeLoadedIsTheAnswer) {
  make(0);
  fails = true;
  TestServer server(pool);
  const Reply reply = server.chat({{"model", "a"}});
  EXPECT_EQ(reply.status, 500);
  EXPECT_THAT(reply.body, HasSubstr("damaged"));
  EXPECT_EQ(server.ask(get("/health")).status, 200);
}

server::ListenerOptions impatient() {
  server::ListenerOptions options;
  options.comment_interval = std::chrono::milliseconds(20);
  return options;
}

TEST_F(ModelPoolTest, AStreamIsKeptAliveWhileItsModelIsLoaded) {
  make(0);
  load_time = std::chrono::milliseconds(150);
  TestServer server(pool, impatient());
  const Reply reply = server.chat({{"stream", true}, {"max_tokens", 2}, {"model", "a"}});
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.body.starts_with(": keep-alive\n\n")) << reply.body;
  EXPECT_EQ(reply.events().back(), "[DONE]");
  // What does not stream has a status still to come.
  EXPECT_TRUE(server.chat({{"model", "b"}}).body.starts_with("{"));
}

TEST_F(ModelPoolTest, WhatCannotBeLoadedEndsAStreamThatWasKeptAlive) {
  make(0);
  load_time = std::chrono::milliseconds(150);
  fails = true;
  TestServer server(pool, impatient());
  const Reply reply = server.chat({{"stream", true}, {"model", "a"}});
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.body.starts_with(": keep-alive\n\n")) << reply.body;
  const std::vector<std::string> events = reply.events();
  ASSERT_EQ(events.size(), 2U);
  const Json error = Json::parse(events[0]).at("error");
  EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("damaged"));
  EXPECT_EQ(events[1], "[DONE]");
  const Json asked{{"model", "a"},
                   {"max_tokens", 2},
                   {"stream", true},
                   {"messages", {{{"role", "user"}, {"content", "a"}}}}};
  const Reply message = server.ask(post("/v1/messages", asked.dump()));
  EXPECT_EQ(events_of(message).back().at("type"), "error");
  const Json input{{"model", "a"}, {"stream", true}, {"input", "a"}};
  const Reply response = server.ask(post("/v1/responses", input.dump()));
  EXPECT_THAT(events_of(response).back().at("message").get<std::string>(), HasSubstr("damaged"));
  // Before the first comment there is a status to tell it by.
  load_time = {};
  EXPECT_EQ(server.chat({{"stream", true}, {"model", "a"}}).status, 500);
}

/// More clients than there is memory for models: each is answered, by the model it asked for, or
/// told to come back.
TEST_F(ModelPoolTest, ClientsOfManyModelsShareLittleMemory) {
  make(100);
  TestServer server(pool);
  std::atomic<int> good = 0, later = 0, bad = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&, i] {
      const std::string name(1, static_cast<char>('a' + i % 3));
      for (int round = 0; round < 5; ++round) {
        const Reply reply = server.chat({{"model", name}});
        const bool right = reply.status == 200 && reply.json().at("model") == name;
        ++(right ? good : reply.status == 503 ? later : bad);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(good + later, 30);
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace fathom
