// The store by itself: import, list, find, verify, remove, and what it keeps on disk.
#include "store/store.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "store/manifest.h"
#include "store/store_fixture.h"

namespace fathom::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(StoreTest, ImportsAFileAndFindsItByName) {
  const std::string bytes = fake_model(100'000);
  const fs::path file = write("Tiny.Q4_0.gguf", bytes);
  const StoredModel model = store().import(file, ImportMode::Copy, "tiny");
  EXPECT_EQ(model.files.at(0).sha256, sha256_of(bytes));
  EXPECT_EQ(model.size(), bytes.size());
  fs::remove(file);
  const fs::path found = store().find("tiny");
  EXPECT_EQ(found.filename(), "Tiny.Q4_0.gguf") << "loaders go by the file's ending";
  EXPECT_EQ(read(found), bytes);
}

TEST_F(StoreTest, NamesAModelAfterItsFileWhenNotTold) {
  EXPECT_EQ(store().import(write("My model (1).gguf", "GGUF"), ImportMode::Copy).name,
            "My-model--1-");
}

TEST_F(StoreTest, FindTakesAPathThatIsNotInTheStore) {
  const fs::path file = write("x.gguf", "GGUF");
  EXPECT_EQ(store().find(file.string()), file);
}

TEST_F(StoreTest, FindSaysHowToGetAModelItDoesNotHave) {
  EXPECT_THAT(error_of([&] { store().find("smollm2:135m"); }),
              AllOf(StartsWith("not_found: "), HasSubstr("fathom pull smollm2:135m")));
  EXPECT_THAT(error_of([&] { store().find("smollm2:9000b"); }),
              AllOf(StartsWith("not_found: "), HasSubstr("smollm2:135m, smollm2:360m")));
  EXPECT_THAT(error_of([&] { store().find("/nowhere/x.gguf"); }), HasSubstr("no such file"));
  EXPECT_TRUE(store_is_empty()) << "asking must not create anything";
}

TEST_F(StoreTest, ImportsAFolderAsAFolder) {
  write("hf/config.json", "{}");
  write("hf/model.safetensors", "weights");
  write("hf/tokenizer.json", "{\"a\":1}");
  write("hf/training.log", "not part of the model");
  const StoredModel model = store().import(folder / "hf", ImportMode::Copy, "folder");
  EXPECT_EQ(model.files.size(), 3U);
  const fs::path found = store().find("folder");
  EXPECT_TRUE(fs::is_directory(found));
  EXPECT_EQ(read(found / "tokenizer.json"), "{\"a\":1}");
  EXPECT_FALSE(fs::exists(found / "training.log"));
}

TEST_F(StoreTest, RefusesAFolderWithoutWeights) {
  write("hf/config.json", "{}");
  EXPECT_THAT(error_of([&] { store().import(folder / "hf", ImportMode::Copy); }),
              HasSubstr("config.json and safetensors"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(StoreTest, ImportsAllPartsOfASplitModelAndOpensTheFirst) {
  for (const char* part :
       {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}) {
    write(part, std::string("GGUF") + part);
  }
  store().import(folder / "m-00002-of-00003.gguf", ImportMode::Copy, "split");
  const fs::path found = store().find("split");
  EXPECT_EQ(found.filename(), "m-00001-of-00003.gguf");
  EXPECT_TRUE(fs::exists(found.parent_path() / "m-00003-of-00003.gguf"));
  fs::remove(folder / "m-00003-of-00003.gguf");
  EXPECT_THAT(error_of([&] {
                store().import(folder / "m-00001-of-00003.gguf", ImportMode::Copy, "again");
              }),
              HasSubstr("part 3 of 3 is missing"));
}

TEST_F(StoreTest, KeepsEqualFilesOnceUntilTheLastModelIsRemoved) {
  const fs::path a = write("a.gguf", fake_model(5000));
  const fs::path b = write("b.gguf", fake_model(5000));
  store().import(a, ImportMode::Copy, "first");
  store().import(b, ImportMode::Copy, "second");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "store/blobs"), {}), 1);
  EXPECT_EQ(store().remove("first"), 0U);
  EXPECT_EQ(read(store().find("second")), fake_model(5000));
  EXPECT_EQ(store().remove("second"), 5000U);
  EXPECT_TRUE(store_is_empty());
}

TEST_F(StoreTest, ReplacingAModelDropsTheOldFile) {
  store().import(write("a.gguf", fake_model(5000, 1)), ImportMode::Copy, "m");
  store().import(write("a.gguf", fake_model(6000, 2)), ImportMode::Copy, "m");
  EXPECT_EQ(read(store().find("m")), fake_model(6000, 2));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "store/blobs"), {}), 1);
  EXPECT_EQ(store().list().size(), 1U);
}

TEST_F(StoreTest, LinkLeavesTheFileWhereItIs) {
  const fs::path file = write("big.gguf", fake_model(5000));
  store().import(file, ImportMode::Link, "big");
  EXPECT_EQ(store().find("big"), file);
  EXPECT_THAT(store_files(), ElementsAre("manifests/big.json"));
  store().verify("big");
  store().remove("big");
  EXPECT_TRUE(fs::exists(file)) << "removing a link must not delete the user's file";
}

TEST_F(StoreTest, FindNoticesALinkedFileThatChanged) {
  const fs::path file = write("big.gguf", fake_model(5000));
  store().import(file, ImportMode::Link, "big");
  write("big.gguf", fake_model(5001));
  EXPECT_THAT(error_of([&] { store().find("big"); }),
              AllOf(StartsWith("corrupt: "), HasSubstr("5000 bytes then, 5001 now")));
  fs::remove(file);
  EXPECT_THAT(error_of([&] { store().find("big"); }), StartsWith("not_found: "));
}

TEST_F(StoreTest, VerifyFindsAFlippedBitThatSizeAndTimeHide) {
  store().import(write("a.gguf", fake_model(5000)), ImportMode::Copy, "m");
  const fs::path file = store().find("m");
  store().verify("m");
  const auto time = fs::last_write_time(file);
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  std::string bytes = fake_model(5000);
  bytes[4000] = static_cast<char>(bytes[4000] ^ 1);
  std::ofstream(file, std::ios::binary) << bytes;
  fs::last_write_time(file, time);
  EXPECT_EQ(store().find("m"), file);
  EXPECT_THAT(error_of([&] { store().verify("m"); }),
              AllOf(StartsWith("corrupt: "), HasSubstr(sha256_of(fake_model(5000)))));
}

TEST_F(StoreTest, AModelTheValidatorRefusesIsNotAdded) {
  StoreOptions strict = options();
  strict.validator = [](const fs::path& path) {
    fail(ErrorCode::Corrupt, "{}: not a model", path.string());
  };
  EXPECT_THAT(
      error_of([&] { Store(strict).import(write("a.gguf", "no model"), ImportMode::Copy, "m"); }),
      HasSubstr("not a model"));
  EXPECT_TRUE(store_is_empty());
}

TEST_F(StoreTest, TheValidatorSeesTheFilesUnderTheirOwnNames) {
  std::vector<fs::path> seen;
  StoreOptions watching = options();
  watching.validator = [&](const fs::path& path) {
    EXPECT_EQ(read(path), "GGUFbytes");
    seen.push_back(path.filename());
  };
  Store(watching).import(write("a.gguf", "GGUFbytes"), ImportMode::Copy, "m");
  EXPECT_THAT(seen, ElementsAre("a.gguf", "a.gguf"));  // before copying, and the copy
}

TEST_F(StoreTest, RefusesNamesThatAreNone) {
  const fs::path file = write("a.gguf", "GGUF");
  for (const char* name : {"../evil", "a b", "-x", "/abs", "a/../b", "x\ny", "é"}) {
    EXPECT_THAT(error_of([&] { store().import(file, ImportMode::Copy, name); }),
                StartsWith("invalid_argument: "))
        << name;
  }
  EXPECT_TRUE(store_is_empty());
}

TEST_F(StoreTest, ListsModelsByNameAndSkipsABrokenManifest) {
  store().import(write("a.gguf", fake_model(10)), ImportMode::Copy, "b/model:x");
  store().import(write("a.gguf", fake_model(20)), ImportMode::Copy, "a");
  write("store/manifests/broken.json", "{");
  const auto models = store().list();
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].name, "a");
  EXPECT_EQ(models[1].name, "b/model:x");
  EXPECT_TRUE(told("broken.json"));
}

TEST_F(StoreTest, ABrokenManifestKeepsAllBlobsUntilItIsRemoved) {
  store().import(write("a.gguf", fake_model(10)), ImportMode::Copy, "a");
  write("store/manifests/broken.json", "{");
  EXPECT_EQ(store().remove("a"), 0U);
  EXPECT_EQ(store().remove("broken"), 10U);
  EXPECT_TRUE(store_is_empty());
}

TEST_F(StoreTest, AManifestCannotPointOutOfTheStore) {
  store().import(write("a.gguf", fake_model(10)), ImportMode::Copy, "a");
  const fs::path manifest = folder / "store/manifests/a.json";
  std::string text = read(manifest);
  text.replace(text.find("\"a.gguf\""), 8, "\"../../../../etc/passwd\"");
  std::ofstream(manifest) << text;
  EXPECT_THAT(error_of([&] { store().find("a"); }), StartsWith("corrupt: "));
}

TEST_F(StoreTest, RemovingWhatIsNotThereSaysSo) {
  EXPECT_THAT(error_of([&] { store().remove("ghost"); }), StartsWith("not_found: "));
}

/// Runs `body` in a child process that may write files of at most `limit` bytes: to a program, that
/// is what a full disk is.
template <typename F>
int in_child_with_file_limit(rlim_t limit, F&& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit files{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &files);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(StoreTest, AFullDiskWhileImportingLeavesTheStoreAsItWas) {
  store().import(write("small.gguf", fake_model(1000)), ImportMode::Copy, "small");
  const fs::path big = write("big.gguf", fake_model(300'000));
  const auto before = store_files();
  const int status = in_child_with_file_limit(100'000, [&] {
    const std::string error = error_of([&] { store().import(big, ImportMode::Copy, "big"); });
    return error.starts_with("io: ") && error.find("free some space") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(store_files(), before);
  store().verify("small");
}

}  // namespace
}  // namespace fathom::test
