// GGUF files that lie. Each is refused with one clear error, or loads without contradiction; never
// more, whatever bytes are changed. The list of lies is what other loaders fell for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "formats/checkpoint.h"
#include "formats/gguf_file.h"
#include "formats/hostile.h"
#include "formats/test_files.h"

namespace fathom {
namespace {

using testing::Bytes;
using testing::Caught;
using testing::error_of;
using testing::floats;
using testing::GgufBytes;
using ::testing::HasSubstr;
using testing::peak_mib_of;
using testing::poke;
using testing::ScratchFolder;
using testing::touch_everything;

Caught refusal(std::string_view bytes) {
  const ScratchFolder folder;
  const auto path = folder.write("model.gguf", bytes);
  Caught caught = error_of([&] { open_checkpoint(path); });
  EXPECT_THAT(caught.message, HasSubstr("model.gguf"));
  EXPECT_LT(caught.message.size(), 700u);
  EXPECT_EQ(caught.message.find('\n'), std::string::npos);
  return caught;
}

/// Refused as corrupt, with this in the message.
void expect_corrupt(const std::string& bytes, const std::string& message) {
  const Caught caught = refusal(bytes);
  EXPECT_EQ(caught.code, ErrorCode::Corrupt) << caught.message;
  EXPECT_THAT(caught.message, HasSubstr(message));
}

/// A file with a bit of everything, small enough to try every byte of.
GgufBytes varied() {
  GgufBytes file;
  file.text("general.architecture", "llama").u32("general.alignment", 32);
  file.key("b", 7).keys.put<std::uint8_t>(1);
  file.key("strings", 9).keys.put<std::uint32_t>(8).put<std::uint64_t>(2).string("x").string("yz");
  file.key("ints", 9).keys.put<std::uint32_t>(5).put<std::uint64_t>(2).put(1).put(2);
  file.key("f", 12).keys.put(0.5);
  file.tensor("token_embd.weight", {2, 3}, 0, 0).tensor("blk.0.ffn_up.weight", {32, 2}, 8, 32);
  file.data = floats({1, 2, 3, 4, 5, 6}) + std::string(8, '\0') + std::string(68, '\1');
  return file;
}

TEST(HostileGguf, RefusesAFileCutAnywhere) {
  const ScratchFolder folder;
  const std::string whole = varied().str();
  ASSERT_NO_THROW(touch_everything(*open_checkpoint(folder.write("whole.gguf", whole))));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto path = folder.write("cut.gguf", whole.substr(0, length));
    const Caught caught = error_of([&] { open_checkpoint(path); });
    EXPECT_EQ(caught.code, ErrorCode::Corrupt) << length << ": " << caught.message;
  }
}

TEST(HostileGguf, SurvivesEveryChangedByteOfTheHeader) {
  const ScratchFolder folder;
  const std::string whole = varied().str();
  const std::size_t header = varied().header().size();
  const auto path = folder.write("flipped.gguf", whole);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < header; ++at) {
    for (unsigned change = 0; change < 11; ++change) {
      // Each bit, and the values that counts and sizes break at.
      const auto old = static_cast<unsigned char>(whole[at]);
      const unsigned value = change < 8    ? old ^ (1u << change)
                             : change == 8 ? 0u
                             : change == 9 ? 0xFFu
                                           : 0x7Fu;
      poke(path, at, static_cast<char>(value));
      try {
        touch_everything(*open_checkpoint(path));
      } catch (const Error&) {
        ++refused;
      }
    }
    poke(path, at, whole[at]);
  }
  EXPECT_GT(refused, header);  // names may change; most else may not
}

TEST(HostileGguf, RefusesOtherMagicVersionsAndByteOrders) {
  expect_corrupt("GGML" + varied().str().substr(4), "does not begin with 'GGUF'");
  GgufBytes file = varied();
  for (const auto& [version, message] :
       {std::pair<std::uint32_t, const char*>{1, "version 1, retired"},
        {0, "versions 2 and 3"},
        {4, "versions 2 and 3"},
        {0x03000000, "big-endian"},
        {0x02000000, "big-endian"}}) {
    file.version = version;
    const Caught caught = refusal(file.str());
    EXPECT_EQ(caught.code, ErrorCode::Unsupported);
    EXPECT_THAT(caught.message, HasSubstr(message));
  }
}

TEST(HostileGguf, RefusesCountsLargerThanTheFile) {
  for (const std::uint64_t count :
       {std::uint64_t{1000}, std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    GgufBytes keys = varied();
    keys.key_count = count;
    expect_corrupt(keys.str(), "keys, but only");
    GgufBytes tensors = varied();
    tensors.tensor_count = count;
    expect_corrupt(tensors.str(), "tensors, but only");
    GgufBytes array;
    array.key("a", 9).keys.put<std::uint32_t>(4).put<std::uint64_t>(count);
    expect_corrupt(array.str(), "items in 'a', but only");
    GgufBytes strings;
    strings.key("s", 9).keys.put<std::uint32_t>(8).put<std::uint64_t>(count);
    expect_corrupt(strings.str(), "items in 's', but only");
    GgufBytes text;
    text.key("t", 8).keys.put<std::uint64_t>(count).raw("xyz");
    expect_corrupt(text.str(), count > 1000 ? "at most" : "takes 1000 bytes");
    Bytes name;
    name.raw("GGUF").put<std::uint32_t>(3).put<std::uint64_t>(0).put<std::uint64_t>(1);
    name.put(count).raw("some key and what follows it");
    EXPECT_NE(refusal(name.str()).message, "");
  }
}

TEST(HostileGguf, RefusesNestedArraysAndUnknownTypes) {
  GgufBytes nested;
  nested.key("a", 9)
      .keys.put<std::uint32_t>(9)
      .put<std::uint64_t>(1)
      .put<std::uint32_t>(4)
      .put<std::uint64_t>(0);
  EXPECT_EQ(refusal(nested.str()).code, ErrorCode::Unsupported);
  GgufBytes unknown;
  unknown.key("a", 13).keys.put<std::uint64_t>(0);
  expect_corrupt(unknown.str(), "has type 13");
  GgufBytes element;
  element.key("a", 9).keys.put<std::uint32_t>(77).put<std::uint64_t>(1).put<std::uint64_t>(0);
  expect_corrupt(element.str(), "has type 77");
}

TEST(HostileGguf, RefusesValuesThatAreNotOfTheirType) {
  GgufBytes boolean;
  boolean.key("b", 7).keys.put<std::uint8_t>(2);
  expect_corrupt(boolean.str(), "neither 0 nor 1");
  GgufBytes large;
  large.key("u", 10).keys.put<std::uint64_t>(1ull << 63);
  expect_corrupt(large.str(), "does not fit a signed");
}

TEST(HostileGguf, RefusesDimensionsWhoseProductWraps) {
  const auto with = [](std::initializer_list<std::uint64_t> dims) {
    GgufBytes file;
    file.tensor("t", dims, 0, 0);
    file.data = std::string(64, 'x');
    return file.str();
  };
  expect_corrupt(with({1ull << 32, 1ull << 32}), "'t'");        // 2^64: wraps to 0
  expect_corrupt(with({1ull << 62, 4}), "'t'");                 // 2^64
  expect_corrupt(with({1ull << 31, 1ull << 31, 4, 1}), "'t'");  // 2^64
  expect_corrupt(with({(1ull << 63) + 1, 2}), "'t'");           // wraps to 2
  expect_corrupt(with({1ull << 62}), "'t'");                    // elements fit, bytes do not
  expect_corrupt(with({~0ull}), "'t'");                         // -1
  expect_corrupt(with({0, 1ull << 63}), "dimension of 0");      // 0 hides the rest
  expect_corrupt(with({0}), "dimension of 0");
}

TEST(HostileGguf, RefusesTooManyDimensions) {
  GgufBytes file;
  file.tensor("t", {1, 1, 1, 1, 1}, 0, 0);
  file.data = floats({1});
  expect_corrupt(file.str(), "5 dimensions");
  Bytes huge;
  huge.raw("GGUF").put<std::uint32_t>(3).put<std::uint64_t>(1).put<std::uint64_t>(0);
  huge.string("t").put<std::uint32_t>(0xFFFFFFFF).put<std::uint64_t>(1).raw(std::string(64, '\0'));
  expect_corrupt(huge.str(), "4294967295 dimensions");
}

TEST(HostileGguf, RefusesTensorsPastTheEndOfTheFile) {
  const auto with = [](std::uint64_t offset, std::uint64_t columns) {
    GgufBytes file;
    file.tensor("t", {columns}, 0, offset);
    file.data = floats({1, 2, 3, 4, 5, 6, 7, 8});
    return file.str();
  };
  const ScratchFolder folder;
  EXPECT_NO_THROW(open_checkpoint(folder.write("ok.gguf", with(0, 8))));
  expect_corrupt(with(0, 9), "the download is probably incomplete");
  expect_corrupt(with(32, 1), "the download is probably incomplete");
  expect_corrupt(with(1ull << 40, 1), "from byte 1099511627776");
  expect_corrupt(with(~0ull - 31, 1), "incomplete");  // the sum wraps to a small offset
  expect_corrupt(with((1ull << 63), 8), "incomplete");
  expect_corrupt(with(4, 1), "not a multiple of the alignment");
}

TEST(HostileGguf, RefusesStrangeAlignments) {
  for (const std::uint32_t alignment : {0u, 3u, 48u, 0x80000000u, 0xFFFFFFFFu, 1u << 21}) {
    GgufBytes file = varied();
    file.keys = {};
    file.key_count = 0;
    file.u32("general.alignment", alignment);
    expect_corrupt(file.str(), "power of two");
  }
  GgufBytes text;
  text.text("general.alignment", "32");
  expect_corrupt(text.str(), "general.alignment has type 8");
}

TEST(HostileGguf, RefusesDuplicates) {
  GgufBytes keys;
  keys.u32("k", 1).text("other", "x").u32("k", 1);
  expect_corrupt(keys.str(), "'k' appears twice");
  GgufBytes names;
  names.tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32);
  names.data = std::string(64, '\0');
  expect_corrupt(names.str(), "'t' appears twice");
  // Two names for one tensor, once mapped.
  GgufBytes mapped;
  mapped.text("general.architecture", "llama");
  mapped.tensor("output.weight", {1}, 0, 0).tensor("lm_head.weight", {1}, 0, 32);
  mapped.data = std::string(64, '\0');
  expect_corrupt(mapped.str(), "'lm_head.weight') appears twice");
}

TEST(HostileGguf, RefusesTensorsThatOverlap) {
  GgufBytes same;
  same.tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 0);
  same.data = std::string(64, '\0');
  expect_corrupt(same.str(), "overlap");
  GgufBytes partly;
  partly.tensor("a", {9}, 0, 0).tensor("b", {8}, 0, 32);
  partly.data = std::string(64, '\0');
  expect_corrupt(partly.str(), "'a' and 'b' overlap");
}

TEST(HostileGguf, RefusesRowsThatAreNotWholeBlocks) {
  GgufBytes file;
  file.tensor("t", {33, 32}, 8, 0);  // the product is a multiple of 32, the row is not
  file.data = std::string(4096, '\0');
  expect_corrupt(file.str(), "not a whole number of Q8_0 blocks");
}

TEST(HostileGguf, NamesTypesItDoesNotRead) {
  for (const auto& [type, name] : {std::pair<std::uint32_t, const char*>{4, "Q4_2 (retired)"},
                                   {39, "MXFP4"},
                                   {31, "Q4_0_4_4 (retired)"},
                                   {9999, "type 9999"},
                                   {0xFFFFFFFF, "type 4294967295"}}) {
    GgufBytes file;
    file.tensor("t", {256}, type, 0);
    file.data = std::string(4096, '\0');
    const Caught caught = refusal(file.str());
    EXPECT_EQ(caught.code, ErrorCode::Unsupported);
    EXPECT_THAT(caught.message, HasSubstr(name));
  }
}

TEST(HostileGguf, PrintsNoControlBytesOfTheFile) {
  GgufBytes file;
  file.tensor("\x1b[31mred\x07\xff", {5}, 0, 0);
  const Caught caught = refusal(file.str());
  EXPECT_THAT(caught.message, HasSubstr(R"('\x1b[31mred\x07\xff')"));
}

TEST(HostileGguf, RefusesOverlongNames) {
  GgufBytes tensor;
  tensor.tensor(std::string(5000, 'n'), {1}, 0, 0);
  EXPECT_EQ(refusal(tensor.str()).code, ErrorCode::ResourceLimit);
  GgufBytes key;
  key.u32(std::string(5000, 'k'), 1);
  EXPECT_EQ(refusal(key.str()).code, ErrorCode::ResourceLimit);
}

TEST(HostileGguf, NoticesAFileThatChangesAfterOpening) {
  const ScratchFolder folder;
  const auto path = folder.write("m.gguf", varied().str());
  const auto model = open_checkpoint(path);
  EXPECT_NO_THROW(model->verify_unchanged());
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::seconds(2));
  EXPECT_EQ(error_of([&] { model->verify_unchanged(); }).code, ErrorCode::Io);
  std::filesystem::remove(path);
  EXPECT_EQ(error_of([&] { model->verify_unchanged(); }).code, ErrorCode::Io);
}

/// As many keys, strings and tensors as the limits let through, then an error at the very end.
std::string full_of_lies() {
  GgufBytes file;
  for (int i = 0; i < 12'000; ++i) file.u32(fmt::format("key.{:0>500}", i), 1);
  file.key("vocabulary", 9).keys.put<std::uint32_t>(8).put<std::uint64_t>(5'000'000);
  file.keys.raw(std::string(5'000'000 * 8, '\0'));  // empty strings
  for (std::uint64_t i = 0; i < 120'000; ++i) {
    file.tensor(fmt::format("blk.{:0>200}", i), {8}, 0, i * 32);
  }
  file.data = std::string(100, '\0');
  return file.str();
}

TEST(HostileGguf, IsRefusedInLittleMemory) {
  if (!testing::kMeasuresMemory) GTEST_SKIP() << "under sanitizers memory says nothing";
  const ScratchFolder folder;
  const auto path = folder.write("m.gguf", full_of_lies());
  const auto refuse = [&] {
    EXPECT_THAT(error_of([&] { open_checkpoint(path); }).message, HasSubstr("incomplete"));
  };
  EXPECT_LT(peak_mib_of(refuse), 64);
}

TEST(HostileGguf, RefusesClaimsThatASparseFileSeemsToBearOut) {
  const ScratchFolder folder;
  GgufBytes lies;
  lies.key("vocabulary", 9).keys.put<std::uint32_t>(8).put<std::uint64_t>(60'000'000);
  const auto path = folder.write("lies.gguf", lies.str());
  std::filesystem::resize_file(path, 4ull << 30);  // zeros: empty strings without end
  const auto refuse = [&] {
    EXPECT_EQ(error_of([&] { open_checkpoint(path); }).code, ErrorCode::ResourceLimit);
  };
  EXPECT_LT(peak_mib_of(refuse), 64);
}

}  // namespace
}  // namespace fathom
