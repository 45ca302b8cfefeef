#include "engine/context_store.h"

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
#include "engine/scheduler_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
namespace fs = std::filesystem;

constexpr std::size_t kPage = 1000;

std::vector<TokenId> some_tokens(int first, std::size_t count = 64) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < count; ++i) tokens.push_back(TokenId{first + static_cast<int>(i)});
  return tokens;
}

PageName name_of(std::span<const TokenId> tokens, std::uint64_t scope = 0,
                 std::string_view model = "model") {
  return PageNames(model, scope).of(tokens).back();
}

/// What every page of these tests holds: told from its first token.
std::vector<std::byte> page_of(int first, std::size_t bytes = kPage) {
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
std::string as_bytes_of(std::span<const TokenId> tokens) {
  const auto bytes = std::as_bytes(tokens);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST_F(ContextStoreTest, NamesTellEverythingThatAPageDependsOn) {
  const auto tokens = some_tokens(0, 200);
  PageNames names("model", 1);
  const auto first = names.of(std::span(tokens).first(130));
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(names.of(tokens).size(), 3u);
  EXPECT_EQ(names.of(tokens)[1], name_of(std::span(tokens).first(128), 1));
  EXPECT_NE(names.of(tokens)[1], name_of(std::span(tokens).first(128), 2)) << "another key's";
  EXPECT_NE(names.of(tokens)[1], name_of(std::span(tokens).first(128), 1, "other"));
  EXPECT_NE(names.of(tokens)[1], name_of(std::span(tokens).subspan(64, 64), 1))
      << "the same tokens after others";
  auto changed = tokens;
  changed[0] = TokenId{999};
  EXPECT_NE(names.of(tokens)[1], name_of(std::span(changed).first(128), 1));
}

TEST_F(ContextStoreTest, WhatWasSavedIsFoundAlsoAfterARestart) {
  reopen();
  for (int i = 0; i < 5; ++i) save(i);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(loads(i)) << "while it waits to be written, too";
  reopen();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(loads(i));
  EXPECT_FALSE(loads(5));
  EXPECT_EQ(store->stats().pages, 5u);
  EXPECT_EQ(store->stats().found, 5u);
}

TEST_F(ContextStoreTest, OnlyThisUserMayReadIt) {
  reopen();
  save(1);
  store->flush();
  struct stat status{};
  ASSERT_EQ(::stat(folder.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  ASSERT_EQ(::stat(files().at(0).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

void ContextStoreTest::expect_damage_is_found() {
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

TEST_F(ContextStoreTest, ADamagedPageIsNotGivenAndGoes) { expect_damage_is_found(); }

TEST_F(ContextStoreTest, APageUnderAnothersNameIsNotGiven) {
  reopen();
  save(1);
  save(2);
  store->flush();
  const auto both = files();
  fs::copy_file(both[0], both[1], fs::copy_options::overwrite_existing);
  EXPECT_NE(loads(1), loads(2)) << "one is itself, the other an impostor";
  // The right name with the wrong tokens: what two equal digests would look like.
  std::vector<std::byte> page(kPage);
  reopen();
  save(7);
  EXPECT_FALSE(store->load(name_of(some_tokens(8)), some_tokens(7), page));
}

TEST_F(ContextStoreTest, TheLeastRecentlyUsedGoesWhenTheFolderIsFull) {
  const std::uint64_t one = 88 + 64 * 4 + kPage;
  reopen(3 * one);
  for (int i = 0; i < 3; ++i) {
    save(i);
    store->flush();
  }
  EXPECT_TRUE(loads(0));
  save(3);
  store->flush();
  EXPECT_TRUE(loads(0));
  EXPECT_FALSE(loads(1));
  EXPECT_TRUE(loads(2));
  EXPECT_EQ(store->stats().bytes, 3 * one);
  EXPECT_EQ(files().size(), 3u);
  reopen(2 * one);
  EXPECT_EQ(files().size(), 2u) << "a smaller limit holds from the start";
  EXPECT_EQ(store->stats().bytes, 2 * one);
}

TEST_F(ContextStoreTest, WhatIsNotItsOwnIsLeftAlone) {
  reopen();
  std::ofstream(folder / "notes.txt") << "mine";
  std::ofstream(folder / (std::string(64, 'a') + ".page.new")) << "half a page";
  fs::create_symlink("/etc/passwd", folder / (std::string(64, 'b') + ".page"));
  reopen();
  EXPECT_TRUE(fs::exists(folder / "notes.txt"));
  EXPECT_FALSE(fs::exists(folder / (std::string(64, 'a') + ".page.new")));
  EXPECT_EQ(store->stats().pages, 0u);
}

TEST_F(ContextStoreTest, ADiskThatFailsLosesPagesAndNothingElse) {
  reopen();
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{700, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  save(1);
  store->flush();
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_FALSE(loads(1));
  EXPECT_EQ(store->stats().left_out, 1u);
  EXPECT_TRUE(files().empty());
  save(1);
  store->flush();
  EXPECT_TRUE(loads(1)) << "once there is room again";
}

void ContextStoreTest::expect_kills_leave_no_wrong_page() {
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

TEST_F(ContextStoreTest, AProcessKilledWhileItWritesLeavesNoWrongPage) {
  expect_kills_leave_no_wrong_page();
}

// --- forgetting ---------------------------------------------------------------------------------

TEST_F(ContextStoreTest, WhatIsForgottenIsInNoFile) {
  reopen();
  const auto canary = some_tokens(4000);
  store->save(name_of(canary, 1), canary, page_of(1), true);
  const auto other = some_tokens(5000);
  store->save(name_of(other, 2), other, page_of(2), true);
  store->flush();
  ASSERT_TRUE(on_disk(as_bytes_of(canary))) << "else this test looks for the wrong thing";
  EXPECT_EQ(store->forget(1), 1U);
  EXPECT_FALSE(on_disk(as_bytes_of(canary)));
  EXPECT_TRUE(on_disk(as_bytes_of(other))) << "another key's";
  EXPECT_FALSE(store->has(name_of(canary, 1)));
  EXPECT_EQ(store->forget(1), 0U);
  EXPECT_EQ(store->forget(), 1U);
  EXPECT_EQ(files().size(), 0U);
  EXPECT_EQ(store->stats().bytes, 0U);
}

TEST_F(ContextStoreTest, WhatIsForgottenOnItsWayToTheDiskDoesNotArrive) {
  reopen(std::uint64_t{1} << 30);
  for (int i = 0; i < 50; ++i) {
    const auto tokens = some_tokens(i);
    store->save(name_of(tokens), tokens, page_of(i, 100'000), true);
  }
  EXPECT_EQ(store->forget(), 50U);
  store->flush();
  EXPECT_EQ(files().size(), 0U);
  save(1);
  EXPECT_TRUE(loads(1)) << "what comes after is kept";
}

TEST_F(ContextStoreTest, PagesThatSomebodyElseDeletedAreNotThere) {
  reopen();
  const auto canary = some_tokens(4000);
  store->save(name_of(canary, 1), canary, page_of(1), true);
  save(2);
  store->flush();
  EXPECT_EQ(forget_pages(folder, 1), 1U);
  std::vector<std::byte> page(kPage);
  EXPECT_FALSE(store->load(name_of(canary, 1), canary, page));
  EXPECT_EQ(store->stats().damaged, 0U) << "gone, not damaged";
  EXPECT_TRUE(loads(2));
  EXPECT_EQ(forget_pages(folder), 1U);
  EXPECT_EQ(forget_pages(folder / "nowhere"), 0U);
}

// --- sealed -------------------------------------------------------------------------------------

class SealedStoreTest : public ContextStoreTest {
 protected:
  SealedStoreTest() { key.emplace(std::string(32, 's')); }
};

TEST_F(SealedStoreTest, IsFoundAfterARestartWithItsKeyAlone) {
  reopen();
  for (int i = 0; i < 5; ++i) save(i);
  reopen();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(loads(i));
  key.emplace(std::string(32, 't'));
  reopen();
  EXPECT_FALSE(loads(0)) << "with another";
  key.reset();
  reopen();
  EXPECT_FALSE(loads(0)) << "with none";
  EXPECT_EQ(store->stats().damaged, 0U);
  EXPECT_EQ(store->stats().pages, 5U) << "they take their room, and go when it is wanted";
}

TEST_F(SealedStoreTest, TheDiskTellsNothingOfWhatWasSaid) {
  reopen();
  const auto canary = some_tokens(4000);
  store->save(name_of(canary), canary, page_of(1), true);
  store->flush();
  ASSERT_EQ(files().size(), 1U);
  EXPECT_FALSE(on_disk(as_bytes_of(canary)));
  EXPECT_FALSE(on_disk(as_bytes_of(std::span(canary).first(2))));
  const std::vector<std::byte> page = page_of(1);
  EXPECT_FALSE(on_disk({reinterpret_cast<const char*>(page.data()), 16}));
  // Nor by its name, to somebody who guesses the text.
  std::string guess;
  for (const std::byte byte : name_of(canary))
    guess += fmt::format("{:02x}", std::to_integer<int>(byte));
  EXPECT_FALSE(on_disk(guess));
  EXPECT_FALSE(on_disk(guess.substr(16)));
}

TEST_F(SealedStoreTest, WhatWasPlainIsDeleted) {
  const std::optional<SecretKey> later = std::exchange(key, std::nullopt);
  reopen();
  const auto canary = some_tokens(4000);
  store->save(name_of(canary), canary, page_of(1), true);
  store->flush();
  ASSERT_TRUE(on_disk(as_bytes_of(canary)));
  key = later;
  reopen();
  EXPECT_FALSE(on_disk(as_bytes_of(canary)));
  EXPECT_EQ(store->stats().plain_deleted, 1U);
}

TEST_F(SealedStoreTest, ADamagedPageIsNotGivenAndGoes) { expect_damage_is_found(); }

TEST_F(SealedStoreTest, AProcessKilledWhileItWritesLeavesNoWrongPage) {
  expect_kills_leave_no_wrong_page();
}

TEST_F(SealedStoreTest, OneScopeIsForgotten) {
  reopen();
  for (const std::uint64_t scope : {1, 2}) {
    const auto tokens = some_tokens(4000);
    store->save(name_of(tokens, scope), tokens, page_of(1), true);
  }
  store->flush();
  EXPECT_EQ(forget_pages(folder, 1), 0U) << "without the key nobody knows whose they are";
  EXPECT_EQ(forget_pages(folder, 1, key), 1U);
  EXPECT_EQ(store->forget(2), 1U);
  EXPECT_EQ(files().size(), 0U);
}

// --- with a scheduler ---------------------------------------------------------------------------

class ContextOnDisk : public ContextStoreTest {
 protected:
  void restart(const std::string& fingerprint = "model", std::size_t capacity = 1024) {
    if (scheduler) scheduler->save_idle();
    scheduler.reset();
    reopen();
    start({.cache = {.capacity_tokens = capacity},
           .context_store = store,
           .context_fingerprint = fingerprint});
  }
  Usage ask(const std::string& text, std::uint64_t scope = 0) {
    Reader reader;
    Request request = greedy(text, 4);
    request.cache_scope = scope;
    add(request, reader);
    run_to_end();
    EXPECT_EQ(reader.answer, "bcde");
    return reader.end->usage;
  }
  std::size_t computed_by(const std::function<void()>& work) {
    model->batches.clear();
    work();
    return computed();
  }
  const std::string prompt = std::string(300, 'a');
};

TEST_F(ContextOnDisk, APromptIsNotReadAgainAfterARestart) {
  restart();
  EXPECT_EQ(ask(prompt).cached_tokens, 0u);
  restart();
  EXPECT_EQ(computed_by([&] { EXPECT_EQ(ask(prompt).cached_tokens, 256u) << "four full pages"; }),
            300u - 256 + 3);
  EXPECT_EQ(ask(prompt).cached_tokens, 299u) << "and then from memory";
}

TEST_F(ContextOnDisk, WhatTheCacheForgetsComesBack) {
  restart("model", 512);
  ask(prompt);
  for (char c = 'b'; c < 'f'; ++c) {
    Reader reader;
    add(greedy(std::string(300, c), 1), reader);
    run_to_end();
  }
  EXPECT_EQ(ask(prompt).cached_tokens, 256u);
  EXPECT_GE(scheduler->stats().store.found, 4u);
}

TEST_F(ContextOnDisk, AConversationThatGoesOnLoadsWhatMemoryHasNot) {
  restart();
  ask(prompt);
  restart();
  Reader shorter;
  add(greedy(std::string(100, 'a'), 1), shorter);
  run_to_end();
  EXPECT_EQ(shorter.end->usage.cached_tokens, 64u);
  // Memory has 100 tokens of it, which is in the middle of a page.
  EXPECT_EQ(ask(prompt).cached_tokens, 256u);
}

TEST_F(ContextOnDisk, WhatIsForgottenIsReadAgain) {
  restart();
  ask(prompt, 1);
  ask(prompt, 2);
  EXPECT_EQ(scheduler->forget(1), 1U);
  EXPECT_EQ(ask(prompt, 1).cached_tokens, 0U);
  EXPECT_GT(ask(prompt, 2).cached_tokens, 0U);
  EXPECT_GE(scheduler->forget({}), 2U);
  scheduler->save_idle();
  store->flush();
  EXPECT_EQ(files().size(), 0U);
}

TEST_F(ContextOnDisk, ARequestAtWorkLeavesNothingOnceItIsForgotten) {
  restart();
  Reader reader;
  add(greedy(prompt, 4), reader);
  scheduler->step();
  EXPECT_EQ(scheduler->forget({}), 0U);
  run_to_end();
  EXPECT_EQ(reader.answer, "bcde");
  EXPECT_EQ(ask(prompt).cached_tokens, 0U);
}

TEST_F(ContextOnDisk, NobodyFindsAnothersPages) {
  restart();
  ask(prompt, 1);
  restart();
  EXPECT_EQ(ask(prompt, 2).cached_tokens, 0u) << "another key";
  EXPECT_EQ(ask(prompt, 1).cached_tokens, 256u);
  restart("another model");
  EXPECT_EQ(ask(prompt, 1).cached_tokens, 0u);
}

TEST_F(ContextOnDisk, DamageIsComputedAnew) {
  restart();
  ask(prompt);
  restart();
  const auto all = files();
  ASSERT_GE(all.size(), 4u);
  for (const fs::path& file : all) fs::resize_file(file, 100);
  EXPECT_EQ(computed_by([&] { EXPECT_EQ(ask(prompt).cached_tokens, 0u); }), 303u);
  EXPECT_EQ(scheduler->stats().store.damaged, 1u);
}

TEST_F(ContextOnDisk, ACacheTooSmallForThePagesStillAnswers) {
  restart();
  ask(prompt);
  restart("model", 384);
  Reader one, other;
  add(greedy(std::string(200, 'q'), 30), one);
  scheduler->step();
  add(greedy(prompt, 4), other);
  run_to_end();
  EXPECT_EQ(other.answer, "bcde");
}

}  // namespace
}  // namespace fathom
