#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "formats/checkpoint.h"
#include "formats/memory_checkpoint.h"
#include "formats/safetensors_file.h"
#include "formats/test_files.h"

namespace fathom {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using testing::floats;
using ::testing::HasSubstr;
using testing::safetensors_bytes;
using testing::ScratchFolder;

constexpr const char* kTwo = R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
                             R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";

TEST(Safetensors, ReadsTensorsByOffset) {
  const ScratchFolder folder;
  const SafetensorsFile file(
      folder.write("m.safetensors", safetensors_bytes(kTwo, floats({1, 2, 3}))));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[0].shape.rank(), 0u);
  EXPECT_EQ(file.find("b")->shape, Shape{2});
  EXPECT_EQ(file.find("c"), nullptr);
  float last;
  std::memcpy(&last, file.view(*file.find("b")).data.data() + 4, 4);
  EXPECT_EQ(last, 3);
  EXPECT_EQ(file.metadata().front().second, "pt");
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  const ScratchFolder folder;
  const std::string spaces = std::string("{}") + std::string(30, ' ');
  EXPECT_TRUE(
      SafetensorsFile(folder.write("empty", safetensors_bytes(spaces, ""))).tensors().empty());
  // Empty tensors: two may share an offset.
  const SafetensorsFile file(folder.write(
      "zero", safetensors_bytes(R"({"x":{"dtype":"BF16","shape":[0,4],"data_offsets":[0,0]},)"
                                R"("y":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]},)"
                                R"("z":{"dtype":"BOOL","shape":[3,0],"data_offsets":[1,1]}})",
                                "q")));
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.find("y")->dtype, DType::F8_E4M3);
  EXPECT_EQ(file.find("z")->shape.elements(), 0u);
}

TEST(Safetensors, OpensASingleFileAsACheckpoint) {
  const ScratchFolder folder;
  const auto model =
      open_checkpoint(folder.write("m.bin", safetensors_bytes(kTwo, floats({1, 2, 3}))));
  EXPECT_EQ(model->source(), CheckpointSource::HuggingFace);
  EXPECT_EQ(model->get_string("__metadata__.format"), "pt");
  EXPECT_EQ(model->weight_bytes(), 12u);
}

std::string one(const std::string& name, float value) {
  return safetensors_bytes("{\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                           floats({value}));
}

constexpr const char* kIndex =
    R"({"metadata":{"total_size":8,"nested":[1,{"weight_map":{"x":"y"}}]},)"
    R"("weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})";

TEST(HfFolder, ReadsShardsByTheirIndex) {
  const ScratchFolder folder;
  folder.write("config.json", R"({"model_type":"llama"})");
  folder.write("model.safetensors.index.json", kIndex);
  folder.write("s1.safetensors", one("a", 1));
  folder.write("s2.safetensors", one("b", 2));
  const auto model = open_checkpoint(folder.path());
  EXPECT_THAT(model->names(), ElementsAre("a", "b"));
  EXPECT_EQ(model->get_string("model_type"), "llama");
}

TEST(HfFolder, NamesAMissingShardAndASwappedOne) {
  const ScratchFolder folder;
  folder.write("config.json", "{}");
  folder.write("model.safetensors.index.json", kIndex);
  folder.write("s1.safetensors", one("a", 1));
  const auto missing = error_of([&] { open_checkpoint(folder.path()); });
  EXPECT_EQ(missing.code, ErrorCode::NotFound);
  EXPECT_THAT(missing.message, HasSubstr("s2.safetensors"));
  folder.write("s2.safetensors", one("a", 1));
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path()); }).message,
              HasSubstr("says that 's2.safetensors' holds 'b', but it does not"));
}

TEST(HfFolder, NeedsConfigAndWeights) {
  const ScratchFolder folder;
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path()); }).message, HasSubstr("config.json"));
  folder.write("config.json", "{}");
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path()); }).message,
              HasSubstr("no .safetensors file"));
  folder.write("one.safetensors", one("a", 1));
  EXPECT_EQ(open_checkpoint(folder.path())->names().size(), 1u);
  folder.write("two.safetensors", one("b", 1));
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path()); }).message,
              HasSubstr("no model.safetensors.index.json"));
}

TEST(HfFolder, RefusesIndexPathsThatLeaveTheFolder) {
  const ScratchFolder outside;
  outside.write("s.safetensors", one("a", 1));
  const ScratchFolder folder;
  folder.write("config.json", "{}");
  const auto with_path = [&](const std::string& path) {
    folder.write("model.safetensors.index.json", R"({"weight_map":{"a":")" + path + "\"}}");
    return error_of([&] { open_checkpoint(folder.path()); });
  };
  for (const std::string& path :
       {"../" + outside.path().filename().string() + "/s.safetensors",
        (outside.path() / "s.safetensors").string(), std::string("x/../../s.safetensors"),
        std::string("s\\u0000.safetensors")}) {
    const auto error = with_path(path);
    EXPECT_EQ(error.code, ErrorCode::Corrupt) << path;
    EXPECT_THAT(error.message, HasSubstr("not a plain name")) << path;
  }
  std::filesystem::create_symlink(outside.path() / "s.safetensors",
                                  folder.path() / "link.safetensors");
  EXPECT_THAT(with_path("link.safetensors").message, HasSubstr("leads out of its folder"));
  std::filesystem::create_directory_symlink(outside.path(), folder.path() / "dir");
  EXPECT_THAT(with_path("dir/s.safetensors").message, HasSubstr("leads out of its folder"));
}

TEST(HfFolder, FollowsTheLinksOfTheHubsCache) {
  const ScratchFolder cache;
  cache.write("blobs/0123", one("a", 1));
  cache.write("blobs/4567", "{}");
  const auto snapshot = cache.path() / "snapshots" / "abc";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_symlink("../../blobs/0123", snapshot / "model.safetensors");
  std::filesystem::create_symlink("../../blobs/4567", snapshot / "config.json");
  EXPECT_THAT(open_checkpoint(snapshot)->names(), ElementsAre("a"));
}

TEST(HfConfig, IsFlattenedWithDots) {
  const ScratchFolder folder;
  folder.write("model.safetensors", one("a", 1));
  folder.write("generation_config.json", R"({"eos_token_id":[1,2]})");
  folder.write("config.json", R"({
    "hidden_size": 64, "rms_norm_eps": 1e-6, "tie": true, "absent": null, "name": "x",
    "rope_scaling": {"type": "yarn", "factor": 40, "deep": {"er": -1}},
    "eos_token_id": [1, 2], "mixed_numbers": [1, 2.5], "architectures": ["LlamaForCausalLM"],
    "flags": [true, false], "empty": [], "auto_map": ["m.Class", null, "n"],
    "blocks": [[1, 2], {"k": 3}, 4], "late": [5, {"k": 6}]})");
  const auto model = open_checkpoint(folder.path());
  EXPECT_EQ(model->need_int("hidden_size"), 64);
  EXPECT_EQ(model->need_float("rms_norm_eps"), 1e-6);
  EXPECT_EQ(model->get_bool("tie"), true);
  EXPECT_EQ(model->metadata("absent"), nullptr);
  EXPECT_EQ(model->need_string("rope_scaling.type"), "yarn");
  EXPECT_EQ(model->need_float("rope_scaling.factor"), 40);
  EXPECT_EQ(model->need_int("rope_scaling.deep.er"), -1);
  EXPECT_THAT(std::get<MetaInts>(*model->metadata("eos_token_id")), ElementsAre(1, 2));
  EXPECT_THAT(std::get<MetaFloats>(*model->metadata("mixed_numbers")), ElementsAre(1, 2.5));
  EXPECT_THAT(std::get<MetaStrings>(*model->metadata("architectures")),
              ElementsAre("LlamaForCausalLM"));
  EXPECT_THAT(std::get<MetaBools>(*model->metadata("flags")), ElementsAre(true, false));
  EXPECT_TRUE(std::get<MetaInts>(*model->metadata("empty")).empty());
  EXPECT_EQ(model->need_string("auto_map.0"), "m.Class");
  EXPECT_EQ(model->metadata("auto_map.1"), nullptr);
  EXPECT_EQ(model->need_string("auto_map.2"), "n");
  EXPECT_THAT(std::get<MetaInts>(*model->metadata("blocks.0")), ElementsAre(1, 2));
  EXPECT_EQ(model->need_int("blocks.1.k"), 3);
  EXPECT_EQ(model->need_int("blocks.2"), 4);
  EXPECT_EQ(model->need_int("late.0"), 5);
  EXPECT_EQ(model->need_int("late.1.k"), 6);
  EXPECT_THAT(std::get<MetaInts>(*model->metadata("generation_config.eos_token_id")),
              ElementsAre(1, 2));
}

TEST(HfConfig, RefusesWhatContradictsItself) {
  const ScratchFolder folder;
  folder.write("model.safetensors", one("a", 1));
  const auto with_config = [&](const std::string& text) {
    folder.write("config.json", text);
    return error_of([&] { open_checkpoint(folder.path()); });
  };
  EXPECT_THAT(with_config(R"({"a":1,"a":2})").message, HasSubstr("'a' appears twice"));
  EXPECT_THAT(with_config(R"({"a.b":1,"a":{"b":2}})").message, HasSubstr("'a.b' appears twice"));
  EXPECT_THAT(with_config(R"({"a":18446744073709551615})").message, HasSubstr("64-bit"));
  EXPECT_THAT(with_config(R"({"a":)").message, HasSubstr("not JSON"));
  EXPECT_THAT(with_config("[1]").message, HasSubstr("expected an object"));
  EXPECT_THAT(with_config("3").message, HasSubstr("expected an object"));
  EXPECT_THAT(with_config(std::string(100, '[')).message, HasSubstr("nested"));
  EXPECT_THAT(with_config("").message, HasSubstr("not JSON"));
}

TEST(MemoryCheckpoint, HoldsWhatATrainerPutsIn) {
  MemoryCheckpoint model;
  model.set("hidden_size", 64);
  model.set("rope_theta", 1e6);
  model.set("tie_word_embeddings", true);
  model.set("model_type", "deepseek_v3");
  model.set("hidden_size", 32);
  const std::vector<float> values{1, 2, 3, 4};
  model.add("w", Shape{2, 2}, values);
  const auto bytes = model.add("z", DType::BF16, Shape{2});
  bytes[0] = std::byte{7};
  EXPECT_EQ(model.need_int("hidden_size"), 32);
  EXPECT_EQ(model.need_float("rope_theta"), 1e6);
  EXPECT_EQ(model.need_string("model_type"), "deepseek_v3");
  EXPECT_EQ(model.get_bool("tie_word_embeddings"), true);
  EXPECT_THAT(model.names(), ElementsAre("w", "z"));
  EXPECT_EQ(model.tensor("z").data[0], std::byte{7});
  EXPECT_EQ(model.weight_bytes(), 20u);
  EXPECT_EQ(error_of([&] { model.add("w", DType::F32, Shape{1}); }).code,
            ErrorCode::InvalidArgument);
  EXPECT_EQ(error_of([&] { model.add_view("v", {DType::F32, Shape{3}, bytes}); }).code,
            ErrorCode::InvalidArgument);
}

}  // namespace
}  // namespace fathom
