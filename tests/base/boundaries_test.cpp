// Who may include whom: the architecture of docs/architecture.md, enforced.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fathom {
namespace {

namespace fs = std::filesystem;
using Folders = std::set<std::string>;

// A folder may include itself, the folders named here, and nothing else of src/.
const std::map<std::string, Folders>& allowed() {
  static const std::map<std::string, Folders> rules{
      {"base", {}},
      {"tensor", {"base"}},
      {"formats", {"tensor", "base"}},
      {"tokenizer", {"tensor", "base"}},
      {"config", {"formats", "tensor", "base"}},
      {"backend", {"tensor", "base"}},
      {"model", {"config", "formats", "backend", "tensor", "base"}},
      {"engine", {"model", "tokenizer", "config", "formats", "tensor", "base"}},
      {"store", {"formats", "tensor", "base"}},
      {"cli",
       {"engine", "store", "model", "backend", "tokenizer", "config", "formats", "tensor", "base"}},
  };
  return rules;
}

struct Include {
  std::string folder;  // of src/, "" for the standard library and packages
  std::string path;
  std::size_t line;
};

std::vector<Include> includes_of(const fs::path& file) {
  static const std::regex pattern(R"re(^\s*#\s*include\s*["<]([^">]+)[">])re");
  std::vector<Include> found;
  std::ifstream in(file);
  std::string text;
  for (std::size_t line = 1; std::getline(in, text); ++line) {
    std::smatch match;
    if (!std::regex_search(text, match, pattern)) continue;
    const std::string path = match[1];
    const std::string folder = path.substr(0, path.find('/'));
    found.push_back({allowed().contains(folder) ? folder : "", path, line});
  }
  return found;
}

std::vector<fs::path> sources() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(FATHOM_SOURCE_DIR "/src")) {
    const std::string extension = entry.path().extension();
    if (extension == ".h" || extension == ".cpp") files.push_back(entry.path());
  }
  return files;
}

std::string folder_of(const fs::path& file) {
  return fs::relative(file, FATHOM_SOURCE_DIR "/src").begin()->string();
}

TEST(Boundaries, EveryFolderOfSrcHasARule) {
  for (const auto& entry : fs::directory_iterator(FATHOM_SOURCE_DIR "/src")) {
    EXPECT_TRUE(allowed().contains(entry.path().filename().string()))
        << entry.path() << " is not in this test's table";
  }
}

TEST(Boundaries, FoldersIncludeOnlyWhatTheyMay) {
  ASSERT_GT(sources().size(), 10U);
  for (const fs::path& file : sources()) {
    const std::string folder = folder_of(file);
    ASSERT_TRUE(allowed().contains(folder)) << file;
    for (const Include& include : includes_of(file)) {
      if (include.folder.empty() || include.folder == folder) continue;
      EXPECT_TRUE(allowed().at(folder).contains(include.folder))
          << file << ":" << include.line << ": " << folder << "/ may not include " << include.path;
    }
  }
}

TEST(Boundaries, IncludesAreWrittenFromSrcNeverRelative) {
  for (const fs::path& file : sources()) {
    for (const Include& include : includes_of(file)) {
      EXPECT_FALSE(include.path.starts_with(".")) << file << ":" << include.line;
    }
  }
}

// The environment is read at the door (cli/), and once in base/ for FATHOM_CPU.
TEST(Boundaries, OnlyCliReadsTheEnvironment) {
  static const std::regex getenv_call(R"(\b(secure_)?getenv\s*\()");
  for (const fs::path& file : sources()) {
    if (folder_of(file) == "cli" || file.filename() == "cpu_features.cpp") continue;
    std::ifstream in(file);
    std::string text;
    for (std::size_t line = 1; std::getline(in, text); ++line) {
      EXPECT_FALSE(std::regex_search(text, getenv_call)) << file << ":" << line << ": " << text;
    }
  }
}

// Below the applications nothing ends the process: an Error is thrown instead.
TEST(Boundaries, OnlyCliMayExit) {
  static const std::regex exit_call(R"(\b(std::)?(_?exit|_Exit|abort|quick_exit|terminate)\s*\()");
  for (const fs::path& file : sources()) {
    if (folder_of(file) == "cli") continue;
    std::ifstream in(file);
    std::string text;
    for (std::size_t line = 1; std::getline(in, text); ++line) {
      const std::string code = text.substr(0, text.find("//"));
      EXPECT_FALSE(std::regex_search(code, exit_call)) << file << ":" << line << ": " << text;
    }
  }
}

}  // namespace
}  // namespace fathom
