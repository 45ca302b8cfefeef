// A folder for a context store, opened as often as a test likes, and what its files hold.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <random>

#include "base/error.h"
#include "engine/context_store.h"
#include "engine/scheduler_fixture.h"

namespace fathom::test {

namespace fs = std::filesystem;

inline constexpr std::size_t kPage = 1000;

inline std::vector<TokenId> some_tokens(int first, std::size_t count = 64) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < count; ++i) tokens.push_back(TokenId{first + static_cast<int>(i)});
  return tokens;
}

inline PageName name_of(std::span<const TokenId> tokens, std::uint64_t scope = 0,
                        std::string_view model = "model") {
  return PageNames(model, scope).of(tokens).back();
}

/// What every page of these tests holds: told from its first token.
inline std::vector<std::byte> page_of(int first, std::size_t bytes = kPage) {
  std::mt19937 random(static_cast<unsigned>(first));
  std::vector<std::byte> page(bytes);
  for (std::byte& byte : page) byte = static_cast<std::byte>(random());
  return page;
}

class ContextStoreTest : public SchedulerFixture {
 protected:
  ContextStoreTest() {
    std::string name = (fs::temp_directory_path() / "fathom-context-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder = fs::path(name) / "pages";
  }
  ~ContextStoreTest() override {
    scheduler.reset();
    store.reset();
    fs::remove_all(folder.parent_path());
  }
  /// As another process would find it.
  ContextStore& reopen(std::uint64_t capacity = 1 << 20) {
    store.reset();
    ContextStoreOptions options{folder, capacity};
    options.key = key;
    store = std::make_shared<ContextStore>(options);
    return *store;
  }
  void save(int first, bool wait = true) {
    const auto tokens = some_tokens(first);
    store->save(name_of(tokens), tokens, page_of(first), wait);
  }
  bool loads(int first) {
    const auto tokens = some_tokens(first);
    std::vector<std::byte> page(kPage);
    if (!store->load(name_of(tokens), tokens, page)) return false;
    EXPECT_EQ(page, page_of(first)) << "a page that is given must be the right one";
    return true;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
    std::ranges::sort(found);
    return found;
  }

  /// Whether these bytes are anywhere in the folder's files, or in their names.
  bool on_disk(std::string_view bytes) const {
    for (const fs::path& file : files()) {
      std::ifstream in(file, std::ios::binary);
      const std::string all((std::istreambuf_iterator<char>(in)), {});
      if (all.find(bytes) != std::string::npos || file.string().find(bytes) != std::string::npos) {
        return true;
      }
    }
    return false;
  }
  void expect_damage_is_found();
  void expect_kills_leave_no_wrong_page();

  fs::path folder;
  std::optional<SecretKey> key;
  std::shared_ptr<ContextStore> store;
};

/// What the raw file of a page has of its tokens.
inline std::string as_bytes_of(std::span<const TokenId> tokens) {
  const auto bytes = std::as_bytes(tokens);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline void ContextStoreTest::expect_damage_is_found() {
  reopen();
  save(1);
  store->flush();
  const fs::path file = files().at(0);
  std::ifstream in(file, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  std::size_t tried = 0;
  for (std::size_t at = 0; at < whole.size(); at += at < 400 ? 1 : 37) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    std::ofstream(file, std::ios::binary) << damaged;
    reopen();
    EXPECT_FALSE(loads(1)) << "byte " << at;
    EXPECT_FALSE(fs::exists(file));
    ++tried;
  }
  EXPECT_GT(tried, 400u);
  for (const std::size_t size : {std::size_t{0}, std::size_t{50}, whole.size() - 1}) {
    std::ofstream(file, std::ios::binary) << whole.substr(0, size);
    reopen();
    EXPECT_FALSE(loads(1)) << size << " bytes of it";
  }
  std::ofstream(file, std::ios::binary) << whole << "x";
  reopen();
  EXPECT_FALSE(loads(1)) << "more than all of it";
  EXPECT_EQ(store->stats().damaged, 1u);
}

inline void ContextStoreTest::expect_kills_leave_no_wrong_page() {
  constexpr int kRounds = 100, kPages = 40;
  std::mt19937 random(1);
  for (int round = 0; round < kRounds; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      reopen();
      for (int i = 0;; ++i) save((round * 7 + i) % kPages);
    }
    ::usleep(static_cast<useconds_t>(1000 + random() % 10'000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  reopen();
  int found = 0;
  for (int i = 0; i < kPages; ++i) found += loads(i);
  EXPECT_GT(found, 0);
  EXPECT_EQ(store->stats().damaged, 0u) << "pages appear whole or not at all";
}

}  // namespace fathom::test
