// Packed weights kept beside a model: the same bits as packing, and refused where they do not fit.
#include "model/kept_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "backend/cpu/packed_file.h"
#include "base/error.h"
#include "base/numa.h"
#include "formats/random_model.h"
#include "formats/test_files.h"
#include "formats/tiny_shape.h"
#include "model/golden_models.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
using namespace test;  // NOLINT
using ::testing::HasSubstr;

using testing::kTiny;

class Kept : public ::testing::Test {
 protected:
  Kept() { make("Q4_K_M", false); }

  void make(const char* type, bool split_kv_b, std::uint64_t seed = 1) {
    RandomModelOptions options;
    options.type = type;
    options.split_kv_b = split_kv_b;
    options.seed = seed;
    options.threads = 2;
    make_random_gguf(kTiny, model_, options);
  }
  KeptReport keep() { return keep_packed_weights(*open_checkpoint(model_), packed_, 2, {}); }
  std::optional<KeptWeights> find() { return find_kept_weights(*open_checkpoint(model_), packed_); }

  std::vector<float> logits(const KeptWeights& kept, ActivationPrecision precision,
                            const NumaOptions& numa = {}) {
    ModelOptions options;
    options.precision = precision;
    options.threads = 2;
    options.kept = kept;
    options.numa = numa;
    const auto model = Model::load(open_checkpoint(model_), options);
    std::vector<TokenId> tokens;
    for (int t = 0; t < 20; ++t) tokens.push_back(TokenId{(7 * t + 3) % 300});
    return feed_in_chunks(*model, tokens, {9, 1, 1});
  }

  void expect_refused(const std::function<void()>& body, ErrorCode code, const std::string& words) {
    try {
      body();
      ADD_FAILURE() << "no error about " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_THAT(error.what(), HasSubstr(".packed")) << "names the file";
    }
  }

  std::string packed_text() const {
    std::ifstream file(packed_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write_packed(const std::string& text) {
    std::ofstream(packed_, std::ios::binary | std::ios::trunc) << text;
  }

  const testing::ScratchFolder scratch_;
  const fs::path folder_ = scratch_.path();
  const fs::path model_ = folder_ / "tiny.gguf";
  const fs::path packed_ = packed_path(model_);
};

TEST_F(Kept, GivesTheSameBitsAsPacking) {
  for (const char* type : {"Q4_K_M", "Q8_0", "IQ4_XS"}) {
    for (const bool split : {false, true}) {
      make(type, split);
      EXPECT_GT(keep().matrices, 20U);
      const auto kept = find();
      ASSERT_TRUE(kept.has_value());
      EXPECT_FALSE(kept->check_sources);
      // Where k_b is turned, only the fast path has it quantised: the others must do without.
      for (const auto precision :
           {ActivationPrecision::Fast, ActivationPrecision::Fine, ActivationPrecision::F32}) {
        EXPECT_EQ(logits(*kept, precision), logits({}, precision))
            << type << (split ? " split" : "");
      }
    }
  }
}

TEST_F(Kept, ReadsNothingOfTheModelsOwnQuantisedWeights) {
  keep();
  const KeptWeights kept = *find();
  // With an expert's bytes zeroed behind the loader's back, the answer is still the old one.
  const std::vector<float> before = logits(kept, ActivationPrecision::Fast);
  const auto time = fs::last_write_time(model_);
  const auto checkpoint = open_checkpoint(model_);
  const TensorView weight = checkpoint->tensor("model.layers.1.mlp.experts.2.up_proj.weight");
  std::ifstream file(model_, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string_view whole(text);
  const std::string_view part(reinterpret_cast<const char*>(weight.data.data()),
                              weight.data.size());
  const std::size_t at = whole.find(part);
  ASSERT_NE(at, std::string_view::npos);
  std::fstream out(model_, std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(static_cast<std::streamoff>(at));
  out << std::string(part.size(), '\0');
  out.close();
  fs::last_write_time(model_, time);
  EXPECT_EQ(logits(kept, ActivationPrecision::Fast), before);
}

TEST_F(Kept, IsEstimatedAsMapped) {
  keep();
  const auto checkpoint = open_checkpoint(model_);
  const ModelConfig config = read_model_config(*checkpoint);
  ModelOptions options;
  const MemoryEstimate plain = estimate_memory(*checkpoint, config, options, 64, DType::BF16, 64);
  options.kept = *find();
  const MemoryEstimate kept = estimate_memory(*checkpoint, config, options, 64, DType::BF16, 64);
  EXPECT_GT(plain.weights_packed, 0U);
  EXPECT_EQ(kept.weights_packed, 0U);
  EXPECT_EQ(kept.weights_mapped, plain.weights_mapped + plain.weights_packed);
}

TEST_F(Kept, ATouchedModelIsComparedAndAChangedOneRefused) {
  keep();
  fs::last_write_time(model_, fs::last_write_time(model_) + std::chrono::hours(1));
  const auto touched = find();
  ASSERT_TRUE(touched.has_value());
  EXPECT_TRUE(touched->check_sources);
  EXPECT_EQ(logits(*touched, ActivationPrecision::Fast), logits({}, ActivationPrecision::Fast));

  // One bit of one weight, wherever the samples are not.
  const auto size = static_cast<std::streamoff>(fs::file_size(model_));
  std::size_t refused = 0;
  for (std::streamoff back = 1000; back < 200'000; back += 40'000) {
    std::fstream file(model_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(size - back);
    const int old = file.get();
    file.seekp(size - back);
    file.put(static_cast<char>(old ^ 1));
    file.close();
    try {
      logits(*find(), ActivationPrecision::Fast);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Corrupt) << error.what();
      ++refused;
    }
    std::fstream again(model_, std::ios::binary | std::ios::in | std::ios::out);
    again.seekp(size - back);
    again.put(static_cast<char>(old));
  }
  EXPECT_EQ(refused, 5U);
}

TEST_F(Kept, AnotherModelsAreRefused) {
  keep();
  make("Q4_K_M", false, 2);  // the same shapes, other weights
  expect_refused([&] { find(); }, ErrorCode::Corrupt, "another model");
  make("Q8_0", false);
  expect_refused([&] { find(); }, ErrorCode::Corrupt, "another model");
}

TEST_F(Kept, VerifyFindsADamagedByte) {
  const KeptReport written = keep();
  const auto verify = [&] { return verify_kept_weights(*open_checkpoint(model_), packed_, 2, {}); };
  EXPECT_EQ(verify().matrices, written.matrices);
  EXPECT_EQ(verify().bytes, fs::file_size(packed_));
  std::string text = packed_text();
  text[text.size() / 3] ^= 0x10;
  write_packed(text);
  expect_refused([&] { verify(); }, ErrorCode::Corrupt, "damaged");
}

TEST_F(Kept, ADamagedFileIsRefusedWhereverItIsCut) {
  keep();
  const std::string whole = packed_text();
  for (const std::size_t size : {std::size_t{0}, std::size_t{10}, std::size_t{64}, whole.size() / 2,
                                 whole.size() - 64, whole.size() - 1}) {
    write_packed(whole.substr(0, size));
    expect_refused([&] { find(); }, ErrorCode::Corrupt, "");
  }
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text = whole;
    // In the footer or the index: no bit of them may be wrong.
    const std::size_t tail = round % 2 == 0 ? 64 - 16 : 2000;
    const std::size_t at = text.size() - 1 - (round % 2 == 0 ? 16 : 0) - random() % tail;
    text[at] ^= static_cast<char>(1U << random() % 8);
    if (at >= text.size() - 16) continue;  // reserved
    write_packed(text);
    EXPECT_THROW(find(), Error) << at;
  }
}

TEST_F(Kept, AModelWithoutQuantisedWeightsIsNotKept) {
  make("BF16", false);
  try {
    keep();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_THAT(error.what(), HasSubstr("tiny.gguf"));
  }
  EXPECT_FALSE(fs::exists(packed_)) << "nothing is left behind";
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(Kept, FillsTheNodesCopiesFromTheFile) {
  // Two nodes on the CPUs there are; only the binder is a fake.
  struct NoBinder final : MemoryBinder {
    std::size_t calls = 0;
    void interleave(std::span<std::byte>, std::span<const unsigned>) override { ++calls; }
    void prefer(std::span<std::byte>, unsigned) override { ++calls; }
  };
  Topology topology = read_topology();
  ASSERT_FALSE(topology.nodes.empty());
  topology.nodes.resize(1);
  topology.nodes.push_back(topology.nodes[0]);
  topology.nodes[1].id = topology.nodes[0].id + 1;
  keep();
  const KeptWeights kept = *find();
  const std::vector<float> expected = logits({}, ActivationPrecision::Fast);
  for (const NumaMode mode : {NumaMode::Spread, NumaMode::Replicate}) {
    const auto binder = std::make_shared<NoBinder>();
    EXPECT_EQ(logits(kept, ActivationPrecision::Fast, numa_options(mode, topology, binder)),
              expected);
    EXPECT_GT(binder->calls, 0U);
  }
}

TEST(PackedPath, IsBesideAFileAndInAFolder) {
  EXPECT_EQ(packed_path("some/model.gguf"), "some/model.gguf.packed");
  EXPECT_EQ(packed_path(fs::temp_directory_path()), fs::temp_directory_path() / "weights.packed");
}

}  // namespace
}  // namespace fathom
