#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "formats/checkpoint.h"
#include "formats/gguf_checkpoint.h"
#include "formats/test_files.h"

namespace fathom {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::error_of;
using testing::floats;
using testing::GgufBytes;
using ::testing::HasSubstr;
using testing::ScratchFolder;

GgufBytes small() {
  GgufBytes file;
  file.text("general.architecture", "llama").u32("llama.block_count", 1);
  file.tensor("token_embd.weight", {2, 3}, 0, 0).tensor("blk.0.attn_q.weight", {2, 2}, 0, 32);
  file.data = floats({1, 2, 3, 4, 5, 6}) + std::string(8, '\0') + floats({7, 8, 9, 10});
  return file;
}

std::unique_ptr<Checkpoint> open_bytes(const ScratchFolder& folder, std::string_view bytes) {
  return open_checkpoint(folder.write("model.gguf", bytes));
}

float value(const TensorView& view, std::size_t i) {
  float result;
  std::memcpy(&result, view.data.data() + i * 4, 4);
  return result;
}

TEST(Gguf, ReadsTensorsUnderTheirHuggingFaceNames) {
  const ScratchFolder folder;
  const auto model = open_bytes(folder, small().str());
  EXPECT_EQ(model->source(), CheckpointSource::Gguf);
  EXPECT_THAT(model->names(),
              ElementsAre("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"));
  const TensorView embedding = model->tensor("model.embed_tokens.weight");
  EXPECT_EQ(embedding.shape, (Shape{3, 2}));  // the file says {2, 3}, innermost first
  EXPECT_EQ(value(embedding, 5), 6);
  EXPECT_EQ(value(model->tensor("model.layers.0.self_attn.q_proj.weight"), 0), 7);
  EXPECT_EQ(model->weight_bytes(), 40u);
  EXPECT_FALSE(model->find("lm_head.weight").has_value());
}

TEST(Gguf, ReadsVersion2) {
  const ScratchFolder folder;
  GgufBytes file = small();
  file.version = 2;
  EXPECT_EQ(open_bytes(folder, file.str())->names().size(), 2u);
}

TEST(Gguf, DecodesEveryTypeOfValue) {
  const ScratchFolder folder;
  GgufBytes file;
  file.key("u8", 0).keys.put<std::uint8_t>(200);
  file.key("i8", 1).keys.put<std::int8_t>(-3);
  file.key("u16", 2).keys.put<std::uint16_t>(60000);
  file.key("i16", 3).keys.put<std::int16_t>(-300);
  file.key("u32", 4).keys.put<std::uint32_t>(4000000000u);
  file.key("i32", 5).keys.put<std::int32_t>(-70000);
  file.key("f32", 6).keys.put<float>(1.5f);
  file.key("bool", 7).keys.put<std::uint8_t>(1);
  file.key("string", 8).keys.string("h\xc3\xa9llo");
  file.key("u64", 10).keys.put<std::uint64_t>(1ull << 40);
  file.key("i64", 11).keys.put<std::int64_t>(-(1ll << 40));
  file.key("f64", 12).keys.put<double>(0.1);
  file.key("strings", 9).keys.put<std::uint32_t>(8).put<std::uint64_t>(2).string("a").string("");
  file.key("i32s", 9)
      .keys.put<std::uint32_t>(5)
      .put<std::uint64_t>(2)
      .put<std::int32_t>(-1)
      .put<std::int32_t>(7);
  file.key("f32s", 9).keys.put<std::uint32_t>(6).put<std::uint64_t>(1).put<float>(0.25f);
  file.key("bools", 9)
      .keys.put<std::uint32_t>(7)
      .put<std::uint64_t>(2)
      .put<std::uint8_t>(1)
      .put<std::uint8_t>(0);
  const auto model = open_bytes(folder, file.str());
  EXPECT_EQ(model->get_int("u8"), 200);
  EXPECT_EQ(model->get_int("i8"), -3);
  EXPECT_EQ(model->get_int("u16"), 60000);
  EXPECT_EQ(model->get_int("i16"), -300);
  EXPECT_EQ(model->get_int("u32"), 4000000000);
  EXPECT_EQ(model->get_int("i32"), -70000);
  EXPECT_EQ(model->get_float("f32"), 1.5);
  EXPECT_EQ(model->get_bool("bool"), true);
  EXPECT_EQ(model->get_string("string"), "h\xc3\xa9llo");
  EXPECT_EQ(model->get_int("u64"), 1ll << 40);
  EXPECT_EQ(model->get_int("i64"), -(1ll << 40));
  EXPECT_EQ(model->get_float("f64"), 0.1);
  EXPECT_EQ(model->get_float("u8"), 200.0);
  EXPECT_THAT(std::get<MetaStrings>(*model->metadata("strings")), ElementsAre("a", ""));
  EXPECT_THAT(std::get<MetaInts>(*model->metadata("i32s")), ElementsAre(-1, 7));
  EXPECT_THAT(std::get<MetaFloats>(*model->metadata("f32s")), ElementsAre(0.25));
  EXPECT_THAT(std::get<MetaBools>(*model->metadata("bools")), ElementsAre(true, false));
  EXPECT_EQ(model->metadata("absent"), nullptr);
  EXPECT_EQ(model->metadata_keys().size(), 16u);
}

TEST(Gguf, NamesKeyExpectedAndFoundWhenAValueHasAnotherType) {
  const ScratchFolder folder;
  GgufBytes file;
  file.text("llama.block_count", "many");
  const auto model = open_bytes(folder, file.str());
  const auto wrong = error_of([&] { (void)model->get_int("llama.block_count"); });
  EXPECT_EQ(wrong.code, ErrorCode::Corrupt);
  EXPECT_THAT(wrong.message, HasSubstr("'llama.block_count' is a string, expected an integer"));
  EXPECT_THAT(error_of([&] { (void)model->need_int("llama.context_length"); }).message,
              HasSubstr("has no 'llama.context_length'"));
  const auto missing = error_of([&] { (void)model->tensor("model.norm.weight"); });
  EXPECT_EQ(missing.code, ErrorCode::NotFound);
  EXPECT_THAT(missing.message, HasSubstr("'model.norm.weight'"));
}

TEST(Gguf, ShowsStackedExpertsAsSlicesToo) {
  const ScratchFolder folder;
  GgufBytes file;
  file.text("general.architecture", "deepseek2");
  file.tensor("blk.1.ffn_gate_exps.weight", {2, 1, 3}, 0, 0);
  file.data = floats({1, 2, 3, 4, 5, 6});
  const auto model = open_bytes(folder, file.str());
  EXPECT_THAT(model->names(), ElementsAre("model.layers.1.mlp.experts.gate_proj.weight"));
  EXPECT_EQ(model->tensor("model.layers.1.mlp.experts.gate_proj.weight").shape, (Shape{3, 1, 2}));
  const TensorView last = model->tensor("model.layers.1.mlp.experts.2.gate_proj.weight");
  EXPECT_EQ(last.shape, (Shape{1, 2}));
  EXPECT_EQ(value(last, 0), 5);
  EXPECT_FALSE(model->find("model.layers.1.mlp.experts.3.gate_proj.weight").has_value());
  EXPECT_FALSE(model->find("model.layers.1.mlp.experts.01.gate_proj.weight").has_value());
}

TEST(Gguf, KeepsUnknownTensorsUnderTheirOwnNames) {
  const ScratchFolder folder;
  GgufBytes file;
  file.text("general.architecture", "deepseek2");
  file.tensor("blk.0.something_new.weight", {1}, 0, 0);
  file.data = floats({1});
  EXPECT_TRUE(open_bytes(folder, file.str())->find("blk.0.something_new.weight").has_value());
}

TEST(Gguf, HonoursTheFilesAlignment) {
  const ScratchFolder folder;
  GgufBytes file;
  file.u32("general.alignment", 256);
  file.tensor("a", {1}, 0, 0).tensor("b", {1}, 0, 256);
  file.data = floats({1}) + std::string(252, 'x') + floats({2});
  file.alignment = 256;
  EXPECT_EQ(value(open_bytes(folder, file.str())->tensor("b"), 0), 2);
}

GgufBytes shard(std::uint16_t number, std::uint16_t count, std::int32_t tensors) {
  GgufBytes file;
  if (number == 0) file.text("general.architecture", "llama");
  file.key("split.no", 2).keys.put(number);
  file.key("split.count", 2).keys.put(count);
  file.key("split.tensors.count", 5).keys.put(tensors);
  file.tensor(number == 0 ? "output.weight" : "blk.0.ffn_up.weight", {1}, 0, 0);
  file.data = floats({static_cast<float>(number)});
  return file;
}

TEST(GgufSplit, JoinsTheFilesOfASet) {
  const ScratchFolder folder;
  const auto first = folder.write("m-00001-of-00002.gguf", shard(0, 2, 2).str());
  folder.write("m-00002-of-00002.gguf", shard(1, 2, 2).str());
  const auto model = open_checkpoint(first);
  EXPECT_THAT(model->names(), ElementsAre("lm_head.weight", "model.layers.0.mlp.up_proj.weight"));
  EXPECT_EQ(value(model->tensor("model.layers.0.mlp.up_proj.weight"), 0), 1);
}

TEST(GgufSplit, NamesAMissingFile) {
  const ScratchFolder folder;
  const auto first = folder.write("m-00001-of-00002.gguf", shard(0, 2, 2).str());
  const auto error = error_of([&] { open_checkpoint(first); });
  EXPECT_EQ(error.code, ErrorCode::NotFound);
  EXPECT_THAT(error.message, HasSubstr("m-00002-of-00002.gguf"));
}

TEST(GgufSplit, RefusesFilesOfAnotherSet) {
  const ScratchFolder folder;
  const auto first = folder.write("m-00001-of-00002.gguf", shard(0, 2, 2).str());
  folder.write("m-00002-of-00002.gguf", shard(1, 3, 3).str());
  EXPECT_THAT(error_of([&] { open_checkpoint(first); }).message,
              HasSubstr("says it is file 2 of 3, expected 2 of 2"));
  folder.write("m-00002-of-00002.gguf", shard(0, 2, 2).str());
  EXPECT_THAT(error_of([&] { open_checkpoint(first); }).message, HasSubstr("expected 2 of 2"));
  folder.write("m-00002-of-00002.gguf", shard(1, 2, 2).text("general.architecture", "qwen2").str());
  EXPECT_THAT(error_of([&] { open_checkpoint(first); }).message, HasSubstr("two models"));
}

TEST(GgufSplit, RefusesAnotherNumberOfTensorsThanTheSetClaims) {
  const ScratchFolder folder;
  const auto first = folder.write("m-00001-of-00002.gguf", shard(0, 2, 3).str());
  folder.write("m-00002-of-00002.gguf", shard(1, 2, 3).str());
  EXPECT_THAT(error_of([&] { open_checkpoint(first); }).message,
              HasSubstr("split.tensors.count is 3"));
}

TEST(GgufSplit, RefusesAFileThatIsALinkOutOfTheFolder) {
  const ScratchFolder outside;
  const auto second = outside.write("other.gguf", shard(1, 2, 2).str());
  const ScratchFolder folder;
  const auto first = folder.write("m-00001-of-00002.gguf", shard(0, 2, 2).str());
  const auto link = folder.path() / "m-00002-of-00002.gguf";
  std::filesystem::create_symlink(second, link);
  EXPECT_THAT(error_of([&] { open_checkpoint(first); }).message,
              HasSubstr("leads out of its folder"));
  std::filesystem::remove(link);
  std::filesystem::create_symlink(link, link);  // to itself
  EXPECT_EQ(error_of([&] { open_checkpoint(first); }).code, ErrorCode::NotFound);
}

TEST(GgufSplit, PointsToTheFirstFileWhenAnotherIsOpened) {
  const ScratchFolder folder;
  folder.write("m-00001-of-00002.gguf", shard(0, 2, 2).str());
  const auto second = folder.write("m-00002-of-00002.gguf", shard(1, 2, 2).str());
  EXPECT_THAT(error_of([&] { open_checkpoint(second); }).message,
              HasSubstr("open the first, 'm-00001-of-00002.gguf'"));
}

TEST(OpenCheckpoint, SaysWhatAFileIsNot) {
  const ScratchFolder folder;
  EXPECT_EQ(error_of([&] { open_checkpoint(folder.path() / "absent.gguf"); }).code,
            ErrorCode::NotFound);
  const auto pickled = folder.write("pytorch_model.bin", "PK\x03\x04 and so on");
  EXPECT_THAT(error_of([&] { open_checkpoint(pickled); }).message, HasSubstr("neither GGUF nor"));
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.write("empty.gguf", "")); }).message,
              HasSubstr("not a GGUF file"));
}

}  // namespace
}  // namespace fathom
