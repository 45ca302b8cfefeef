// Guessing the next tokens: what is offered, when it is worth its while, and that no answer
// changes.
#include "engine/speculation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/scheduler_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
using std::chrono::duration;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<TokenId> tokens(std::initializer_list<int> values) {
  std::vector<TokenId> out;
  for (const int x : values) out.push_back(TokenId{x});
  return out;
}

TEST(TokenLookup, OffersWhatFollowedTheSameTokensLast) {
  TokenLookup lookup;
  EXPECT_THAT(lookup.guess(tokens({1, 2}), 7), IsEmpty());
  EXPECT_THAT(lookup.guess(tokens({1, 2, 3}), 7), IsEmpty());
  EXPECT_THAT(lookup.guess(tokens({1, 2, 3, 4, 5, 1, 2}), 7), IsEmpty());
  // Three are the same: three are offered.
  EXPECT_EQ(lookup.guess(tokens({1, 2, 3, 4, 5, 1, 2, 3}), 7), tokens({4, 5, 1}));
  EXPECT_EQ(lookup.guess(tokens({1, 2, 3, 4, 5, 1, 2, 3}), 2), tokens({4, 5}));
  // Five are the same, and there are no more than four before the text's end.
  EXPECT_EQ(TokenLookup().guess(tokens({9, 8, 1, 2, 3, 4, 9, 8, 1, 2, 3}), 7),
            tokens({4, 9, 8, 1, 2}));
  // The later of two places.
  EXPECT_EQ(TokenLookup().guess(tokens({1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3}), 7), tokens({5, 1, 2}));
  // A run goes on.
  EXPECT_EQ(TokenLookup().guess(tokens({6, 6, 6, 6, 6}), 7), tokens({6}));
}

TEST(TokenLookup, GrowingTextsGiveWhatAWholeOneGives) {
  std::vector<TokenId> text;
  TokenLookup growing;
  for (int i = 0; i < 400; ++i) {
    text.push_back(TokenId{i * i % 7 + (i / 90) % 2});
    EXPECT_EQ(growing.guess(text, 5), TokenLookup().guess(text, 5)) << i;
  }
}

TEST(Speculation, ChecksAsManyGuessesAsPay) {
  GuessRecord good;
  for (int i = 0; i < 100; ++i) good.right();
  GuessRecord bad;
  for (int i = 0; i < 100; ++i) bad.wrong();
  EXPECT_GT(good.expected(4), 3.9);
  EXPECT_LT(bad.expected(4), 0.1);
  PassTimes flat;  // memory is the limit: a pass takes as long for eight tokens
  for (std::size_t n = 1; n <= 8; ++n) flat.took(n, duration<double>(0.010 + 0.0001 * double(n)));
  PassTimes steep;  // arithmetic is
  for (std::size_t n = 1; n <= 8; ++n) steep.took(n, duration<double>(0.010 * double(n)));
  EXPECT_EQ(worthwhile(flat, good, 1, 1, 7), 7U);
  EXPECT_EQ(worthwhile(flat, good, 1, 1, 3), 3U);
  EXPECT_EQ(worthwhile(flat, good, 6, 6, 7), 2U);  // not past what a pass takes in one go
  EXPECT_EQ(worthwhile(flat, bad, 1, 1, 7), 0U);
  EXPECT_EQ(worthwhile(steep, good, 1, 1, 7), 0U);
  EXPECT_EQ(worthwhile(PassTimes(), good, 1, 1, 7), 7U);  // to find out
  // Long without a guess, it is tried again.
  for (int i = 0; i < 500; ++i) bad.idle();
  EXPECT_EQ(worthwhile(flat, bad, 1, 1, 1), 1U);
  // A slow pass of long ago is forgotten while shorter ones are quick.
  PassTimes once = flat;
  for (int i = 0; i < 20; ++i) once.took(2, duration<double>(1));
  once.took(1, duration<double>(0.01));
  EXPECT_LT(once.of(2), 0.02) << "no pass takes longer than one of more tokens";
  PassTimes slow;
  for (std::size_t n = 2; n <= 8; ++n) slow.took(n, duration<double>(1));
  for (int i = 0; i < 2000; ++i) slow.took(1, duration<double>(0.01));
  EXPECT_LT(slow.of(2), 0.02);
}

class SpeculationTest : public SchedulerFixture {
 protected:
  /// a b c d e f a b c ..., but from time to time something else.
  static TokenId rounds(TokenId last, std::size_t position) {
    if (position % 23 == 22) return ids("x")[0];
    const TokenId next{value(last) + 1};
    return next > ids("f")[0] || next < ids("a")[0] ? ids("a")[0] : next;
  }
  /// Answers to the same requests without and with guesses.
  struct Answers {
    std::vector<Reader> readers;
    std::size_t passes = 0;
    SchedulerStats stats;
  };
  Answers answer(std::size_t speculate, const std::vector<Request>& requests,
                 SchedulerOptions options = {}) {
    options.speculate = speculate;
    options.pass_seconds = always_alike;
    start(options, rounds);
    Answers all;
    all.readers.resize(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) add(requests[i], all.readers[i]);
    run_to_end();
    all.passes = model->batches.size();
    all.stats = scheduler->stats();
    return all;
  }
  /// A pass takes as long, however many tokens it has.
  static double always_alike(std::size_t) { return 0.001; }

  void expect_same(const Answers& a, const Answers& b) {
    ASSERT_EQ(a.readers.size(), b.readers.size());
    for (std::size_t i = 0; i < a.readers.size(); ++i) {
      EXPECT_EQ(a.readers[i].tokens, b.readers[i].tokens);
      EXPECT_EQ(a.readers[i].answer, b.readers[i].answer);
      EXPECT_EQ(a.readers[i].end->reason, b.readers[i].end->reason);
      EXPECT_EQ(a.readers[i].end->usage.completion_tokens,
                b.readers[i].end->usage.completion_tokens);
    }
  }
};

TEST_F(SpeculationTest, TheSameTokensInFewerPasses) {
  const std::vector<Request> requests{greedy("abcdefabc", 200)};
  const Answers plain = answer(0, requests);
  const Answers quick = answer(7, requests);
  expect_same(plain, quick);
  EXPECT_EQ(plain.passes, 200U);
  EXPECT_LT(quick.passes, 100U);
  EXPECT_EQ(plain.stats.counts.guessed_tokens, 0U);
  EXPECT_GT(quick.stats.counts.guessed_tokens, quick.stats.counts.right_guesses)
      << "some must be wrong";
  // Each pass writes one token more than it has right guesses.
  EXPECT_EQ(quick.stats.counts.right_guesses + quick.passes, 200U);
}

TEST_F(SpeculationTest, EndsWhereItWouldEnd) {
  for (std::size_t most = 1; most < 40; ++most) {
    const std::vector<Request> requests{greedy("abcdefabcdef", most)};
    expect_same(answer(0, requests), answer(7, requests));
  }
  Request stops = greedy("abcdefabcdef", 100);
  stops.stop_strings = {"xab"};
  Request token = greedy("abcdefabcdef", 100);
  token.stop_tokens = ids("x");
  Request circles = greedy("abcdefabcdef", 300);
  circles.stop_repetition = true;
  for (const Request& request : {stops, token, circles}) {
    const Answers quick = answer(7, {request});
    expect_same(answer(0, {request}), quick);
    EXPECT_GT(quick.stats.counts.right_guesses, 0U);
  }
  SchedulerOptions brief;
  brief.context_tokens = 50;
  expect_same(answer(0, {greedy("abcdefabcdef")}, brief),
              answer(7, {greedy("abcdefabcdef")}, brief));
}

TEST_F(SpeculationTest, WhatIsKeptForReuseHasNoWrongGuesses) {
  // The answer ends within a guess; the next question goes on from what the cache holds, which the
  // model checks position by position.
  for (std::size_t most = 5; most < 30; ++most) {
    SchedulerOptions options;
    options.speculate = 7;
    options.pass_seconds = always_alike;
    start(options, rounds);
    Reader first;
    add(greedy("abcdefabcdef", most), first);
    run_to_end();
    Request next = greedy("abcdefabcdef" + first.answer + "bcd", 20);
    Reader second;
    add(next, second);
    run_to_end();
    EXPECT_EQ(second.end->usage.cached_tokens, 12 + most - 1);
    SchedulerOptions plain;
    start(plain, rounds);
    Reader expected;
    add(next, expected);
    run_to_end();
    EXPECT_EQ(second.tokens, expected.tokens);
  }
}

TEST_F(SpeculationTest, SharesAPassAmongWritersAndStandsBackForPrompts) {
  const std::vector<Request> three{greedy("abcdefabc", 60), greedy("bcdefabcd", 60),
                                   greedy("fabcdefab", 60)};
  const Answers quick = answer(7, three);
  expect_same(answer(0, three), quick);
  EXPECT_GT(quick.stats.counts.right_guesses, 0U);
  for (const Batch& batch : model->batches) EXPECT_LE(batch.size(), 27U);
  // Nine writers fill a pass.
  const std::vector<Request> nine(9, greedy("abcdefabc", 40));
  EXPECT_EQ(answer(7, nine).stats.counts.guessed_tokens, 0U);
}

TEST_F(SpeculationTest, GivesUpGuessesWhereTheCacheIsFull) {
  SchedulerOptions options;
  options.context_tokens = 64;
  options.cache.capacity_tokens = 64;
  options.max_idle = 0;
  const std::vector<Request> requests{greedy("abcdefabcdef")};
  const Answers quick = answer(7, requests, options);
  expect_same(answer(0, requests, options), quick);
  EXPECT_EQ(quick.stats.counts.preemptions, 0U);
}

TEST_F(SpeculationTest, ThinkingThatIsTooLongIsClosedWhereItWouldBe) {
  Request request = greedy("abcdefabcdef<think>", 80);
  request.reasoning = ReasoningSetup{{kThink, kEndThink}, true};
  request.max_thinking_tokens = 20;
  const Answers plain = answer(0, {request});
  const Answers quick = answer(7, {request});
  expect_same(plain, quick);
  EXPECT_EQ(plain.readers[0].reasoning, quick.readers[0].reasoning);
  EXPECT_EQ(plain.readers[0].end->usage.reasoning_tokens,
            quick.readers[0].end->usage.reasoning_tokens);
  EXPECT_GT(quick.stats.counts.right_guesses, 0U);
}

}  // namespace
}  // namespace fathom
