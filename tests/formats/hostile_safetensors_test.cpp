// safetensors files, indexes and configurations that lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "formats/checkpoint.h"
#include "formats/hostile.h"
#include "formats/safetensors_file.h"
#include "formats/test_files.h"

namespace fathom {
namespace {

using testing::Bytes;
using testing::Caught;
using testing::error_of;
using testing::floats;
using ::testing::HasSubstr;
using testing::peak_mib_of;
using testing::poke;
using testing::safetensors_bytes;
using testing::ScratchFolder;
using testing::touch_everything;

Caught refusal(std::string_view bytes) {
  const ScratchFolder folder;
  const auto path = folder.write("m.safetensors", bytes);
  Caught caught = error_of([&] { open_checkpoint(path); });
  EXPECT_THAT(caught.message, HasSubstr("m.safetensors"));
  EXPECT_LT(caught.message.size(), 700u);
  return caught;
}

void expect_corrupt(std::string_view bytes, const std::string& message) {
  const Caught caught = refusal(bytes);
  EXPECT_EQ(caught.code, ErrorCode::Corrupt) << caught.message;
  EXPECT_THAT(caught.message, HasSubstr(message));
}

void expect_header_corrupt(std::string_view json, const std::string& message) {
  expect_corrupt(safetensors_bytes(json, std::string(64, '\0')), message);
}

constexpr const char* kVaried =
    R"({"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
    R"("y":{"dtype":"I8","shape":[3],"data_offsets":[8,11]}}   )";

TEST(HostileSafetensors, RefusesAFileCutAnywhere) {
  const ScratchFolder folder;
  const std::string whole = safetensors_bytes(kVaried, "0123456789a");
  ASSERT_NO_THROW(touch_everything(*open_checkpoint(folder.write("m.safetensors", whole))));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto path = folder.write("cut.safetensors", whole.substr(0, length));
    const Caught caught = error_of([&] { open_checkpoint(path); });
    EXPECT_EQ(caught.code, ErrorCode::Corrupt) << length << ": " << caught.message;
  }
}

TEST(HostileSafetensors, SurvivesEveryChangedByte) {
  const ScratchFolder folder;
  const std::string whole = safetensors_bytes(kVaried, "0123456789a");
  const auto path = folder.write("flipped.safetensors", whole);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      poke(path, at, static_cast<char>(static_cast<unsigned char>(whole[at]) ^ (1u << bit)));
      try {
        touch_everything(*open_checkpoint(path));
      } catch (const Error&) {
        ++refused;
      }
    }
    poke(path, at, whole[at]);
  }
  EXPECT_GT(refused, whole.size() * 4);
}

TEST(HostileSafetensors, RefusesHeaderLengthsBeyondFileOrLimit) {
  expect_corrupt(Bytes().put<std::uint64_t>(100).raw("{}").str(), "but the file has 10");
  expect_corrupt(Bytes().put<std::uint64_t>(100'000'001).raw("{}").str(), "at most 100000000");
  expect_corrupt(Bytes().put<std::uint64_t>(~0ull).raw("{}").str(), "at most 100000000");
  expect_corrupt(Bytes().put<std::uint64_t>(0).raw("{}").str(), "does not begin with '{'");
}

TEST(HostileSafetensors, RefusesHeadersThatAreNotOneJsonObject) {
  expect_header_corrupt(R"( {})", "does not begin with '{'");
  expect_header_corrupt(R"([])", "does not begin with '{'");
  expect_header_corrupt(R"({}{})", "not JSON");
  expect_header_corrupt(R"({"a")", "not JSON");
  expect_header_corrupt(R"({"a":NaN})", "not JSON");
  expect_header_corrupt("{\"\xff\":1}", "not JSON");
  expect_header_corrupt(R"({"a":1})", "a number where the format has none");
  expect_header_corrupt(R"({"a":null})", "null where");
  expect_header_corrupt(R"({"a":[]})", "an array where");
}

TEST(HostileSafetensors, RefusesIncompleteOrUnknownFields) {
  expect_header_corrupt(R"({"a":{}})", "lacks");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[]}})", "lacks");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0]}})", "lacks");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4,8]}})",
                        "more than two");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})",
                        "unknown field 'x'");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "an array");
  expect_header_corrupt(R"({"a":{"dtype":7,"shape":[],"data_offsets":[0,4]}})", "a number");
}

TEST(HostileSafetensors, RefusesNumbersThatAreNotSizes) {
  const auto shape = [](const std::string& dims) {
    return R"({"a":{"dtype":"F32","shape":)" + dims + R"(,"data_offsets":[0,64]}})";
  };
  expect_header_corrupt(shape("[-16]"), "negative");
  expect_header_corrupt(shape("[-0]"), "negative");
  expect_header_corrupt(shape("[16.0]"), "fraction");
  expect_header_corrupt(shape("[1e1]"), "fraction");
  expect_header_corrupt(shape("[18446744073709551632]"), "over 64 bits");  // 2^64 + 16
  expect_header_corrupt(shape(R"(["16"])"), "a string");
  expect_header_corrupt(shape("[4294967296,4294967296]"), "'a'");  // 2^64: wraps to 0
  expect_header_corrupt(shape("[4611686018427387904]"), "'a'");    // bytes wrap to 0
  expect_header_corrupt(shape("[15]"), "spans 64 bytes, but 15 elements of F32 take 60");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[16],"data_offsets":[-64,0]}})", "negative");
  expect_header_corrupt(R"({"a":{"dtype":"F32","shape":[16],"data_offsets":[64,0]}})",
                        "before it begins");
}

TEST(HostileSafetensors, RefusesHolesOverlapsAndLooseEnds) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[32],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[32],"data_offsets":)" + b + "}}";
  };
  expect_header_corrupt(two("[0,32]", "[0,32]"), "overlap");
  expect_header_corrupt(two("[0,32]", "[16,48]"), "overlap");
  expect_header_corrupt(two("[0,32]", "[33,65]"), "leave a hole");
  expect_header_corrupt(two("[1,33]", "[33,65]"), "leave a hole");
  expect_corrupt(safetensors_bytes(two("[0,32]", "[32,64]"), std::string(65, '\0')), "appended");
  expect_corrupt(safetensors_bytes(two("[0,32]", "[32,64]"), std::string(63, '\0')), "incomplete");
  expect_header_corrupt("{}", "appended");
  expect_header_corrupt(
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[18446744073709551615,18446744073709551615]}})",
      "leave a hole");
}

TEST(HostileSafetensors, RefusesDuplicates) {
  const std::string a = R"("a":{"dtype":"U8","shape":[32],"data_offsets":)";
  expect_header_corrupt("{" + a + "[0,32]}," + a + "[32,64]}}", "'a' appears twice");
  expect_header_corrupt(R"({"__metadata__":{},"__metadata__":{}})", "two '__metadata__'");
  expect_header_corrupt(R"({"__metadata__":{"k":"1","k":"2"},"a":{"dtype":"U8","shape":[64],)"
                        R"("data_offsets":[0,64]}})",
                        "__metadata__ has 'k' twice");
  expect_header_corrupt(R"({"a":{"dtype":"U8","dtype":"I8","shape":[64],"data_offsets":[0,64]}})",
                        "'dtype' twice");
}

TEST(HostileSafetensors, RefusesMetadataThatIsNotStrings) {
  expect_header_corrupt(R"({"__metadata__":{"k":1}})", "strings to strings");
  expect_header_corrupt(R"({"__metadata__":{"k":{}}})", "strings to strings");
  expect_header_corrupt(R"({"__metadata__":"k"})", "strings to strings");
}

TEST(HostileSafetensors, NamesTypesAndRanksItDoesNotRead) {
  const Caught type = refusal(
      safetensors_bytes(R"({"a":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,1]}})", "x"));
  EXPECT_EQ(type.code, ErrorCode::Unsupported);
  EXPECT_THAT(type.message, HasSubstr("'F8_E5M2'"));
  const Caught quantised = refusal(
      safetensors_bytes(R"({"a":{"dtype":"Q4_0","shape":[32],"data_offsets":[0,18]}})", "x"));
  EXPECT_EQ(quantised.code, ErrorCode::Unsupported);
  const Caught rank = refusal(
      safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[0,1]}})", "x"));
  EXPECT_EQ(rank.code, ErrorCode::Unsupported);
}

TEST(HostileSafetensors, BoundsNestingAndStrings) {
  EXPECT_EQ(refusal(safetensors_bytes("{" + std::string(100'000, '['), "")).code,
            ErrorCode::ResourceLimit);
  EXPECT_EQ(refusal(safetensors_bytes("{\"" + std::string(5'000'000, 'a') + "\":1}", "")).code,
            ErrorCode::ResourceLimit);
  EXPECT_EQ(refusal(safetensors_bytes("{\"" + std::string(2000, 'a') + "\":1}", "")).code,
            ErrorCode::ResourceLimit);
}

std::string many_names() {
  std::string names = "{";
  for (int i = 0; i < 120'000; ++i) {
    names += fmt::format(R"("{:0>100}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  }
  return names + R"("last":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
}

TEST(HostileSafetensors, IsRefusedInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  const ScratchFolder folder;
  constexpr std::size_t kLong = 90'000'000;  // nearly the longest header
  const std::filesystem::path paths[] = {
      folder.write("spaces",
                   safetensors_bytes(
                       R"({"a":{"dtype":"U8","shape":[)" + std::string(kLong, ' ') + "1]}}", "")),
      folder.write("names", safetensors_bytes(many_names(), "")),
      folder.write(
          "string",
          safetensors_bytes(R"({"__metadata__":{"k":")" + std::string(kLong, 'x') + "\"}}", "")),
      folder.write("brackets", safetensors_bytes("{" + std::string(kLong, '{'), "")),
  };
  for (const auto& path : paths) {
    const auto refuse = [&] {
      EXPECT_NE(error_of([&] { open_checkpoint(path); }).code, ErrorCode::Internal);
    };
    EXPECT_LT(peak_mib_of(refuse), 64) << path;
  }
}

TEST(HostileIndex, IsRefusedWhenItContradictsItself) {
  const ScratchFolder folder;
  folder.write("config.json", "{}");
  folder.write("s.safetensors",
               safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  folder.write("t.safetensors",
               safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  const auto with = [&](const std::string& json) {
    folder.write("model.safetensors.index.json", json);
    return error_of([&] { open_checkpoint(folder.path()); }).message;
  };
  EXPECT_THAT(with("{}"), HasSubstr("no 'weight_map'"));
  EXPECT_THAT(with("[1]"), HasSubstr("expected an object"));
  EXPECT_THAT(with(R"({"weight_map":3})"), HasSubstr("not a file's name"));
  EXPECT_THAT(with(R"({"weight_map":{"a":7}})"), HasSubstr("not a file's name"));
  EXPECT_THAT(with(R"({"weight_map":{"a":{"b":"c"}}})"), HasSubstr("not a file's name"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"s.safetensors"},"weight_map":{}})"), HasSubstr("two"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"s.safetensors","a":"s.safetensors"}})"),
              HasSubstr("lists 'a' twice"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"s.safetensors","a":"t.safetensors"}})"),
              HasSubstr("in two of the model's files"));
  EXPECT_THAT(with(R"({"weight_map":{"a":"config.json"}})"), HasSubstr("not a .safetensors file"));
  EXPECT_THAT(with(R"({"weight_map":{"a":""}})"), HasSubstr("not a .safetensors file"));
  EXPECT_THAT(with(R"({"weight_map":{"a")"), HasSubstr("not JSON"));
}

std::string repeated(const std::string& head, const std::string& item, std::size_t bytes) {
  std::string text = head;
  while (text.size() < bytes) text += item;
  return text;
}

TEST(HostileIndex, RefusesLinksThatGoInCircles) {
  const ScratchFolder folder;
  folder.write("config.json", "{}");
  std::filesystem::create_symlink("b", folder.path() / "a");
  std::filesystem::create_symlink("a", folder.path() / "b");
  for (const char* name : {"model.safetensors.index.json", "model.safetensors"}) {
    std::filesystem::create_symlink("a", folder.path() / name);
    const auto refused = error_of([&] { open_checkpoint(folder.path()); });
    EXPECT_THAT(refused.message, HasSubstr(folder.path().string()));
    std::filesystem::remove(folder.path() / name);
  }
  EXPECT_THAT(error_of([&] { open_checkpoint(folder.path() / "a"); }).message, HasSubstr("a"));
}

TEST(HostileIndex, IsRefusedInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  const ScratchFolder folder;
  folder.write("config.json", "{}");
  folder.write("model.safetensors.index.json",
               repeated("{\"weight_map\":{", "\"a\":\"b.safetensors\",", 15u << 20));
  const auto refuse = [&] {
    EXPECT_NE(error_of([&] { open_checkpoint(folder.path()); }).code, ErrorCode::Internal);
  };
  EXPECT_LT(peak_mib_of(refuse), 64);
  folder.write("config.json", repeated("{\"a\":[", "\"\",", 3u << 20));
  EXPECT_LT(peak_mib_of(refuse), 64);
  folder.write("config.json", repeated("{", "\"\":", 3u << 20));
  EXPECT_LT(peak_mib_of(refuse), 64);
}

TEST(HostileIndex, NoticesAShardThatChangesAfterOpening) {
  const ScratchFolder folder;
  folder.write("config.json", "{}");
  const auto shard = folder.write(
      "model.safetensors",
      safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  const auto model = open_checkpoint(folder.path());
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) + 1);
  EXPECT_EQ(error_of([&] { model->verify_unchanged(); }).code, ErrorCode::Io);
}

}  // namespace
}  // namespace fathom
