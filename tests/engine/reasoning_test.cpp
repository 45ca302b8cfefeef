#include "engine/reasoning.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

constexpr TokenId kOpen{1};
constexpr TokenId kClose{2};
const ReasoningMarkers kByToken{kOpen, kClose};
const ReasoningMarkers kByText{};

struct Parts {
  std::string reasoning;
  std::string answer;
  void add(const std::vector<Segment>& segments) {
    for (const Segment& segment : segments) {
      EXPECT_FALSE(segment.text.empty());
      (segment.channel == Channel::Reasoning ? reasoning : answer) += segment.text;
    }
  }
};

/// The text in pieces of `size` bytes.
Parts parse_text(const std::string& text, bool inside, std::size_t size) {
  ReasoningParser parser(kByText, inside);
  Parts parts;
  for (std::size_t at = 0; at < text.size(); at += size) {
    parts.add(parser.push(std::string_view(text).substr(at, size)));
  }
  parts.add(parser.finish());
  return parts;
}

TEST(Reasoning, TokensDivideThinkingFromAnswer) {
  ReasoningParser parser(kByToken, false);
  Parts parts;
  ASSERT_TRUE(parser.is_marker(kOpen));
  ASSERT_FALSE(parser.is_marker(TokenId{7}));
  parser.mark(kOpen);
  parts.add(parser.push("\nHmm, "));
  parts.add(parser.push("yes.\n"));
  parser.mark(kClose);
  parts.add(parser.push("\n\nYes. </think> is text here."));
  parts.add(parser.finish());
  EXPECT_EQ(parts.reasoning, "Hmm, yes.\n");
  EXPECT_EQ(parts.answer, "Yes. </think> is text here.");
}

TEST(Reasoning, APromptThatOpenedTheThinkingStartsInside) {
  ReasoningParser parser(kByToken, true);
  Parts parts;
  parts.add(parser.push("Hmm."));
  EXPECT_EQ(parser.channel(), Channel::Reasoning);
  parser.mark(kClose);
  parts.add(parser.push("Yes."));
  EXPECT_EQ(parts.reasoning, "Hmm.");
  EXPECT_EQ(parts.answer, "Yes.");
}

TEST(Reasoning, TextDividesWhereverItIsCut) {
  for (std::size_t size = 1; size < 40; ++size) {
    const Parts both =
        parse_text("\n<think>\nHmm < or </thin?\n</think>\n\nYes </think>.", false, size);
    EXPECT_EQ(both.reasoning, "Hmm < or </thin?\n") << size;
    EXPECT_EQ(both.answer, "Yes </think>.") << size;
    const Parts inside = parse_text("Hmm.</think>Yes.", true, size);
    EXPECT_EQ(inside.reasoning, "Hmm.") << size;
    EXPECT_EQ(inside.answer, "Yes.") << size;
    const Parts plain = parse_text("  <thin> air <think>", false, size);
    EXPECT_EQ(plain.reasoning, "") << size;
    EXPECT_EQ(plain.answer, "  <thin> air <think>") << size;
  }
}

TEST(Reasoning, AnOutputThatEndsWithinAMarkerLosesNothing) {
  EXPECT_EQ(parse_text("<thi", false, 2).answer, "<thi");
  EXPECT_EQ(parse_text("Hmm</thi", true, 2).reasoning, "Hmm</thi");
  EXPECT_EQ(parse_text("<think>Hmm", false, 3).reasoning, "Hmm");
}

TEST(Reasoning, TextIsPassedOnAsSoonAsItIsCertain) {
  ReasoningParser parser(kByText, true);
  EXPECT_EQ(parser.push("Hmm <").at(0).text, "Hmm ");
  EXPECT_EQ(parser.push("b").at(0).text, "<b");
}

TEST(Reasoning, TheLastMarkerOfThePromptDecides) {
  const auto inside = [](std::vector<TokenId> prompt) {
    return prompt_ends_in_reasoning(kByToken, prompt);
  };
  EXPECT_FALSE(inside({}));
  EXPECT_FALSE(inside({TokenId{5}}));
  EXPECT_TRUE(inside({TokenId{5}, kOpen, TokenId{6}}));
  EXPECT_FALSE(inside({kOpen, kClose, TokenId{6}}));
  EXPECT_TRUE(inside({kOpen, kClose, kOpen}));
  EXPECT_TRUE(prompt_ends_in_reasoning(kByText, "x</think>y<think>\n"));
  EXPECT_FALSE(prompt_ends_in_reasoning(kByText, "x<think>y</think>"));
  EXPECT_FALSE(prompt_ends_in_reasoning(kByText, "x"));
}

}  // namespace
}  // namespace fathom
