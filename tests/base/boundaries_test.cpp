// Who may include whom: the architecture of docs/architecture.md, enforced.

#include <gtest/gtest.h>

#include <algorithm>
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
      {"grammar", {"base"}},
      {"tensor", {"base"}},
      {"formats", {"tokenizer", "tensor", "base"}},
      {"tokenizer", {"tensor", "base"}},
      {"config", {"formats", "tensor", "base"}},
      {"backend", {"tensor", "base"}},
      {"model", {"config", "formats", "backend", "tensor", "base"}},
      {"engine", {"grammar", "model", "tokenizer", "config", "formats", "tensor", "base"}},
      {"store", {"formats", "tensor", "base"}},
      {"train", {"grammar", "engine", "model", "tokenizer", "config", "formats", "tensor", "base"}},
      {"server", {"engine", "grammar", "model", "tokenizer", "config", "tensor", "base"}},
      {"cli",
       {"train", "server", "engine", "grammar", "store", "model", "backend", "tokenizer", "config",
        "formats", "tensor", "base"}},
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

// Two types of one name in one namespace are undefined behaviour that neither compiler nor linker
// reports: the inline functions of one (a vector's, say) are taken for the other's.
TEST(Boundaries, NoTwoTypesShareAName) {
  static const std::regex opens(R"(^(?:inline )?namespace ?([\w:]*) ?\{)");
  static const std::regex closes(R"(^\}\s*// namespace)");
  static const std::regex type(
      R"(^(?:template <.*> )?(?:struct|enum class|enum|class) (\w+)\b(.*)$)");
  std::map<std::string, std::string> places;  // a type's full name to where it is defined
  for (const fs::path& file : sources()) {
    std::vector<std::string> namespaces;
    std::ifstream in(file);
    std::string text;
    for (std::size_t line = 1; std::getline(in, text); ++line) {
      std::smatch match;
      if (std::regex_search(text, match, opens)) {
        namespaces.push_back(match[1]);
      } else if (std::regex_search(text, closes)) {
        ASSERT_FALSE(namespaces.empty()) << file << ":" << line;
        namespaces.pop_back();
      } else if (std::regex_match(text, match, type)) {
        const std::string rest = match[2];
        const bool declared_only = rest.ends_with(";") && rest.find('{') == std::string::npos;
        const bool specialised = rest.starts_with("<") || rest.starts_with("::");
        // A nameless namespace keeps its types to the file.
        const bool local = std::ranges::find(namespaces, "") != namespaces.end();
        if (declared_only || specialised || local) continue;
        std::string name;
        for (const std::string& part : namespaces) name += part + "::";
        const std::string place = file.string() + ":" + std::to_string(line);
        const auto [first, is_new] = places.emplace(name + match[1].str(), place);
        EXPECT_TRUE(is_new) << first->first << " is defined at " << first->second << " and "
                            << place;
      }
    }
  }
  EXPECT_GT(places.size(), 100U);
}

}  // namespace
}  // namespace fathom
