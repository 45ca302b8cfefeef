#include "store/store_fixture.h"

#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "base/error.h"

namespace fathom::test {

namespace fs = std::filesystem;

StoreTest::StoreTest() {
  std::string name = (fs::temp_directory_path() / "fathom-store-XXXXXX").string();
  folder = ::mkdtemp(name.data());
}

StoreTest::~StoreTest() {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

StoreOptions StoreTest::options() {
  StoreOptions options;
  options.root = folder / "store";
  options.notice = [this](const std::string& text) { notices.push_back(text); };
  return options;
}

NetworkOptions StoreTest::network(const std::string& endpoint) {
  NetworkOptions options;
  options.hub.endpoint = endpoint;
  options.first_backoff = std::chrono::milliseconds(1);
  options.timeout = std::chrono::milliseconds(10'000);
  options.retries = 2;
  return options;
}

fs::path StoreTest::write(const std::string& name, const std::string& content) const {
  const fs::path path = folder / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string StoreTest::read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> StoreTest::store_files() const {
  std::vector<std::string> files;
  const fs::path root = folder / "store";
  if (!fs::exists(root)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string path = fs::relative(entry.path(), root).string();
    if (!entry.is_directory() && !path.starts_with("locks/")) files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool StoreTest::told(const std::string& part) const {
  return std::any_of(notices.begin(), notices.end(), [&](const std::string& notice) {
    return notice.find(part) != std::string::npos;
  });
}

}  // namespace fathom::test
