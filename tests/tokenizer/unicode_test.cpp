// UTF-8 decoding, character classes and normal form C.
#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

#include <ctime>

#include "tokenizer/tokenizer.h"

namespace fathom {
namespace {

TEST(Utf8, ReplacesEveryMaximalIllFormedPartByOneCharacter) {
  // The Unicode standard's own example (version 16, section 3.9, tables 3-8 to 3-11).
  EXPECT_EQ(to_valid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\x41");
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\x41");
  EXPECT_EQ(to_valid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\x41\uFFFD\uFFFD\x42");
  EXPECT_EQ(to_valid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFD\x41");
}

TEST(Utf8, DecodesWhatItAppendsForEveryScalarValue) {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    text.clear();
    unicode::append(text, c);
    const unicode::Char back = unicode::decode(text.data(), text.data() + text.size());
    ASSERT_TRUE(back.well_formed);
    ASSERT_EQ(back.code_point, c);
    ASSERT_EQ(back.length, text.size());
  }
}

TEST(UnicodeClasses, AreTheOraclesRegexEngines) {
  const unicode::ClassTable& table = unicode::classes();
  EXPECT_TRUE(table[U'ß'] & unicode::kLetter);
  EXPECT_TRUE(table[U'Ⅷ'] & unicode::kNumber);
  EXPECT_TRUE(table[0x85] & unicode::kSpace);
  EXPECT_FALSE(table[0x200B] & unicode::kSpace);
  EXPECT_TRUE(table[U'€'] & unicode::kSymbol);
  EXPECT_TRUE(table[0x1C89] & unicode::kLetter);    // new in Unicode 16
  EXPECT_FALSE(table[0x11DE0] & unicode::kNumber);  // new in 17: a digit for Digits only
  EXPECT_TRUE(table[0x11DE0] & unicode::kDigit);
  EXPECT_EQ(table[0x10FFFF] & unicode::kLetter, 0);
}

TEST(NormalFormC, ComposesDecomposesAndReorders) {
  EXPECT_EQ(unicode::nfc("e\u0301"), "é");
  EXPECT_EQ(unicode::nfc("\u212B"), "Å");                     // the ångström sign
  EXPECT_EQ(unicode::nfc("q\u0307\u0323"), "q\u0323\u0307");  // marks in order of their class
  EXPECT_EQ(unicode::nfc("d\u0323\u0307"), "\u1E0D\u0307");   // blocked: no d with dot above
  EXPECT_EQ(unicode::nfc("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(unicode::nfc("\u0958"), "\u0915\u093C");      // excluded from composition
  EXPECT_EQ(unicode::nfc("e\xFF\u0301"), "e\xFF\u0301");  // nothing joins across bad bytes
  EXPECT_EQ(unicode::nfc(""), "");
}

TEST(NormalFormC, IsSureOnlyOfTextThatItLeavesAlone) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text = "a";
    unicode::append(text, c);
    if (unicode::is_surely_nfc(text)) {
      ASSERT_EQ(unicode::nfc(text), text) << std::hex << static_cast<std::uint32_t>(c);
    }
  }
}

TEST(NormalFormC, TakesNoQuadraticTimeOnMarksInTheWrongOrder) {
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += i % 2 ? "\u0323" : "\u0301";
  const std::clock_t start = std::clock();
  const std::string normal = unicode::nfc(text);
  EXPECT_TRUE(normal.starts_with("\u1EA1\u0323"));  // "a" and the first dot below are one
  EXPECT_TRUE(normal.ends_with("\u0301\u0301"));
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 5.0);
}

}  // namespace
}  // namespace fathom
