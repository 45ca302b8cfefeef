#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/convert.h"
#include "formats/describe.h"
#include "formats/memory_checkpoint.h"
#include "formats/test_files.h"

namespace fathom {
namespace {

using testing::floats;
using testing::GgufBytes;
using testing::golden;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ScratchFolder;

TEST(Describe, CountsWhatOneTokenMeets) {
  // Layer 1 of the tiny V3 has 4 experts of 3 * 32 * 16 elements, and a token meets 2 of them.
  const auto model = open_checkpoint(golden("gguf-convert/deepseek_v3"));
  const ModelDescription d = describe(*model);
  EXPECT_EQ(d.format, "safetensors");
  EXPECT_EQ(d.architecture, "deepseek_v3");
  EXPECT_EQ(d.name, "deepseek_v3");
  EXPECT_EQ(d.parameters - d.active_parameters, 2u * 3 * 32 * 16);
  EXPECT_EQ(d.weight_bytes, 4 * d.parameters);
  EXPECT_EQ(d.experts, 4);
  EXPECT_EQ(d.experts_used, 2);
  EXPECT_EQ(d.kv_lora_rank, 16);
  EXPECT_EQ(d.context_length, 256);
  EXPECT_EQ(d.tokenizer, "");
  EXPECT_FALSE(d.chat_template);
  ASSERT_EQ(d.types.size(), 1u);
  EXPECT_EQ(d.types[0].dtype, DType::F32);
  EXPECT_EQ(d.quantisation, "F32");
}

TEST(Describe, SaysTheSameOfAModelInBothFormats) {
  const ScratchFolder folder;
  ConvertOptions options;
  options.type = "BF16";
  options.allow_no_tokenizer = true;
  options.name = "tiny";
  convert_to_gguf(golden("gguf-convert/deepseek_v3"), folder.path() / "m.gguf", options);
  const ModelDescription hf = describe(*open_checkpoint(golden("gguf-convert/deepseek_v3")));
  const ModelDescription gguf = describe(*open_checkpoint(folder.path() / "m.gguf"));
  EXPECT_EQ(gguf.format, "GGUF v3");
  EXPECT_EQ(gguf.name, "tiny");
  EXPECT_EQ(gguf.architecture, "deepseek2");
  EXPECT_EQ(gguf.quantisation, "BF16");
  EXPECT_EQ(gguf.parameters, hf.parameters);
  EXPECT_EQ(gguf.active_parameters, hf.active_parameters);
  EXPECT_EQ(gguf.layers, hf.layers);
  EXPECT_EQ(gguf.vocab_size, hf.vocab_size);
  EXPECT_LT(gguf.bits_per_weight(), 20);
}

TEST(Describe, LeavesOutTheScalesOfFp8Weights) {
  const ModelDescription d = describe(*open_checkpoint(golden("gguf-convert/deepseek_v3_fp8")));
  EXPECT_EQ(d.quantisation, "FP8 128x128");
  std::uint64_t elements = 0;
  for (const TypeUse& use : d.types) elements += use.elements;
  EXPECT_LT(d.parameters, elements);
}

TEST(Describe, WorksOnAnArchitectureThatCannotRun) {
  const ScratchFolder folder;
  GgufBytes file;
  file.text("general.architecture", "mystery").u32("mystery.block_count", 7);
  file.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "odd");
  file.text("tokenizer.chat_template", "{{ x }}").u32("general.file_type", 9999);
  file.tensor("w", {3}, 0, 0);
  file.data = floats({1, 2, 3});
  const ModelDescription d = describe(*open_checkpoint(folder.write("m.gguf", file.str())));
  EXPECT_EQ(d.architecture, "mystery");
  EXPECT_EQ(d.layers, 7);
  EXPECT_EQ(d.parameters, 3u);
  EXPECT_TRUE(d.chat_template);
  EXPECT_FALSE(d.context_length.has_value());
}

TEST(Describe, WritesJsonAndTextWhateverTheFileHolds) {
  const ScratchFolder folder;
  GgufBytes file;
  file.text("general.name", "\x1b[2Jgone \xff");
  const ModelDescription d = describe(*open_checkpoint(folder.write("m.gguf", file.str())));
  const auto json = nlohmann::json::parse(to_json(d));
  EXPECT_EQ(json["parameters"], 0);
  EXPECT_TRUE(json["context_length"].is_null());
  EXPECT_EQ(json["files"].size(), 1u);
  EXPECT_THAT(to_text(d), Not(HasSubstr("\x1b")));
  EXPECT_THAT(to_text(d), HasSubstr("\\x1b[2Jgone"));
}

TEST(Describe, FindsTheChatTemplateOfAFolder) {
  const ScratchFolder folder;
  std::filesystem::copy(golden("gguf-convert/llama"), folder.path() / "m");
  folder.write("m/tokenizer.json", "{}");
  folder.write("m/tokenizer_config.json", R"({"chat_template":"{{ x }}"})");
  ModelDescription d = describe(*open_checkpoint(folder.path() / "m"));
  EXPECT_EQ(d.tokenizer, "tokenizer.json");
  EXPECT_TRUE(d.chat_template);
  folder.write("m/tokenizer_config.json", R"({})");
  EXPECT_FALSE(describe(*open_checkpoint(folder.path() / "m")).chat_template);
  folder.write("m/chat_template.jinja", "{{ x }}");
  EXPECT_TRUE(describe(*open_checkpoint(folder.path() / "m")).chat_template);
}

TEST(Describe, WorksOnMemory) {
  MemoryCheckpoint model;
  model.set("model_type", "llama");
  model.add("w", DType::BF16, Shape{4, 4});
  EXPECT_EQ(describe(model).parameters, 16u);
  EXPECT_EQ(describe(model).format, "memory");
}

}  // namespace
}  // namespace fathom
