#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "formats/gguf_file.h"
#include "formats/gguf_writer.h"
#include "formats/test_files.h"
#include "tensor/quantise.h"

namespace fathom {
namespace {

using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::read_bytes;
using testing::ScratchFolder;

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<float> counting(std::size_t count, float from = 0) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = from + static_cast<float>(i);
  return values;
}

TEST(GgufWriter, WritesTheBytesOfTheGgufPackage) {
  const ScratchFolder folder;
  GgufMetadata metadata;
  metadata.string("general.architecture", "llama");
  metadata.u32("general.alignment", 64);
  metadata.u32("an.u32", 4000000000);
  metadata.u64("an.u64", 1ull << 40);
  metadata.i32("an.i32", -70000);
  metadata.f32("an.f32", 0.1);
  metadata.boolean("a.bool", true);
  metadata.string("a.string", "h\xc3\xa9llo\n");
  metadata.strings("some.strings", std::vector<std::string>{"a", "", "\xc3\xbcn\xc3\xaf"});
  metadata.i32s("some.i32s", std::vector<std::int32_t>{1, -2, 3});
  metadata.f32s("some.f32s", std::vector<float>{0.5f, -0.25f});
  const auto path = folder.path() / "values.gguf";
  GgufWriter writer(path, metadata,
                    {{"matrix", DType::F32, Shape{2, 3}},
                     {"vector.f16", DType::F16, Shape{3}},
                     {"quantised", DType::Q8_0, Shape{2, 32}},
                     {"stack", DType::F32, Shape{2, 3, 4}}});
  writer.append(bytes_of(counting(6)));
  std::array<std::byte, 6> halves;
  quantise(DType::F16, std::vector<float>{1, -2, 65504}, halves);
  writer.append(halves);
  std::array<std::byte, 68> blocks;
  quantise(DType::Q8_0, counting(64, -32), blocks);
  writer.append(blocks);
  const std::vector<float> stack = counting(24);
  writer.append(bytes_of(stack).first(10));  // in pieces of any size
  writer.append(bytes_of(stack).subspan(10));
  writer.commit();
  EXPECT_EQ(read_bytes(path), read_bytes(golden("gguf-writer/values.gguf")));
}

TEST(GgufWriter, IsReadBackByTheReader) {
  const GgufFile file(golden("gguf-writer/values.gguf"));
  EXPECT_EQ(file.alignment(), 64u);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[3].shape, (Shape{2, 3, 4}));
  EXPECT_EQ(to_f32(file.view(file.tensors()[3])), counting(24));
  EXPECT_EQ(to_f32(file.view(file.tensors()[1])), (std::vector<float>{1, -2, 65504}));
  EXPECT_EQ(std::get<std::string_view>(file.decode(*file.find("a.string"))), "h\xc3\xa9llo\n");
  // Copied keys keep their bytes.
  GgufMetadata copy;
  for (const GgufKey& key : file.keys()) copy.copy(key);
  const ScratchFolder folder;
  std::vector<TensorPlan> plans;
  for (const GgufTensor& t : file.tensors())
    plans.push_back({std::string(t.name), t.dtype, t.shape});
  GgufWriter writer(folder.path() / "copy.gguf", copy, plans);
  for (const GgufTensor& t : file.tensors()) writer.append(file.view(t).data);
  writer.commit();
  EXPECT_EQ(read_bytes(folder.path() / "copy.gguf"), read_bytes(file.path()));
}

TEST(GgufWriter, LeavesNothingBehindWithoutCommit) {
  const ScratchFolder folder;
  {
    GgufWriter writer(folder.path() / "m.gguf", {}, {{"a", DType::F32, Shape{2}}});
    writer.append(bytes_of({1, 2}));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, RefusesWhatOthersCouldNotRead) {
  const ScratchFolder folder;
  const auto with = [&](std::vector<TensorPlan> tensors) {
    return error_of([&] { GgufWriter(folder.path() / "m.gguf", {}, std::move(tensors)); }).message;
  };
  EXPECT_THAT(with({{"a", DType::F32, Shape{1}}, {"a", DType::F32, Shape{1}}}), HasSubstr("twice"));
  EXPECT_THAT(with({{std::string(64, 'x'), DType::F32, Shape{1}}}), HasSubstr("63 bytes"));
  EXPECT_THAT(with({{"a", DType::F32, Shape{0, 3}}}), HasSubstr("empty"));
  EXPECT_THAT(with({{"a", DType::F8_E4M3, Shape{1}}}), HasSubstr("no type F8_E4M3"));
  EXPECT_THAT(with({{"a", DType::Q4_K, Shape{100}}}), HasSubstr("100"));
  GgufMetadata metadata;
  metadata.u32("general.alignment", 48);
  EXPECT_THAT(error_of([&] { GgufWriter(folder.path() / "m.gguf", metadata, {}); }).message,
              HasSubstr("power of two"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, HoldsItsCallerToThePlan) {
  const ScratchFolder folder;
  GgufWriter writer(folder.path() / "m.gguf", {}, {{"a", DType::F32, Shape{2}}});
  EXPECT_THAT(error_of([&] { writer.append(bytes_of({1, 2, 3})); }).message, HasSubstr("12 bytes"));
  EXPECT_THAT(error_of([&] { writer.commit(); }).message, HasSubstr("0 of 1"));
}

}  // namespace
}  // namespace fathom
