// pull, import, list, verify and rm as a person or a script gives them.
#include <gmock/gmock.h>

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/app.h"
#include "formats/gguf_writer.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class StoreCommandsTest : public ::testing::Test {
 protected:
  StoreCommandsTest() {
    std::string name = (fs::temp_directory_path() / "fathom-cli-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    GgufMetadata metadata;
    metadata.string("general.architecture", "llama");
    GgufWriter writer(folder / "tiny.gguf", metadata, {{"output_norm.weight", DType::F32, {8}}});
    const std::vector<std::byte> zeros(8 * sizeof(float));
    writer.append(zeros);
    writer.commit();
  }
  ~StoreCommandsTest() override { fs::remove_all(folder); }

  /// Runs `fathom WORDS... --store DIR` and keeps what it prints.
  int run(std::vector<std::string> words) {
    words.insert(words.begin(), "fathom");
    words.insert(words.end(), {"--store", (folder / "store").string()});
    std::vector<const char*> arguments;
    for (const std::string& word : words) arguments.push_back(word.c_str());
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = run_app(static_cast<int>(arguments.size()), arguments.data());
    out = ::testing::internal::GetCapturedStdout();
    err = ::testing::internal::GetCapturedStderr();
    return code;
  }

  fs::path folder;
  std::string out;
  std::string err;
};

TEST_F(StoreCommandsTest, AModelIsImportedListedVerifiedAndRemoved) {
  ASSERT_EQ(run({"import", (folder / "tiny.gguf").string(), "--name", "acme/tiny:f32"}), 0) << err;
  ASSERT_EQ(run({"list"}), 0);
  EXPECT_THAT(out, HasSubstr("acme/tiny:f32"));
  ASSERT_EQ(run({"list", "--json"}), 0);
  const auto models = nlohmann::json::parse(out).at("models");
  ASSERT_EQ(models.size(), 1U);
  EXPECT_EQ(models[0].at("name"), "acme/tiny:f32");
  EXPECT_TRUE(fs::exists(models[0].at("path").get<std::string>()));
  EXPECT_EQ(run({"verify"}), 0) << err;
  EXPECT_EQ(run({"rm", "acme/tiny:f32"}), 0) << err;
  ASSERT_EQ(run({"list", "--json"}), 0);
  EXPECT_TRUE(nlohmann::json::parse(out).at("models").empty());
}

TEST_F(StoreCommandsTest, PullTakesAPathToo) {
  ASSERT_EQ(run({"pull", (folder / "tiny.gguf").string(), "--json"}), 0) << err;
  EXPECT_EQ(nlohmann::json::parse(out).at("name"), "tiny");
}

TEST_F(StoreCommandsTest, AFileThatIsNoModelIsRefusedWithOneLine) {
  std::ofstream(folder / "bad.gguf") << "GGUF but no more";
  EXPECT_EQ(run({"import", (folder / "bad.gguf").string()}), 1);
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  EXPECT_THAT(err, HasSubstr("bad.gguf"));
  ASSERT_EQ(run({"list", "--json"}), 0);
  EXPECT_TRUE(nlohmann::json::parse(out).at("models").empty());
}

TEST_F(StoreCommandsTest, ADamagedModelFailsVerificationAndOthersAreStillChecked) {
  ASSERT_EQ(run({"import", (folder / "tiny.gguf").string(), "--name", "a", "--link"}), 0) << err;
  ASSERT_EQ(run({"import", (folder / "tiny.gguf").string(), "--name", "b"}), 0) << err;
  std::ofstream(folder / "tiny.gguf", std::ios::app) << "x";
  EXPECT_EQ(run({"verify", "--json"}), 1);
  const auto models = nlohmann::json::parse(out).at("models");
  ASSERT_EQ(models.size(), 2U);
  EXPECT_FALSE(models[0].at("sound").get<bool>());
  EXPECT_TRUE(models[1].at("sound").get<bool>());
}

TEST_F(StoreCommandsTest, ErrorsAreJsonUnderJson) {
  EXPECT_EQ(run({"rm", "ghost", "--json"}), 1);
  EXPECT_EQ(nlohmann::json::parse(err).at("error").at("code"), "not_found");
  EXPECT_EQ(run({"pull", "smollm2:9b", "--json"}), 1);
  EXPECT_THAT(nlohmann::json::parse(err).at("error").at("message").get<std::string>(),
              HasSubstr("smollm2:135m"));
}

}  // namespace
}  // namespace fathom
