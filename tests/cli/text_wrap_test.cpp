#include "cli/text_wrap.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

/// The text in pieces of `size` bytes.
std::string wrap(const std::string& text, std::size_t width, std::size_t size = 1) {
  TextWrap wrapper(width);
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += size) out += wrapper.push(text.substr(at, size));
  return out + wrapper.finish();
}

TEST(TextWrap, BreaksBetweenWordsWhereverTheTextIsCut) {
  for (std::size_t size = 1; size < 20; ++size) {
    EXPECT_EQ(wrap("the quick brown fox jumps", 10, size), "the quick\nbrown fox\njumps");
  }
}

TEST(TextWrap, HoldsAWordBackUntilItIsComplete) {
  TextWrap wrapper(20);
  EXPECT_EQ(wrapper.push("one tw"), "one");
  EXPECT_EQ(wrapper.push("o "), " two");
  EXPECT_EQ(wrapper.push("\n"), "\n");
  EXPECT_EQ(wrapper.push("x"), "");
  EXPECT_EQ(wrapper.finish(), "x");
}

TEST(TextWrap, KeepsLineBreaksAndIndents) { EXPECT_EQ(wrap("a\n\n  b c\n", 10), "a\n\n  b c\n"); }

TEST(TextWrap, ListsContinueUnderTheirText) {
  EXPECT_EQ(wrap("- one two three", 10), "- one two\n  three");
  EXPECT_EQ(wrap("12. one two three", 12), "12. one two\n    three");
}

TEST(TextWrap, LeavesFencedCodeAlone) {
  const std::string code = "```\nint a_long_line = of_code(that, must, stay);\n```\n";
  EXPECT_EQ(wrap(code, 20), code);
  EXPECT_EQ(wrap(code + "then words again here", 12), code + "then words\nagain here");
}

TEST(TextWrap, CutsAWordLongerThanALine) { EXPECT_EQ(wrap("abcdefghij", 4), "abcd\nefgh\nij"); }

TEST(TextWrap, WideCharactersTakeTwoColumnsAndBreakAnywhere) {
  EXPECT_EQ(display_width("\u6df1\u6d77a\u0301"), 5U);
  EXPECT_EQ(wrap("\u6df1\u6df1\u6df1\u6df1\u6df1", 4, 2), "\u6df1\u6df1\n\u6df1\u6df1\n\u6df1");
}

TEST(TextWrap, WithoutAWidthNothingIsHeldBack) {
  TextWrap wrapper(0);
  EXPECT_EQ(wrapper.push("a very long wo"), "a very long wo");
}

}  // namespace
}  // namespace fathom
