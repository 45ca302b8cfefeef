// Accounts share the model, whatever each of them asks for.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/scheduler_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary

class FairnessTest : public SchedulerFixture {
 protected:
  Request of(std::uint64_t account, Request request) {
    request.account = account;
    request.cache_scope = account;
    return request;
  }
};

TEST_F(FairnessTest, AKeyWithManyRequestsDoesNotKeepAnotherWaiting) {
  start({.cache = {.capacity_tokens = 4096}, .max_active = 2});
  std::vector<Reader> many(20);
  for (Reader& reader : many) add(of(1, greedy("a", 8)), reader);
  scheduler->step();
  Reader one;
  add(of(2, greedy("k", 8)), one);
  std::size_t before = 0;
  for (int steps = 0; !one.end && steps < 1000; ++steps) scheduler->step();
  for (const Reader& reader : many) before += reader.end.has_value();
  EXPECT_LE(before, 4u) << "it gets the next place that becomes free";
  run_to_end();
}

TEST_F(FairnessTest, PlacesAreSharedEqually) {
  start({.cache = {.capacity_tokens = 8192}, .max_active = 4});
  std::vector<Reader> first(12), second(12);
  for (Reader& reader : first) add(of(1, greedy("a", 8)), reader);
  for (Reader& reader : second) add(of(2, greedy("b", 8)), reader);
  for (int steps = 0; steps < 17; ++steps) scheduler->step();
  const auto ended = [](const std::vector<Reader>& readers) {
    return std::ranges::count_if(readers, [](const Reader& r) { return r.end.has_value(); });
  };
  EXPECT_EQ(ended(first), ended(second));
  EXPECT_GT(ended(first), 0);
  run_to_end();
}

TEST_F(FairnessTest, AShortPromptIsNotBehindALongOneOfAnotherKey) {
  start({.context_tokens = 1000, .cache = {.capacity_tokens = 8192}}, alphabet, /*max_batch=*/32);
  Reader longer, shorter;
  add(of(1, greedy(std::string(900, 'a'), 4)), longer);
  for (int steps = 0; steps < 3; ++steps) scheduler->step();
  add(of(2, greedy(std::string(40, 'b'), 4)), shorter);
  for (int steps = 0; steps < 4; ++steps) scheduler->step();
  EXPECT_FALSE(shorter.tokens.empty()) << "its two steps come by turns with the long one's";
  EXPECT_TRUE(longer.tokens.empty());
  run_to_end();
  EXPECT_EQ(longer.tokens.size(), 4u);
}

TEST_F(FairnessTest, OneKeysRequestsKeepTheirOrder) {
  start({.cache = {.capacity_tokens = 4096}, .max_active = 1});
  std::vector<Reader> readers(5);
  for (Reader& reader : readers) add(of(1, greedy("a", 2)), reader);
  std::size_t ended = 0;
  for (int steps = 0; scheduler->has_work() && steps < 100; ++steps) {
    scheduler->step();
    while (ended < readers.size() && readers[ended].end) ++ended;
    for (std::size_t i = ended; i < readers.size(); ++i) EXPECT_FALSE(readers[i].end);
  }
  EXPECT_EQ(ended, readers.size());
}

TEST_F(FairnessTest, ThousandsOfAnswersToAFewPromptsReadEachPromptOnce) {
  // All but the first to each prompt are passed over in the first step; looking through those that
  // were passed for the next would take billions of steps.
  start({.cache = {.capacity_tokens = 1 << 18}, .max_active = 64, .max_idle = 4096}, alphabet,
        /*max_batch=*/256);
  constexpr std::size_t kPrompts = 26;
  std::vector<Reader> readers(kPrompts * 128);
  for (std::size_t i = 0; i < readers.size(); ++i) {
    const std::size_t prompt = i / 128;
    add(of(prompt % 2, greedy(std::string(41, static_cast<char>('a' + prompt)), 2)), readers[i]);
  }
  scheduler->step();
  EXPECT_EQ(scheduler->stats().active, kPrompts);
  run_to_end();
  std::size_t cached = 0;
  for (const Reader& reader : readers) {
    ASSERT_TRUE(reader.end);
    cached += reader.end->usage.cached_tokens;
  }
  EXPECT_EQ(cached, (readers.size() - kPrompts) * 40);
}

}  // namespace
}  // namespace fathom
