#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/checkpoint.h"
#include "formats/safetensors_file.h"
#include "formats/safetensors_writer.h"
#include "formats/test_files.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using testing::read_bytes;
using testing::ScratchFolder;

TEST(SafetensorsWriter, WritesTheBytesOfTheReference) {
  const ScratchFolder folder;
  const SafetensorsFile reference(golden("safetensors-writer/mixed.safetensors"));
  std::vector<NamedTensor> tensors;
  for (const SafetensorsEntry& entry : reference.tensors()) {
    tensors.insert(tensors.begin(), {entry.name, reference.view(entry)});  // in another order
  }
  ASSERT_EQ(tensors.size(), 14u);
  write_safetensors(folder.path() / "m.safetensors", tensors);
  EXPECT_EQ(read_bytes(folder.path() / "m.safetensors"), read_bytes(reference.path()));
}

TEST(SafetensorsWriter, ReadsTheReferencesValues) {
  const SafetensorsFile file(golden("safetensors-writer/mixed.safetensors"));
  EXPECT_EQ(to_f32(file.view(*file.find("z.f32"))), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(to_f32(file.view(*file.find("a.bf16"))), (std::vector<float>{0, 1, 2, 3}));
  EXPECT_EQ(to_f32(file.view(*file.find("fp8"))), (std::vector<float>{1, -2, 448}));
  EXPECT_EQ(to_f32(file.view(*file.find("quo\"ted\\ \xc3\xbc"))), std::vector<float>{1});
  EXPECT_EQ(file.find("empty")->shape, (Shape{0, 4}));
}

struct Numbered {
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
};

Numbered numbered(std::size_t count) {
  Numbered result;
  result.values.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    result.values[i].assign(4, static_cast<float>(i));
    result.tensors.push_back({"t" + std::to_string(i),
                              {DType::F32, Shape{4}, std::as_bytes(std::span(result.values[i]))}});
  }
  return result;
}

TEST(SafetensorsWriter, WritesShardsThatTheReaderJoins) {
  const ScratchFolder folder;
  const Numbered model = numbered(5);
  folder.write("config.json", "{}");
  write_safetensors_folder(folder.path(), model.tensors, 40);  // two tensors of 16 bytes each
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "model-00003-of-00003.safetensors"));
  EXPECT_THAT(read_bytes(folder.path() / "model.safetensors.index.json"),
              HasSubstr("\"total_size\": 80"));
  const auto read = open_checkpoint(folder.path());
  ASSERT_EQ(read->names().size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(to_f32(read->tensor("t" + std::to_string(i))), model.values[i]);
  }
}

TEST(SafetensorsWriter, WritesOneFileWhenItFits) {
  const ScratchFolder folder;
  write_safetensors_folder(folder.path(), numbered(5).tensors, 80);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.safetensors.index.json"));
}

TEST(SafetensorsWriter, RefusesQuantisedTypesAndNamesTwice) {
  const ScratchFolder folder;
  const std::vector<std::byte> block(34);
  const std::vector<NamedTensor> quantised{{"q", {DType::Q8_0, Shape{32}, block}}};
  const auto path = folder.path() / "m.safetensors";
  EXPECT_EQ(error_of([&] { write_safetensors(path, quantised); }).code, ErrorCode::Unsupported);
  Numbered twice = numbered(2);
  twice.tensors[1].name = "t0";
  EXPECT_THAT(error_of([&] { write_safetensors(path, twice.tensors); }).message,
              HasSubstr("'t0' would be written twice"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace fathom
