// Which experts the tokens of a request went to, whatever the scheduler did with it meanwhile.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/scheduler_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary

class RoutingRecord : public SchedulerFixture {};

/// The experts that FakeModel chooses for all tokens of a request but the last.
std::vector<std::int32_t> routing_of(const Request& request, const Reader& reader) {
  std::vector<TokenId> tokens = request.prompt;
  tokens.insert(tokens.end(), reader.tokens.begin(), reader.tokens.end());
  std::vector<std::int32_t> routing;
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    for (int layer = 0; layer < 2; ++layer) {
      routing.push_back((value(tokens[i]) + layer) % 16);
      routing.push_back((static_cast<int>(i) + layer) % 16);
    }
  }
  return routing;
}

TEST_F(RoutingRecord, IsOfAllTokensThatWereRead) {
  // Too small for all: some are sent back and begin again.
  SchedulerOptions options;
  options.context_tokens = 128;
  options.cache.capacity_tokens = 3 * 64;
  start(options);
  Reader before;
  add(greedy(std::string(50, 'm') + "t"), before);  // stays in the cache, its experts unknown
  run_to_end();
  EXPECT_TRUE(before.end->routing.empty());
  std::vector<Request> requests;
  for (const char* end : {"a", "k", "a", "f", "x"}) {
    requests.push_back(greedy(std::string(50, 'm') + end));
    requests.back().record_routing = true;
  }
  std::vector<Reader> readers(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) add(requests[i], readers[i]);
  run_to_end();
  EXPECT_GT(scheduler->stats().counts.preemptions, 0U);
  std::size_t cached = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(readers[i].end->routing, routing_of(requests[i], readers[i])) << i;
    cached += readers[i].end->usage.cached_tokens;
  }
  EXPECT_GE(cached, 50U) << "prompts are shared among those whose experts are known";
  EXPECT_EQ(readers[0].end->usage.cached_tokens, 0U) << "and not with others";
}

}  // namespace
}  // namespace fathom
