// Pages on disk: found, damaged, killed, forgotten.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/context_store_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary

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

TEST_F(ContextStoreTest, WhatAKilledServerHadNotFinishedIsForgottenToo) {
  reopen();
  const auto canary = some_tokens(4000);
  store->save(name_of(canary, 1), canary, page_of(1), true);
  store->flush();
  fs::rename(files().at(0), files().at(0).string() + ".new");
  ASSERT_TRUE(on_disk(as_bytes_of(canary)));
  EXPECT_EQ(forget_pages(folder, 2), 0U);
  EXPECT_EQ(forget_pages(folder, 1), 1U);
  EXPECT_FALSE(on_disk(as_bytes_of(canary)));
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

}  // namespace
}  // namespace fathom
