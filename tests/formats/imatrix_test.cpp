#include "formats/imatrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"

namespace fathom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Imatrix : public ::testing::Test {
 protected:
  Imatrix() { std::filesystem::create_directories(folder_); }
  ~Imatrix() override { std::filesystem::remove_all(folder_); }

  static ImportanceMatrix example() {
    ImportanceMatrix matrix;
    matrix.entries["blk.0.attn_q.weight"] = {3, {8, 2, 0}, {4}};
    // Three experts, the second of which no token chose.
    matrix.entries["blk.1.ffn_up_exps.weight"] = {2, {3, 6, 0, 0, 10, 20}, {3, 0, 5}};
    matrix.datasets = {"text.txt"};
    matrix.chunk_count = 10;
    matrix.chunk_size = 512;
    return matrix;
  }
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  std::filesystem::path file_of(const std::string& bytes) const {
    std::ofstream(file("made"), std::ios::binary) << bytes;
    return file("made");
  }

 private:
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                  (std::string("fathom_imatrix_") +
                                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::string refusal(const std::filesystem::path& path) {
  try {
    ImportanceMatrix::read(path);
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST_F(Imatrix, ComesBackFromGguf) {
  example().write(file("a.gguf"));
  const ImportanceMatrix again = ImportanceMatrix::read(file("a.gguf"));
  const ImportanceMatrix expected = example();
  EXPECT_EQ(again.datasets, expected.datasets);
  EXPECT_EQ(again.chunk_count, 10U);
  EXPECT_EQ(again.chunk_size, 512U);
  ASSERT_EQ(again.entries.size(), 2U);
  for (const auto& [name, entry] : expected.entries) {
    const ImportanceMatrix::Entry* found = again.find(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->columns, entry.columns);
    EXPECT_EQ(found->squares, entry.squares);
    EXPECT_EQ(found->counts, entry.counts);
  }
}

TEST_F(Imatrix, MeansAreNothingForAnUnusedExpert) {
  const ImportanceMatrix matrix = example();
  const auto experts = matrix.find("blk.1.ffn_up_exps.weight")->of_shape(Shape{3, 7, 2});
  ASSERT_EQ(experts.size(), 3U);
  EXPECT_THAT(experts[0], ElementsAre(1, 2));
  EXPECT_THAT(experts[1], IsEmpty());
  EXPECT_THAT(experts[2], ElementsAre(2, 4));
}

TEST_F(Imatrix, OlderFormKeepsTheMeansAndSplitsStacksByTheWeightsShape) {
  example().write(file("a.dat"));
  const ImportanceMatrix again = ImportanceMatrix::read(file("a.dat"));
  EXPECT_EQ(again.chunk_count, 10U);
  EXPECT_THAT(again.datasets, ElementsAre("text.txt"));
  const auto plain = again.find("blk.0.attn_q.weight")->of_shape(Shape{5, 3});
  ASSERT_EQ(plain.size(), 1U);
  EXPECT_THAT(plain[0], ElementsAre(2, 0.5F, 0));
  const auto experts = again.find("blk.1.ffn_up_exps.weight")->of_shape(Shape{3, 7, 2});
  ASSERT_EQ(experts.size(), 3U);
  EXPECT_THAT(experts[0], ElementsAre(1, 2));
  EXPECT_THAT(experts[1], ElementsAre(1, 1));  // the older form cannot say "unused"
  EXPECT_THAT(experts[2], ElementsAre(2, 4));
}

TEST_F(Imatrix, RefusesAnEntryForAWeightOfAnotherShape) {
  const ImportanceMatrix matrix = example();
  EXPECT_THROW(matrix.find("blk.0.attn_q.weight")->of_shape(Shape{5, 4}), Error);
  EXPECT_THROW(matrix.find("blk.1.ffn_up_exps.weight")->of_shape(Shape{2, 7, 2}), Error);
}

TEST_F(Imatrix, RefusesEveryTruncationOfTheOlderForm) {
  example().write(file("a.dat"));
  std::ifstream in(file("a.dat"), std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  int accepted = 0;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    try {
      ImportanceMatrix::read(file_of(whole.substr(0, length)));
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Corrupt) << length;
    }
  }
  EXPECT_EQ(accepted, 1);  // right after the entries, where older files end
}

TEST_F(Imatrix, RefusesHostileNumbers) {
  const auto number = [](std::int32_t n) {
    return std::string(reinterpret_cast<const char*>(&n), sizeof(n));
  };
  EXPECT_THAT(refusal(file_of(number(-1))), HasSubstr("number of entries is -1"));
  EXPECT_THAT(refusal(file_of(number(1 << 30))), HasSubstr("number of entries"));
  const std::string one = number(1);
  EXPECT_THAT(refusal(file_of(one + number(1 << 30))), HasSubstr("name's length"));
  const std::string named = one + number(1) + "a";
  EXPECT_THAT(refusal(file_of(named + number(-5) + number(1))), HasSubstr("a count is -5"));
  EXPECT_THAT(refusal(file_of(named + number(1) + number(INT32_MAX / 4))), HasSubstr("too early"));
  for (const float bad : {NAN, INFINITY, -1.0F}) {
    std::string bytes(4, '\0');
    std::memcpy(bytes.data(), &bad, 4);
    EXPECT_THAT(refusal(file_of(named + number(1) + number(1) + bytes)),
                HasSubstr("finite and not negative"));
  }
}

TEST_F(Imatrix, RefusesAModel) {
  const std::string model =
      std::string(FATHOM_SOURCE_DIR) + "/tests/golden/models/llama-gqa/model.gguf";
  EXPECT_THAT(refusal(model), HasSubstr("probably a model"));
}

}  // namespace
}  // namespace fathom
