// FileMap, AtomicFile and Sha256.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file_map.h"
#include "base/sha256.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  Files() {
    folder_ = fs::path(testing::TempDir()) /
              ("fathom-files-" +
               std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~Files() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  static std::string text(const FileMap& map) {
    return {reinterpret_cast<const char*>(map.bytes().data()), map.size()};
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

TEST_F(Files, MapShowsTheBytes) {
  const FileMap map(write("a", "hello"));
  EXPECT_EQ(text(map), "hello");
  const FileMap empty(write("b", ""));
  EXPECT_EQ(empty.size(), 0U);
  EXPECT_TRUE(empty.bytes().empty());
}

TEST_F(Files, MapSurvivesAMove) {
  FileMap first(write("a", "hello"));
  FileMap second(std::move(first));
  EXPECT_EQ(text(second), "hello");
  first = FileMap(write("b", "other"));
  EXPECT_EQ(text(first), "other");
}

TEST_F(Files, MapRefusesWhatIsNoRegularFile) {
  EXPECT_THROW(FileMap{folder_ / "absent"}, Error);
  EXPECT_THROW(FileMap{folder_}, Error);
  EXPECT_THROW(FileMap{"/dev/zero"}, Error);
}

TEST_F(Files, MapNoticesThatTheFileChanged) {
  const fs::path path = write("a", "hello");
  const FileMap map(path);
  EXPECT_NO_THROW(map.verify_unchanged());
  std::ofstream(path, std::ios::app) << "more";
  EXPECT_THROW(map.verify_unchanged(), Error);
  fs::remove(path);
  EXPECT_THROW(map.verify_unchanged(), Error);
}

TEST_F(Files, AtomicFileAppearsOnlyOnCommit) {
  const fs::path path = folder_ / "model";
  {
    AtomicFile file(path);
    file.write("half");
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(file.position(), 4U);
  }
  EXPECT_EQ(entries(), 0U) << "an abandoned file leaves nothing behind";
  {
    AtomicFile file(path);
    file.write("whole");
    file.commit();
  }
  EXPECT_EQ(text(FileMap(path)), "whole");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(Files, AtomicFileKeepsTheOldFileWhenTheDiskIsFull) {
  const fs::path path = write("model", "old");
  // A file size limit stands in for a full disk: write(2) fails in the same way, with EFBIG.
  struct rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  struct rlimit small = old_limit;
  small.rlim_cur = 1000;
  auto* old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  {
    AtomicFile file(path);
    const std::string big(4000, 'x');
    EXPECT_THROW(file.write(big), Error);
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(text(FileMap(path)), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(Files, Sha256MatchesTheStandardsExample) {
  // FIPS 180-4's examples for "abc" and the empty message.
  const std::string abc = "abc";
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(abc))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 hash;
  hash.update(std::as_bytes(std::span(abc)).subspan(0, 1));
  hash.update(std::as_bytes(std::span(abc)).subspan(1));
  EXPECT_EQ(hash.hex_digest(), sha256_hex(std::as_bytes(std::span(abc))));
}

}  // namespace
}  // namespace fathom
