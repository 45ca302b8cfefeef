// Pages on disk under a key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/context_store_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary

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

}  // namespace
}  // namespace fathom
