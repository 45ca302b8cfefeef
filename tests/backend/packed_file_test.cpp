// The file of packed weights: what was written is found again, and an index that lies is refused.
#include "backend/cpu/packed_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "backend/cpu/pack.h"
#include "base/error.h"
#include "formats/test_files.h"

namespace fathom::cpu {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class PackedFileTest : public ::testing::Test {
 protected:
  /// A file with 8 KiB of matrices, this index, and a footer that vouches for it.
  void write_index(const std::string& index) const {
    std::string file(8192, '\1');
    file += index;
    const auto put = [&file](const auto& value) {
      file.append(reinterpret_cast<const char*>(&value), sizeof value);
    };
    const std::uint64_t total = file.size() + 64;
    file += "FATHOMPK";
    put(std::uint32_t{1});
    put(kPackedLayout);
    put(std::uint64_t{8192});
    put(std::uint64_t{index.size()});
    put(std::uint64_t{XXH3_64bits(index.data(), index.size())});
    put(total);
    file.append(16, '\0');
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << file;
  }
  void write_matrix(const std::string& fields) const {
    write_index(R"({"fingerprint":"f","modified_ns":1,"matrices":[{"digest":"d","source":"s",)" +
                fields + "}]}");
  }
  void expect_refused(const std::string& words) const {
    try {
      const PackedFile file(path_);
      ADD_FAILURE() << "opened, expected an error about " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Corrupt) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_THAT(error.what(), HasSubstr("m.packed"));
    }
  }

  const testing::ScratchFolder scratch_;
  const fs::path folder_ = scratch_.path();
  const fs::path path_ = folder_ / "m.packed";
  ThreadPool pool_{2};
};

TEST_F(PackedFileTest, FindsWhatWasWritten) {
  std::vector<std::byte> a(packed_matrix_bytes(DType::Q8_0, 17, 64), std::byte{3});
  std::vector<std::byte> b(packed_matrix_bytes(DType::Q4_K, 16, 512), std::byte{5});
  {
    PackedFileWriter writer(path_, {"the fingerprint", 42});
    writer.add("a", DType::Q8_0, 17, 64, a, b, pool_);
    writer.add("b", DType::Q4_K, 16, 512, b, a, pool_);
    EXPECT_FALSE(fs::exists(path_));
    writer.commit();
  }
  const PackedFile file(path_);
  EXPECT_EQ(file.origin().fingerprint, "the fingerprint");
  EXPECT_EQ(file.origin().modified_ns, 42);
  const auto& found = file.matrix("a", DType::Q8_0, 17, 64);
  EXPECT_TRUE(std::ranges::equal(found.bytes, a));
  EXPECT_EQ(found.source_digest, file.matrix("b", DType::Q4_K, 16, 512).digest);
  EXPECT_EQ(
      reinterpret_cast<std::uintptr_t>(file.matrix("b", DType::Q4_K, 16, 512).bytes.data()) % 64,
      0U);
  EXPECT_NO_THROW(file.verify(pool_, {}));
  EXPECT_THROW(file.matrix("c", DType::Q8_0, 17, 64), Error);
  EXPECT_THROW(file.matrix("a", DType::Q4_0, 17, 64), Error);
  EXPECT_THROW(file.matrix("a", DType::Q8_0, 18, 64), Error);
}

TEST_F(PackedFileTest, AWriterThatStopsLeavesNothing) {
  {
    PackedFileWriter writer(path_, {"f", 1});
    const std::vector<std::byte> a(packed_matrix_bytes(DType::Q8_0, 16, 32));
    writer.add("a", DType::Q8_0, 16, 32, a, a, pool_);
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(PackedFileTest, AnIndexThatLiesIsRefused) {
  write_matrix(R"("name":"a","dtype":"Q4_K","rows":16,"features":256,"offset":64)");
  EXPECT_NO_THROW(PackedFile{path_});
  const char* const bad[] = {
      R"("name":"a","dtype":"Q4_K","rows":16,"features":256,"offset":8128)",  // ends too late
      R"("name":"a","dtype":"Q4_K","rows":16,"features":256,"offset":18446744073709551552)",
      R"("name":"a","dtype":"Q4_K","rows":16,"features":256,"offset":8)",  // not aligned
      R"("name":"a","dtype":"Q4_K","rows":16,"features":250,"offset":0)",  // no whole blocks
      R"("name":"a","dtype":"Q4_K","rows":0,"features":256,"offset":0)",
      R"("name":"a","dtype":"Q4_K","rows":18446744073709551615,"features":256,"offset":0)",
      R"("name":"a","dtype":"Q4_K","rows":4294967296,"features":1099511627776,"offset":0)",
      R"("name":"a","dtype":"F32","rows":16,"features":256,"offset":0)",  // never packed
      R"("name":"a","dtype":"Q9_X","rows":16,"features":256,"offset":0)",
  };
  for (const char* fields : bad) {
    write_matrix(fields);
    expect_refused("'a'");
  }
  for (const char* fields : {R"("name":"a")", R"("name":7)", R"("rows":[])"}) {
    write_matrix(fields);
    expect_refused("index");
  }
  for (const char* index : {"", "{", "[]", "7", R"({"matrices":7})"}) {
    write_index(index);
    expect_refused("index");
  }
  write_index(R"({"fingerprint":"f","modified_ns":1,"matrices":[
    {"name":"a","dtype":"Q8_0","rows":16,"features":32,"offset":0,"digest":"","source":""},
    {"name":"a","dtype":"Q8_0","rows":16,"features":32,"offset":0,"digest":"","source":""}]})");
  expect_refused("two matrices");
}

}  // namespace
}  // namespace fathom::cpu
