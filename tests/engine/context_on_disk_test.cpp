// A scheduler that keeps what it read on disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/context_store_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary

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
