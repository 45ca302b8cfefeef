// `fathom pack`: the file beside the model, the commands that use it, and what becomes of it.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "cli/run_program.h"
#include "formats/random_model.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
using namespace test;  // NOLINT
using ::testing::HasSubstr;
using ::testing::Not;

constexpr ModelShape kTiny{"tiny", "two layers", "deepseek-v3", R"({
  "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512,
  "vocab_size": 300, "max_position_embeddings": 512, "rope_theta": 10000, "rms_norm_eps": 1e-06,
  "tie_word_embeddings": true})"};

class PackCommand : public ::testing::Test {
 protected:
  PackCommand() : model_(folder_ / "tiny.gguf") {
    RandomModelOptions options;
    options.type = "Q4_K_M";
    make_random_gguf(kTiny, model_, options);
  }
  Output answer(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"run", model_, "--temperature", "0", "--max-tokens", "8", "hi"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }

  TemporaryFolder folder_;
  fs::path model_;
};

TEST_F(PackCommand, KeepsVerifiesAndRemoves) {
  const Output before = answer();
  ASSERT_EQ(before.exit_code, 0) << before.err;
  const Output packed = run({"pack", model_, "--json"});
  ASSERT_EQ(packed.exit_code, 0) << packed.err;
  const fs::path file = packed.json().at("path").get<std::string>();
  EXPECT_EQ(file, folder_ / "tiny.gguf.packed");
  EXPECT_EQ(packed.json().at("bytes"), fs::file_size(file));
  EXPECT_EQ(packed.json().at("matrices"), 15);  // 7 a layer, and the head

  const Output after = answer();
  EXPECT_EQ(after.out, before.out);
  EXPECT_THAT(after.err, Not(HasSubstr("packed")));
  const Output verified = run({"pack", model_, "--verify"});
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("15 matrices"));
  EXPECT_EQ(run({"pack", model_, "--remove"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(file));
  const Output again = run({"pack", model_, "--remove"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("there are no packed weights"));
}

TEST_F(PackCommand, AFileThatDoesNotFitIsSaidAndDoneWithout) {
  const Output before = answer();
  std::ofstream(folder_ / "tiny.gguf.packed") << "no such thing";
  const Output after = answer();
  EXPECT_EQ(after.exit_code, 0);
  EXPECT_EQ(after.out, before.out);
  EXPECT_THAT(after.err, HasSubstr("packed weights are not used"));
  EXPECT_THAT(answer({"--ignore-packed"}).err, Not(HasSubstr("packed")));
}

TEST_F(PackCommand, RmTakesThemAlong) {
  const std::string store = folder_ / "store";
  ASSERT_EQ(run({"import", model_, "--name", "tiny:q4", "--store", store}).exit_code, 0);
  const Output list = run({"list", "--json", "--store", store});
  const fs::path stored = list.json().at("models").at(0).at("path").get<std::string>();
  ASSERT_EQ(run({"pack", stored}).exit_code, 0);
  ASSERT_TRUE(fs::exists(stored.string() + ".packed"));
  ASSERT_EQ(run({"rm", "tiny:q4", "--store", store}).exit_code, 0);
  EXPECT_FALSE(fs::exists(stored.string() + ".packed"));
}

TEST_F(PackCommand, AFullDiskLeavesNothing) {
  // The file size limit stands in for a disk: packed weights take more than 64 KiB.
  const std::string command = "ulimit -f 64; exec " + program() + " pack " + model_.string();
  const Output full = run({"-c", command}, {}, "/bin/sh");
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_EQ(full.error_lines(), 1U) << full.err;
  EXPECT_THAT(full.err, HasSubstr("tiny.gguf.packed"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);
}

}  // namespace
}  // namespace fathom
