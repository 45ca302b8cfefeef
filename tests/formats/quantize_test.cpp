#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "formats/gguf_checkpoint.h"
#include "formats/gguf_writer.h"
#include "formats/imatrix.h"
#include "formats/quantize.h"
#include "formats/quantize_mix.h"
#include "formats/test_files.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::read_bytes;
using testing::ScratchFolder;

constexpr std::uint32_t kLayers = 16;

std::vector<float> noise(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// A model of F32 tensors with rows of 256, and some of 96, which K types cannot hold.
std::filesystem::path write_model(const std::filesystem::path& path, bool with_output = true) {
  GgufMetadata metadata;
  metadata.string("general.architecture", "llama");
  metadata.u32("llama.block_count", kLayers);
  metadata.u32("llama.attention.head_count", 8);
  metadata.u32("llama.attention.head_count_kv", 4);
  metadata.string("tokenizer.ggml.model", "gpt2");
  metadata.u32("split.count", 1);
  std::vector<TensorPlan> plans{{"token_embd.weight", DType::F32, Shape{6, 256}},
                                {"output_norm.weight", DType::F32, Shape{256}}};
  if (with_output) plans.push_back({"output.weight", DType::F32, Shape{6, 256}});
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    plans.push_back({prefix + "attn_v.weight", DType::F32, Shape{3, 256}});
    plans.push_back({prefix + "attn_k.weight", DType::F32, Shape{3, 256}});
    plans.push_back({prefix + "ffn_down.weight", DType::F32, Shape{5, 96}});
  }
  plans.push_back({"blk.0.ffn_gate_inp.weight", DType::F32, Shape{4, 256}});
  plans.push_back({"blk.0.odd.weight", DType::F32, Shape{2, 33}});
  GgufWriter writer(path, metadata, plans);
  unsigned seed = 0;
  for (const TensorPlan& plan : plans) {
    const std::vector<float> values = noise(plan.shape.elements(), seed++);
    writer.append(std::as_bytes(std::span(values)));
  }
  writer.commit();
  return path;
}

QuantizeOptions to(const std::string& type) {
  QuantizeOptions options;
  options.type = type;
  options.threads = 2;
  return options;
}

DType type_of(const QuantizeReport& report, std::string_view name) {
  for (const TensorRecord& tensor : report.tensors) {
    if (tensor.name == name) return tensor.to;
  }
  ADD_FAILURE() << name;
  return DType::Bool;
}

TEST(Quantize, GivesQ4KMTheUsualMix) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  const auto output = folder.path() / "out.gguf";
  const QuantizeReport report = quantize_gguf(input, output, to("q4_k_m"));
  EXPECT_EQ(type_of(report, "output.weight"), DType::Q6_K);
  EXPECT_EQ(type_of(report, "token_embd.weight"), DType::Q4_K);
  EXPECT_EQ(type_of(report, "output_norm.weight"), DType::F32);
  EXPECT_EQ(type_of(report, "blk.0.ffn_gate_inp.weight"), DType::F32);
  EXPECT_EQ(type_of(report, "blk.5.attn_k.weight"), DType::Q4_K);
  // 16 layers: the first two, the last two, and every third between get more bits.
  std::string pattern;
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    const DType dtype = type_of(report, fmt::format("blk.{}.attn_v.weight", layer));
    pattern += dtype == DType::Q6_K ? '6' : dtype == DType::Q4_K ? '4' : '?';
  }
  EXPECT_EQ(pattern, "6644644644644666");
  const auto model = open_checkpoint(output);
  EXPECT_EQ(model->need_int("general.file_type"), 15);
  EXPECT_EQ(model->need_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(model->metadata("split.count"), nullptr);
  EXPECT_EQ(model->weight_bytes(), report.bytes_after);
}

/// A matrix for some weights of write_model(), which weighs every other column only.
std::filesystem::path write_imatrix(const std::filesystem::path& path, std::size_t columns) {
  ImportanceMatrix matrix;
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    for (const char* part : {"attn_v", "attn_k"}) {
      ImportanceMatrix::Entry entry{columns, std::vector<float>(columns, 4), {2}};
      for (std::size_t i = 1; i < columns; i += 2) entry.squares[i] = 0;
      matrix.entries.emplace(fmt::format("blk.{}.{}.weight", layer, part), std::move(entry));
    }
  }
  matrix.write(path);
  return path;
}

TEST(Quantize, AnImportanceMatrixMovesTheErrorToWhereItDoesNotMatter) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  QuantizeOptions options = to("Q4_K_S");
  quantize_gguf(input, folder.path() / "plain.gguf", options);
  options.imatrix = write_imatrix(folder.path() / "imatrix.gguf", 256);
  const QuantizeReport report = quantize_gguf(input, folder.path() / "guided.gguf", options);
  EXPECT_EQ(report.weighted, 2 * kLayers);
  const auto error = [&](const char* file) {
    const auto before = open_checkpoint(input), after = open_checkpoint(folder.path() / file);
    const std::string name = "model.layers.5.self_attn.k_proj.weight";
    const auto x = to_f32(before->tensor(name)), y = to_f32(after->tensor(name));
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (i % 2 == 0) sum += (x[i] - y[i]) * (x[i] - y[i]);
    }
    return sum;
  };
  EXPECT_LT(error("guided.gguf"), 0.95 * error("plain.gguf"));
}

TEST(Quantize, RefusesAMatrixOfAnotherModel) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  QuantizeOptions options = to("Q4_K_S");
  options.imatrix = write_imatrix(folder.path() / "imatrix.gguf", 128);
  const testing::Caught error =
      error_of([&] { quantize_gguf(input, folder.path() / "o.gguf", options); });
  EXPECT_EQ(error.code, ErrorCode::InvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("blk.0.attn_v.weight"));
  EXPECT_THAT(error.message, HasSubstr("another model"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "o.gguf"));
}

TEST(Quantize, TypesThatNeedAMatrixRefuseByName) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  for (const char* type : {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"}) {
    QuantizeOptions options = to(type);
    const testing::Caught error =
        error_of([&] { quantize_gguf(input, folder.path() / "o.gguf", options); });
    EXPECT_EQ(error.code, ErrorCode::InvalidArgument);
    EXPECT_THAT(error.message, HasSubstr("'blk.0.attn_k.weight' as " + std::string(type)));
    EXPECT_THAT(error.message, HasSubstr("fathom eval --imatrix"));
    options.imatrix = write_imatrix(folder.path() / "imatrix.gguf", 256);
    const QuantizeReport report = quantize_gguf(input, folder.path() / "o.gguf", options);
    EXPECT_EQ(type_of(report, "blk.0.attn_k.weight"), QuantizeMix(type).base());
  }
}

TEST(Quantize, GivesTheIqMixesTheirUsualTypes) {
  MixModel model{kLayers, 0, 4, true, true};
  const Shape wide{256, 256};
  const auto type = [&](const char* mix, const char* name) {
    return QuantizeMix(mix).choose(name, wide, model).dtype;
  };
  EXPECT_EQ(type("IQ4_XS", "output.weight"), DType::Q6_K);
  EXPECT_EQ(type("IQ4_XS", "blk.9.attn_v.weight"), DType::Q5_K);
  EXPECT_EQ(type("IQ4_XS", "blk.0.ffn_down.weight"), DType::IQ4_XS);
  EXPECT_EQ(type("IQ3_XXS", "blk.9.attn_q.weight"), DType::IQ2_S);
  EXPECT_EQ(type("IQ3_XXS", "blk.9.attn_output.weight"), DType::IQ3_S);
  EXPECT_EQ(type("IQ3_XS", "blk.9.ffn_up.weight"), DType::IQ3_XXS);
  EXPECT_EQ(type("IQ3_XS", "blk.0.ffn_up.weight"), DType::IQ3_S);
  EXPECT_EQ(type("IQ2_S", "blk.9.ffn_up.weight"), DType::IQ2_XS);
  EXPECT_EQ(type("IQ2_M", "blk.9.ffn_up.weight"), DType::IQ2_S);
  EXPECT_EQ(type("IQ2_XXS", "output.weight"), DType::Q5_K);
  EXPECT_EQ(type("IQ2_XXS", "token_embd.weight"), DType::Q2_K);
  EXPECT_EQ(type("IQ1_S", "blk.9.attn_output.weight"), DType::IQ2_XXS);
  EXPECT_EQ(type("IQ1_S", "blk.1.ffn_down_exps.weight"), DType::Q2_K);
  EXPECT_EQ(type("IQ1_M", "blk.9.ffn_down_exps.weight"), DType::IQ1_M);
  model.has_importance = false;
  EXPECT_EQ(type("IQ4_NL", "blk.0.ffn_down.weight"), DType::Q5_K);
  EXPECT_EQ(type("IQ3_XXS", "blk.9.ffn_down.weight"), DType::Q3_K);
  const MixChoice narrow = QuantizeMix("IQ2_XXS").choose("blk.9.ffn_up.weight", {4, 576}, model);
  EXPECT_EQ(narrow.dtype, DType::IQ4_NL);
  EXPECT_THAT(narrow.fallback, HasSubstr("IQ2_XXS needs rows in blocks of 256"));
}

TEST(Quantize, FallsBackByRowLengthAndSaysSo) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  const QuantizeReport report = quantize_gguf(input, folder.path() / "out.gguf", to("Q4_K_M"));
  EXPECT_EQ(type_of(report, "blk.0.ffn_down.weight"), DType::Q8_0);  // for Q6_K
  EXPECT_EQ(type_of(report, "blk.2.ffn_down.weight"), DType::Q5_0);  // for Q4_K
  EXPECT_EQ(type_of(report, "blk.0.odd.weight"), DType::F16);
  for (const TensorRecord& tensor : report.tensors) {
    const bool short_rows = tensor.shape.row_elements() != 256 && tensor.shape.rank() == 2;
    EXPECT_EQ(!tensor.fallback.empty(), short_rows) << tensor.name;
  }
  EXPECT_THAT(report.tensors.back().fallback,
              HasSubstr("Q4_K needs rows in blocks of 256, these have 33"));
}

TEST(Quantize, QuantisesEveryRowAsTheReferenceDoes) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  const auto output = folder.path() / "out.gguf";
  quantize_gguf(input, output, to("Q5_K_S"));
  const GgufFile before(input), after(output);
  ASSERT_EQ(before.tensors().size(), after.tensors().size());
  for (std::size_t i = 0; i < before.tensors().size(); ++i) {
    const TensorView written = after.view(after.tensors()[i]);
    std::vector<std::byte> expected(written.data.size());
    quantise(written.dtype, to_f32(before.view(before.tensors()[i])), expected);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), written.data.begin()))
        << after.tensors()[i].name;
  }
}

TEST(Quantize, GivesTheSameFileOnAnyNumberOfThreads) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  QuantizeOptions options = to("Q3_K_M");
  options.threads = 1;
  quantize_gguf(input, folder.path() / "one.gguf", options);
  options.threads = 3;
  quantize_gguf(input, folder.path() / "three.gguf", options);
  EXPECT_EQ(read_bytes(folder.path() / "one.gguf"), read_bytes(folder.path() / "three.gguf"));
}

TEST(Quantize, TreatsATiedEmbeddingAsTheOutput) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf", false);
  const QuantizeReport report = quantize_gguf(input, folder.path() / "out.gguf", to("Q4_K_M"));
  EXPECT_EQ(type_of(report, "token_embd.weight"), DType::Q6_K);
}

TEST(Quantize, MixesNothingWhenPure) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  QuantizeOptions options = to("Q4_K_M");
  options.pure = true;
  const QuantizeReport report = quantize_gguf(input, folder.path() / "out.gguf", options);
  EXPECT_EQ(type_of(report, "output.weight"), DType::Q4_K);
  EXPECT_EQ(type_of(report, "blk.0.attn_v.weight"), DType::Q4_K);
}

TEST(Quantize, RefusesToRoundTwiceUnlessAllowed) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  const auto small = folder.path() / "small.gguf";
  const auto smaller = folder.path() / "smaller.gguf";
  quantize_gguf(input, small, to("Q4_0"));
  EXPECT_THAT(error_of([&] { quantize_gguf(small, smaller, to("Q2_K")); }).message,
              HasSubstr("Q4_0 already"));
  EXPECT_FALSE(std::filesystem::exists(smaller));
  QuantizeOptions allowed = to("Q2_K");
  allowed.allow_requantize = true;
  EXPECT_LT(quantize_gguf(small, smaller, allowed).bytes_after, std::filesystem::file_size(small));
  // Q8_0 is as good as unrounded.
  quantize_gguf(input, small, to("Q8_0"));
  EXPECT_NO_THROW(quantize_gguf(small, smaller, to("Q4_K_M")));
}

TEST(Quantize, RefusesToWriteOverItsInput) {
  const ScratchFolder folder;
  const auto input = write_model(folder.path() / "in.gguf");
  const std::string before = read_bytes(input);
  std::filesystem::create_hard_link(input, folder.path() / "link.gguf");
  for (const char* name : {"in.gguf", "link.gguf"}) {
    EXPECT_THAT(error_of([&] { quantize_gguf(input, folder.path() / name, to("Q8_0")); }).message,
                HasSubstr("cannot be written over"));
  }
  EXPECT_EQ(read_bytes(input), before);
}

TEST(Quantize, NamesTheTensorThatCannotBeQuantised) {
  const ScratchFolder folder;
  const auto input = folder.path() / "nan.gguf";
  GgufWriter writer(input, {}, {{"blk.0.ffn_up.weight", DType::F32, Shape{2, 32}}});
  std::vector<float> values(64, 1.0f);
  values[40] = std::numeric_limits<float>::quiet_NaN();
  writer.append(std::as_bytes(std::span(values)));
  writer.commit();
  EXPECT_THAT(
      error_of([&] { quantize_gguf(input, folder.path() / "out.gguf", to("Q8_0")); }).message,
      HasSubstr("'blk.0.ffn_up.weight'"));
}

TEST(QuantizeMix, ListsItsNamesWhenAskedForAnother) {
  EXPECT_THAT(error_of([] { QuantizeMix("Q9_Z"); }).message, HasSubstr("Q4_K_M"));
  EXPECT_EQ(QuantizeMix("q4_k").name(), "Q4_K_M");
  for (const std::string_view name : QuantizeMix::names()) {
    EXPECT_EQ(QuantizeMix(name).name(), name);
  }
}

}  // namespace
}  // namespace fathom
