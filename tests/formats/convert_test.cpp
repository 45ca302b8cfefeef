#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/convert.h"
#include "formats/gguf_checkpoint.h"
#include "formats/safetensors_writer.h"
#include "formats/test_files.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using testing::read_bytes;
using testing::ScratchFolder;

ConvertOptions to(const std::string& type, bool split_kv_b = false) {
  ConvertOptions options;
  options.type = type;
  options.split_kv_b = split_kv_b;
  options.allow_no_tokenizer = true;
  options.threads = 2;
  return options;
}

std::map<std::string, const GgufTensor*> by_name(const GgufFile& file) {
  std::map<std::string, const GgufTensor*> result;
  for (const GgufTensor& tensor : file.tensors()) result.emplace(tensor.name, &tensor);
  return result;
}

bool same_bytes(const TensorView& a, const TensorView& b) {
  return std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end());
}

TEST(Convert, RefusesTypesThatNeedAnImportanceMatrix) {
  const ScratchFolder folder;
  for (const char* type : {"IQ1_S", "IQ2_XXS", "IQ2_S"}) {
    const auto error = error_of([&] {
      convert_to_gguf(golden("gguf-convert/qwen2"), folder.path() / "out.gguf", to(type));
    });
    EXPECT_EQ(error.code, ErrorCode::InvalidArgument);
    EXPECT_THAT(error.message, HasSubstr(std::string(type) + " needs an importance matrix"));
  }
}

class ConvertGolden : public ::testing::TestWithParam<const char*> {};

/// The oracle is ik_llama.cpp's converter (llama.cpp's for "deepseek"). It writes kv_b whole and
/// split; we write one or the other.
TEST_P(ConvertGolden, WritesTheTensorsOfTheReferenceConverter) {
  const ScratchFolder folder;
  const auto source = golden(std::string("gguf-convert/") + GetParam());
  const GgufFile expected(source / "expected.gguf");
  const auto expected_tensors = by_name(expected);
  std::size_t compared = 0;
  for (const bool split : {false, true}) {
    const auto path = folder.path() / "out.gguf";
    convert_to_gguf(source, path, to("F32", split));
    const GgufFile written(path);
    for (const GgufTensor& tensor : written.tensors()) {
      SCOPED_TRACE(tensor.name);
      const auto found = expected_tensors.find(std::string(tensor.name));
      ASSERT_NE(found, expected_tensors.end());
      const TensorView ours = written.view(tensor);
      const TensorView theirs = expected.view(*found->second);
      if (tensor.name == "rope_freqs.weight") {  // theirs is reckoned in F32
        const auto a = to_f32(ours), b = to_f32(theirs);
        ASSERT_EQ(a.size(), b.size());
        for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5f * b[i]);
      } else {
        EXPECT_TRUE(same_bytes(ours, theirs));
        const bool half = tensor.name.find("attn_k_b") != std::string_view::npos ||
                          tensor.name.find("attn_v_b") != std::string_view::npos;
        // The reference flattens the halves; llama.cpp's own writes three dimensions, as we do.
        EXPECT_EQ(tensor.shape.rank(), half ? 3u : found->second->shape.rank());
      }
      ++compared;
    }
    const bool latent = std::string_view(GetParam()).starts_with("deepseek_");
    const std::size_t layers =
        static_cast<std::size_t>(std::get<std::int64_t>(expected.decode(*expected.find(
            latent ? "deepseek2.block_count" : std::string(GetParam()) + ".block_count"))));
    const std::size_t left_out = latent ? (split ? 1 : 2) * layers : 0;
    EXPECT_EQ(written.tensors().size() + left_out, expected.tensors().size());
  }
  EXPECT_GT(compared, 20u);
}

TEST_P(ConvertGolden, WritesTheKeysOfTheReferenceConverter) {
  const ScratchFolder folder;
  const auto source = golden(std::string("gguf-convert/") + GetParam());
  const GgufFile expected(source / "expected.gguf");
  convert_to_gguf(source, folder.path() / "out.gguf", to("F32"));
  const GgufFile written(folder.path() / "out.gguf");
  for (const GgufKey& key : expected.keys()) {
    // Names are prettified and sizes labelled there; and see make.py on llama.
    if (key.key == "general.name" || key.key == "general.size_label" ||
        key.key == "general.quantization_version" || key.key == "llama.expert_used_count") {
      continue;
    }
    // "none" for one architecture and nothing for the others mean the same.
    if (key.key == "deepseek.rope.scaling.type") {
      EXPECT_EQ(std::get<std::string_view>(expected.decode(key)), "none");
      continue;
    }
    // head_dim is not in config.json: the reference's class wrote what it follows from.
    const GgufKey* ours = written.find(key.key);
    ASSERT_NE(ours, nullptr) << key.key;
    EXPECT_EQ(ours->type, key.type) << key.key;
    EXPECT_TRUE(
        std::equal(ours->value.begin(), ours->value.end(), key.value.begin(), key.value.end()))
        << key.key;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ConvertGolden,
                         ::testing::Values("llama", "qwen2", "qwen3", "deepseek", "deepseek_v2",
                                           "deepseek_v3", "deepseek_v3_fp8"),
                         [](const auto& test) { return std::string(test.param); });

/// A copy of a golden folder whose config.json can be changed.
struct EditedFolder {
  explicit EditedFolder(const std::string& name) {
    std::filesystem::copy(golden("gguf-convert/" + name), scratch.path() / "model");
    config = nlohmann::json::parse(read_bytes(scratch.path() / "model" / "config.json"));
  }
  ConvertReport convert(const ConvertOptions& options) {
    scratch.write("model/config.json", config.dump());
    return convert_to_gguf(scratch.path() / "model", scratch.path() / "out.gguf", options);
  }
  std::string error(const ConvertOptions& options = to("F32")) {
    return error_of([&] { convert(options); }).message;
  }
  ScratchFolder scratch;
  nlohmann::json config;
};

TEST(Convert, StatesTheNewerConventionsSizesWhenKvBIsSplit) {
  EditedFolder folder("deepseek_v3");
  folder.convert(to("F32", true));
  const auto model = open_checkpoint(folder.scratch.path() / "out.gguf");
  EXPECT_EQ(model->need_int("deepseek2.attention.head_count_kv"), 1);
  EXPECT_EQ(model->need_int("deepseek2.attention.key_length"), 20);  // 16 + 4
  EXPECT_EQ(model->need_int("deepseek2.attention.value_length"), 16);
  EXPECT_EQ(model->need_int("deepseek2.attention.key_length_mla"), 12);  // 8 + 4
  EXPECT_EQ(model->need_int("deepseek2.attention.value_length_mla"), 12);
  EXPECT_EQ(model->tensor("model.layers.0.self_attn.k_b_proj.weight").shape, (Shape{4, 16, 8}));
  EXPECT_EQ(model->tensor("model.layers.0.self_attn.v_b_proj.weight").shape, (Shape{4, 12, 16}));
  EXPECT_EQ(model->need_int("deepseek2.expert_group_count"), 2);
  EXPECT_EQ(model->need_int("deepseek2.expert_group_used_count"), 1);
}

TEST(Convert, PermutesTheRopeRowsOfDeepSeekMoe) {
  // "deepseek" is a grouped-attention model with experts; its q and k are dealt out like llama's.
  EditedFolder folder("llama");
  folder.config["model_type"] = "deepseek";
  folder.config["n_routed_experts"] = nullptr;
  folder.config.erase("rope_scaling");
  folder.convert(to("F32"));
  const GgufFile written(folder.scratch.path() / "out.gguf");
  const GgufFile llama(golden("gguf-convert/llama/expected.gguf"));
  const auto theirs = by_name(llama);
  for (const GgufTensor& tensor : written.tensors()) {
    EXPECT_TRUE(same_bytes(written.view(tensor), llama.view(*theirs.at(std::string(tensor.name)))))
        << tensor.name;
  }
}

TEST(Convert, WritesQuantisedTypesAndReportsFallbacks) {
  EditedFolder folder("deepseek_v3_fp8");
  const ConvertReport report = folder.convert(to("Q8_0"));
  bool fell_back = false, f32 = false;
  for (const TensorRecord& tensor : report.tensors) {
    if (tensor.name == "blk.0.ffn_up.weight") {  // rows of 136: not blocks of 32
      EXPECT_EQ(tensor.from, DType::F8_E4M3);
      EXPECT_EQ(tensor.to, DType::F16);
      EXPECT_THAT(tensor.fallback, HasSubstr("Q8_0 needs rows in blocks of 32, these have 136"));
      fell_back = true;
    }
    if (tensor.name == "blk.0.attn_norm.weight") {
      EXPECT_EQ(tensor.to, DType::F32);
      EXPECT_EQ(tensor.fallback, "");
      f32 = true;
    }
  }
  EXPECT_TRUE(fell_back && f32);
  const auto model = open_checkpoint(folder.scratch.path() / "out.gguf");
  EXPECT_EQ(model->need_int("general.file_type"), 7);
}

TEST(Convert, TakesBf16WeightsOverExactly) {
  EditedFolder folder("qwen3");
  folder.convert(to("BF16"));
  const auto model = open_checkpoint(folder.scratch.path() / "out.gguf");
  const auto source = open_checkpoint(golden("gguf-convert/qwen3"));
  EXPECT_EQ(model->tensor("lm_head.weight").dtype, DType::BF16);
  std::vector<std::byte> rounded(model->tensor("lm_head.weight").data.size());
  quantise(DType::BF16, to_f32(source->tensor("lm_head.weight")), rounded);
  EXPECT_TRUE(same_bytes(model->tensor("lm_head.weight"), {DType::BF16, Shape{48, 32}, rounded}));
  EXPECT_EQ(model->tensor("model.norm.weight").dtype, DType::F32);
}

TEST(Convert, RefusesWhatGgufCannotSay) {
  const auto with = [](const char* model, const char* key, const nlohmann::json& value) {
    EditedFolder folder(model);
    folder.config[nlohmann::json::json_pointer(key)] = value;
    return folder.error();
  };
  EXPECT_THAT(with("llama", "/model_type", "gemma"), HasSubstr("model_type 'gemma'"));
  EXPECT_THAT(with("llama", "/rope_scaling/rope_type", "dynamic"), HasSubstr("'dynamic'"));
  EXPECT_THAT(with("llama", "/hidden_act", "gelu"), HasSubstr("hidden_act = 'gelu'"));
  EXPECT_THAT(with("llama", "/mlp_bias", true), HasSubstr("mlp_bias"));
  EXPECT_THAT(with("deepseek_v3", "/rope_scaling/mscale", 1.0),
              HasSubstr("mscale_all_dim is 0.707"));
  EXPECT_THAT(with("deepseek_v3", "/scoring_func", "softmax"), HasSubstr("noaux_tc with softmax"));
  EXPECT_THAT(with("deepseek_v3", "/rope_interleave", false), HasSubstr("rope_interleave"));
  EXPECT_THAT(with("deepseek_v3_fp8", "/quantization_config/weight_block_size", {64, 64}),
              HasSubstr("weight_block_size"));
  EXPECT_THAT(with("deepseek_v3_fp8", "/quantization_config/quant_method", "gptq"),
              HasSubstr("quant_method = 'gptq'"));
}

TEST(Convert, RefusesAFolderThatContradictsItself) {
  const auto with = [](const char* model, const char* key, const nlohmann::json& value) {
    EditedFolder folder(model);
    folder.config[key] = value;
    return folder.error();
  };
  EXPECT_THAT(with("llama", "num_hidden_layers", 3), HasSubstr("has 3 layers, the tensors 2"));
  EXPECT_THAT(with("llama", "vocab_size", 49), HasSubstr("gives [49, 32]"));
  EXPECT_THAT(with("llama", "num_attention_heads", 8), HasSubstr("8 heads of"));
  EXPECT_THAT(with("llama", "tie_word_embeddings", false), HasSubstr("no lm_head.weight"));
  EXPECT_THAT(with("llama", "hidden_size", -1), HasSubstr("hidden_size = -1"));
  EXPECT_THAT(with("deepseek_v3", "n_routed_experts", 5), HasSubstr("no tensor"));
  EXPECT_THAT(with("deepseek_v3", "n_routed_experts", 3), HasSubstr("n_routed_experts = 3"));
  EXPECT_THAT(with("llama", "intermediate_size", nullptr), HasSubstr("no 'intermediate_size'"));
  EditedFolder no_tokenizer("llama");
  ConvertOptions strict = to("F32");
  strict.allow_no_tokenizer = false;
  EXPECT_THAT(no_tokenizer.error(strict), HasSubstr("neither tokenizer.json nor tokenizer.model"));
  EXPECT_FALSE(std::filesystem::exists(no_tokenizer.scratch.path() / "out.gguf"));
}

TEST(Convert, LeavesOutTheLayersOfMultiTokenPrediction) {
  EditedFolder folder("deepseek_v3");
  folder.config["num_hidden_layers"] = 1;
  const ConvertReport report = folder.convert(to("F32"));
  EXPECT_THAT(report.notes, Contains(HasSubstr("layers from 1 on")));
  EXPECT_EQ(open_checkpoint(folder.scratch.path() / "out.gguf")
                ->find("model.layers.1.input_layernorm.weight"),
            std::nullopt);
}

TEST(Convert, StopsAtAWeightThatF16CannotHold) {
  const ScratchFolder scratch;
  std::filesystem::copy(golden("gguf-convert/llama"), scratch.path() / "model");
  const auto source = open_checkpoint(golden("gguf-convert/llama"));
  std::vector<NamedTensor> tensors;
  std::vector<float> big(48 * 32, 1e5f);
  for (const std::string& name : source->names()) tensors.push_back({name, source->tensor(name)});
  for (NamedTensor& tensor : tensors) {
    if (tensor.name == "model.embed_tokens.weight")
      tensor.view.data = std::as_bytes(std::span(big));
  }
  write_safetensors(scratch.path() / "model" / "model.safetensors", tensors);
  EXPECT_THAT(error_of([&] {
                convert_to_gguf(scratch.path() / "model", scratch.path() / "out.gguf", to("F16"));
              }).message,
              HasSubstr("'token_embd.weight' holds 100000"));
  EXPECT_FALSE(std::filesystem::exists(scratch.path() / "out.gguf"));
}

}  // namespace
}  // namespace fathom
