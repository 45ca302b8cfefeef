// Several thoughts, one answer.
#include "server/consistency.h"

#include <gmock/gmock.h>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using server::final_answer;
using server::majority;

TEST(Consistency, AnswersComeDownToWhatTheySay) {
  EXPECT_EQ(final_answer("So it is $\\boxed{\\frac{1}{2}}$."), "\\frac{1}{2}");
  EXPECT_EQ(final_answer("first \\boxed{1}, then \\boxed{ 2 }"), "2");
  EXPECT_EQ(final_answer("He has 5.\n#### 18\n"), "18");
  EXPECT_EQ(final_answer("{\"b\": 1,\n \"a\": [2]}"), final_answer("{\"a\":[2],\"b\":1}"));
  EXPECT_EQ(final_answer("  Paris.\n"), "paris");
  EXPECT_EQ(final_answer("\\boxed{never closed"), "\\boxed{never closed");
  EXPECT_EQ(final_answer(""), "");
}

TEST(Consistency, TheLargestGroupWinsAndTheFirstOfEqualOnes) {
  const auto verdict = majority({"a", "B.", "b", "c", "C"}, {true, true, true, true, true});
  EXPECT_EQ(verdict.chosen, 1U);
  ASSERT_EQ(verdict.votes.size(), 3U);
  EXPECT_EQ(verdict.votes[0].answer, "b");
  EXPECT_EQ(verdict.votes[0].count, 2U);
  EXPECT_EQ(verdict.votes[1].answer, "c");
  EXPECT_EQ(majority({"x", "x", "y"}, {false, false, true}).chosen, 2U)
      << "cut off ones do not vote";
  EXPECT_EQ(majority({"x", "y", "y"}, {false, false, false}).chosen, 1U) << "unless all were";
}

TEST(Consistency, AServerGivesTheMajoritysAnswer) {
  // From u, of three requests two go on to v and end, one to w.
  const auto turn = std::make_shared<int>(0);
  TestServer server({}, {}, {}, [turn](TokenId last, std::size_t) {
    if (last == ids("u")[0]) return (*turn)++ % 3 == 1 ? ids("w")[0] : ids("v")[0];
    return kEnd;
  });
  const Json body = server.chat({{"self_consistency", 3}}).json();
  ASSERT_EQ(body.at("choices").size(), 1U) << body;
  const Json& choice = body.at("choices")[0];
  EXPECT_EQ(choice.at("message").at("content"), "v");
  EXPECT_EQ(choice.at("self_consistency").at("k"), 3);
  EXPECT_EQ(choice.at("self_consistency").at("votes"),
            (Json::array({{{"answer", "v"}, {"count", 2}}, {{"answer", "w"}, {"count", 1}}})));
  EXPECT_EQ(body.at("usage").at("completion_tokens"), 6) << "all of them are written";
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), 1) << "and the prompt is one";

  const auto events = server.chat({{"self_consistency", 3}, {"stream", true}}).events();
  std::string text;
  Json votes;
  for (std::size_t i = 0; i + 1 < events.size(); ++i) {
    const Json each = Json::parse(events[i]).at("choices")[0];
    text += each.at("delta").value("content", "");
    if (each.contains("self_consistency")) votes = each.at("self_consistency");
  }
  EXPECT_EQ(text, "v");
  EXPECT_EQ(votes.at("votes")[0].at("count"), 2);
  EXPECT_EQ(server.chat({{"self_consistency", 3}, {"n", 2}}).status, 400);
  EXPECT_EQ(server.chat({{"self_consistency", 0}}).status, 400);
}

}  // namespace
}  // namespace fathom
