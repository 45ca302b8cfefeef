// What loading checks, and what it says when a checkpoint does not hold the model it describes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/error.h"
#include "formats/memory_checkpoint.h"
#include "model/golden_models.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A golden checkpoint in memory, with some tensors left out or in another shape.
class Altered {
 public:
  explicit Altered(const std::string& name) : original_(open_golden({name, ""})) {
    copy_->set_config(text_of(golden_folder(name) / "config.json"));
  }
  Altered& without(const std::string& name) {
    left_out_.push_back(name);
    return *this;
  }
  Altered& reshaped(const std::string& name, const Shape& shape, DType dtype = DType::F32) {
    without(name);
    copy_->add(name, dtype, shape);
    return *this;
  }
  MemoryCheckpoint& checkpoint() { return *copy_; }
  std::unique_ptr<Model> load() {
    for (const std::string& name : original_->names()) {
      if (std::find(left_out_.begin(), left_out_.end(), name) == left_out_.end()) {
        copy_->add_view(name, *original_->find(name));
      }
    }
    ModelOptions options;
    options.precision = ActivationPrecision::F32;
    options.threads = 2;
    return Model::load(copy_, options);
  }

 private:
  std::unique_ptr<Checkpoint> original_;  // owns the bytes
  std::shared_ptr<MemoryCheckpoint> copy_ = std::make_shared<MemoryCheckpoint>("altered");
  std::vector<std::string> left_out_;
};

void expect_refused(Altered& altered, ErrorCode code, const std::vector<std::string>& named) {
  try {
    altered.load();
    ADD_FAILURE() << "loaded, expected an error about " << named[0];
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& word : named) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }
}

TEST(Load, RefusesAMissingTensorByName) {
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                           "model.layers.2.mlp.experts.7.up_proj.weight",
                           "model.layers.1.mlp.gate.e_score_correction_bias",
                           "model.layers.0.self_attn.kv_b_proj.weight"}) {
    Altered altered("deepseek3");
    expect_refused(altered.without(name), ErrorCode::NotFound, {name});
  }
}

TEST(Load, RefusesAShapeThatTheConfigurationDoesNotCallFor) {
  Altered vocabulary("llama-gqa");
  expect_refused(vocabulary.reshaped("model.embed_tokens.weight", {98, 48}), ErrorCode::Corrupt,
                 {"model.embed_tokens.weight", "[98, 48]", "[97, 48]", "vocab_size 97"});
  Altered heads("llama-gqa");
  expect_refused(heads.reshaped("model.layers.1.self_attn.k_proj.weight", {24, 48}),
                 ErrorCode::Corrupt, {"layers.1.self_attn.k_proj", "[24, 48]", "[16, 48]"});
  Altered norm("llama-gqa");
  expect_refused(norm.reshaped("model.norm.weight", {1, 48}), ErrorCode::Corrupt,
                 {"model.norm.weight", "[1, 48]"});
  Altered expert("deepseek2");
  expect_refused(expert.reshaped("model.layers.2.mlp.experts.3.down_proj.weight", {40, 9}),
                 ErrorCode::Corrupt, {"experts.3.down_proj", "[40, 8]"});
}

TEST(Load, RefusesATypeThatCannotHoldWeights) {
  Altered altered("llama-gqa");
  altered.reshaped("model.layers.0.mlp.up_proj.weight", {100, 48}, DType::I32);
  expect_refused(altered, ErrorCode::Unsupported, {"mlp.up_proj", "I32"});
}

TEST(Load, RefusesTensorsThatItWouldLeaveOut) {
  Altered bias("llama-gqa");
  bias.checkpoint().add("model.layers.0.self_attn.q_proj.bias", DType::F32, {48});
  expect_refused(bias, ErrorCode::Unsupported, {"self_attn.q_proj.bias", "llama"});
  Altered norm("llama-gqa");
  norm.checkpoint().add("model.layers.2.self_attn.q_norm.weight", DType::F32, {8});
  expect_refused(norm, ErrorCode::Unsupported, {"q_norm"});
}

TEST(Load, PassesOverTensorsThatNoForwardPassNeeds) {
  Altered altered("llama-mqa-llama3");  // tied
  altered.checkpoint().add("lm_head.weight", DType::F32, {83, 40});
  altered.checkpoint().add("model.layers.0.self_attn.rotary_emb.inv_freq", DType::F32, {8});
  altered.checkpoint().add("model.layers.2.eh_proj.weight", DType::F32, {40, 80});  // a third layer
  const Golden golden = read_golden("llama-mqa-llama3");
  const auto logits = feed_in_chunks(*altered.load(), golden.tokens, {150});
  EXPECT_LE(worst_error(logits, golden.logits, 83), kOracleTolerance);
}

TEST(Load, GivesTheSameLogitsFromMemory) {
  Altered altered("deepseek2");
  const Golden golden = read_golden("deepseek2");
  const auto logits = feed_in_chunks(*altered.load(), golden.tokens, {150});
  EXPECT_LE(worst_error(logits, golden.logits, 87), kOracleTolerance);
}

TEST(Load, TellsItsProgressInBytes) {
  std::vector<ProgressUpdate> updates;
  ModelOptions options;
  options.threads = 1;
  options.progress = [&](const ProgressUpdate& update) { updates.push_back(update); };
  std::shared_ptr<const Checkpoint> checkpoint = open_golden({"deepseek3", ""});
  const auto bytes = checkpoint->weight_bytes();
  Model::load(checkpoint, options);
  ASSERT_FALSE(updates.empty());
  EXPECT_TRUE(updates.back().finished);
  EXPECT_EQ(updates.back().total, bytes);
  // All but the embeddings, which are looked up in place, and norms.
  EXPECT_GT(updates.back().done, bytes * 8 / 10);
  EXPECT_LE(updates.back().done, bytes);
}

/// A copy of a golden folder that a test may damage.
class GoldenCopy {
 public:
  explicit GoldenCopy(const std::string& name)
      : folder_(std::filesystem::temp_directory_path() /
                ("fathom-load-" + name + "-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(golden_folder(name), folder_);
  }
  ~GoldenCopy() { std::filesystem::remove_all(folder_); }
  const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

TEST(Load, NoticesAFileThatChangesWhileItIsPacked) {
  const GoldenCopy copy("llama-gqa");
  std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(copy.path());
  ModelOptions options;
  options.threads = 1;
  options.progress = [&](const ProgressUpdate& update) {
    if (update.finished) return;
    std::fstream file(copy.path() / "model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary | std::ios::ate);
    file.put('x');  // as a download that overwrites it would
  };
  try {
    Model::load(checkpoint, options);
    FAIL() << "the change was not noticed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Io) << error.what();
    EXPECT_NE(std::string(error.what()).find("model.safetensors"), std::string::npos);
  }
}

}  // namespace
}  // namespace fathom
