// tokenizer.json files as large as they may be, that are refused, and how much memory that takes.
#include <gmock/gmock.h>

#include <fstream>
#include <functional>

#include "base/error.h"
#include "base/peak_memory.h"
#include "formats/test_files.h"
#include "tokenizer/tokenizer_file.h"

namespace fathom {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::peak_mib_of;
using testing::ScratchFolder;
using Limits = TokenizerFileLimits;

constexpr std::size_t kLarge = Limits::kFileBytes - (4u << 20);

using Writer = std::function<void(std::ostream& out)>;

/// Expects that the file is refused for `about`, in under 64 MiB.
void expect_refused(const Writer& write, ErrorCode code, const std::string& about) {
  const ScratchFolder folder;
  const auto path = folder.path() / "tokenizer.json";
  {
    std::ofstream out(path, std::ios::binary);
    write(out);
  }
  const int peak = peak_mib_of([&] {
    const auto caught = error_of([&] { read_tokenizer_file(path); });
    EXPECT_EQ(caught.code, code) << caught.message;
    EXPECT_THAT(caught.message, HasSubstr(about));
    EXPECT_THAT(caught.message, HasSubstr("tokenizer.json"));
    EXPECT_LT(caught.message.size(), 700u);
  });
  EXPECT_LT(peak, 64) << about;
}

/// `head`, then what `item` writes for 0, 1, 2, ... until the file is large.
Writer endless(const char* head, const std::function<void(std::ostream&, std::size_t)>& item) {
  return [=](std::ostream& out) {
    out << head;
    for (std::size_t i = 0; static_cast<std::size_t>(out.tellp()) < kLarge; ++i) item(out, i);
  };
}

TEST(HostileTokenizer, RefusesEndlessListsInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  expect_refused(
      endless(R"({"model":{"vocab":{"x":0)",
              [](std::ostream& out, std::size_t i) { out << ",\"a" << i << "\":" << i + 1; }),
      ErrorCode::ResourceLimit, "'model.vocab' has over");
  expect_refused(endless(R"({"model":{"merges":["a b")",
                         [](std::ostream& out, std::size_t) { out << ",\"a b\""; }),
                 ErrorCode::ResourceLimit, "'model.merges' has over");
  expect_refused(
      endless(R"({"added_tokens":[1)", [](std::ostream& out, std::size_t) { out << ",1"; }),
      ErrorCode::ResourceLimit, "values beside the vocabulary");
  expect_refused(endless(R"({"added_tokens":[{})",
                         [](std::ostream& out, std::size_t) { out << ",{\"a\":{\"b\":[[]]}}"; }),
                 ErrorCode::ResourceLimit, "values beside the vocabulary");
}

TEST(HostileTokenizer, RefusesLongTextsInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  const std::string megabyte(1'000'000, 'a');
  const auto long_text = [&](std::ostream& out, std::size_t) { out << megabyte; };
  expect_refused(endless(R"({"version":")", long_text), ErrorCode::ResourceLimit,
                 "token over 1048576 bytes");
  expect_refused(endless("{\"version\":1", long_text), ErrorCode::ResourceLimit,
                 "token over 1048576 bytes");
  expect_refused(
      endless(R"({"version":"\\)", [](std::ostream& out, std::size_t) { out << R"(\\)"; }),
      ErrorCode::ResourceLimit, "token over 1048576 bytes");
  const auto long_texts = [&](std::ostream& out, std::size_t i) {
    out << ",\"" << i << megabyte << "\":" << i;
  };
  expect_refused(endless(R"({"model":{"vocab":{"x":0)", long_texts), ErrorCode::ResourceLimit,
                 "'model.vocab' has over");
  expect_refused(endless(R"({"model":{"x":0)", long_texts), ErrorCode::ResourceLimit,
                 "bytes of text beside the vocabulary");
  expect_refused(
      endless(R"({"model":{"merges":["a b")",
              [&](std::ostream& out, std::size_t) { out << ",[\"" << megabyte << "\",\"b\"]"; }),
      ErrorCode::ResourceLimit, "'model.merges' has over");
}

TEST(HostileTokenizer, RefusesNestingAndSize) {
  expect_refused(endless("{\"a\":", [](std::ostream& out, std::size_t) { out << "[["; }),
                 ErrorCode::ResourceLimit, "nested over 64 deep");
  expect_refused(
      [](std::ostream& out) {
        out.seekp(Limits::kFileBytes);
        out << "{}";
      },
      ErrorCode::ResourceLimit, "at most");
}

// As large as the largest that people use, and wrong only in its last byte.
TEST(HostileTokenizer, RefusesALargeVocabularyCutAtItsEndInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  expect_refused(
      [](std::ostream& out) {
        out << R"({"model":{"vocab":{"x":0)";
        for (int i = 1; i < 300'000; ++i) out << ",\n      \"token" << i << "\": " << i;
        out << R"(},"merges":[["a","b"])";
        for (int i = 1; i < 600'000; ++i) {
          out << ",\n      [\n        \"tok\",\n        \"en" << i << "\"\n      ]";
        }
        out << "]}";
      },
      ErrorCode::Corrupt, "not JSON at byte");
}

TEST(HostileTokenizer, RefusesAConfigurationOfTooManyValues) {
  const ScratchFolder folder;
  std::string text = "[1";
  while (text.size() < Limits::kConfigBytes - 2) text += ",1";
  const auto path = folder.write("tokenizer_config.json", text + "]");
  text = {};
  EXPECT_LT(peak_mib_of([&] {
              const auto caught = error_of([&] { read_tokenizer_config(path); });
              EXPECT_EQ(caught.code, ErrorCode::ResourceLimit) << caught.message;
            }),
            64);
}

}  // namespace
}  // namespace fathom
