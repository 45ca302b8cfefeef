// Continuous batching, step by step, on a scripted model.
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "engine/scheduler_fixture.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary

class SchedulerTest : public SchedulerFixture {};

TEST_F(SchedulerTest, AnswersUntilAStopToken) {
  start();
  Reader reader;
  add(greedy("w"), reader);
  run_to_end();
  EXPECT_EQ(reader.answer, "xyz");
  ASSERT_TRUE(reader.end);
  EXPECT_EQ(reader.end->reason, FinishReason::Stop);
  EXPECT_EQ(reader.end->usage.prompt_tokens, 1U);
  EXPECT_EQ(reader.end->usage.completion_tokens, 4U);  // the stop token counts
  EXPECT_EQ(reader.tokens.back(), kEnd);
}

TEST_F(SchedulerTest, NeverChoosesPaddingBeyondTheVocabulary) {
  start();
  EXPECT_EQ(scheduler->vocab_size(), kVocabulary);
  Reader reader;
  Request request = greedy("a", 5);
  request.sampling.temperature = 1;
  add(std::move(request), reader);
  run_to_end();
  EXPECT_EQ(reader.answer, "bcdef");
}

TEST_F(SchedulerTest, StopsAtMaxTokens) {
  start();
  Reader reader;
  add(greedy("a", 3), reader);
  run_to_end();
  EXPECT_EQ(reader.answer, "bcd");
  EXPECT_EQ(reader.end->reason, FinishReason::Length);
}

TEST_F(SchedulerTest, EndsAnAnswerThatGoesRoundInCirclesWhereAsked) {
  start({},
        [](TokenId last, std::size_t) { return last == ids("a")[0] ? ids("b")[0] : ids("a")[0]; });
  Reader on;
  Request request = greedy("a");
  request.stop_repetition = true;
  add(std::move(request), on);
  run_to_end();
  EXPECT_EQ(on.end->reason, FinishReason::Repetition);
  EXPECT_EQ(to_string(on.end->reason), std::string("repetition"));
  EXPECT_EQ(on.answer.size(), on.tokens.size()) << "no text is lost or altered";
  EXPECT_EQ(on.answer.substr(0, 6), "bababa");
  EXPECT_LT(on.tokens.size(), 300U);

  Reader off;
  add(greedy("a", 600), off);
  run_to_end();
  EXPECT_EQ(off.end->reason, FinishReason::Length);
  EXPECT_EQ(off.tokens.size(), 600U);
}

TEST_F(SchedulerTest, StopsAtTheContextsEnd) {
  SchedulerOptions options;
  options.context_tokens = 10;
  start(options);
  Reader reader;
  add(greedy("aaaa"), reader);
  run_to_end();
  EXPECT_EQ(reader.answer, "bcdefg");
  EXPECT_EQ(reader.end->reason, FinishReason::Length);
}

TEST_F(SchedulerTest, StopsAtAStringThatTokensCut) {
  start();
  Reader reader;
  Request request = greedy("a");
  request.stop_strings = {"fgh"};
  add(std::move(request), reader);
  run_to_end();
  EXPECT_EQ(reader.answer, "bcde");
  EXPECT_EQ(reader.end->reason, FinishReason::Stop);
  EXPECT_EQ(reader.end->stop_string, "fgh");
}

TEST_F(SchedulerTest, HoldsCharactersBackUntilTheyAreComplete) {
  const std::vector<TokenId> euro = ids("\u20ac");
  ASSERT_EQ(euro.size(), 3U);
  std::vector<std::string> texts;
  start({}, [&](TokenId, std::size_t position) {
    return position < 3 ? euro[position] : position == 3 ? euro[0] : kEnd;
  });
  Request request = greedy("a");
  auto job = std::make_shared<Job>(
      std::move(request),
      [&](Event event) {
        if (const auto* delta = std::get_if<Delta>(&event)) texts.push_back(delta->text);
      },
      tokenizer, scheduler->vocab_size());
  scheduler->add(job);
  run_to_end();
  // Two silent tokens, the sign; then one that is never completed.
  EXPECT_THAT(texts, testing::ElementsAre("", "", "\u20ac", "", "\ufffd"));
}

TEST_F(SchedulerTest, TellsThinkingFromAnswerAndCountsIt) {
  const std::vector<TokenId> script = ids("<think>ab.</think>cd<|end|>");
  start({}, [&](TokenId, std::size_t position) { return script.at(position); });
  Reader reader;
  Request request = greedy("a");
  request.reasoning = ReasoningSetup{{kThink, kEndThink}, false};
  request.stop_strings = {"b."};  // only a stop in the answer
  add(std::move(request), reader);
  run_to_end();
  EXPECT_EQ(reader.reasoning, "ab.");
  EXPECT_EQ(reader.answer, "cd");
  EXPECT_EQ(reader.end->usage.reasoning_tokens, 4U);
}

TEST_F(SchedulerTest, AThoughtThatIsTooLongIsClosed) {
  // It would think for ever; what follows a line break is the answer.
  const TokenId line_break = ids("\n")[0];
  const auto endless = [line_break](TokenId last, std::size_t position) {
    if (last == line_break) return ids("x")[0];
    if (last == ids("x")[0] || last == ids("y")[0] || last == ids("z")[0]) {
      return alphabet(last, position);
    }
    return ids("a")[0];
  };
  for (const std::size_t budget : {std::size_t{0}, std::size_t{1}, std::size_t{5}}) {
    start({}, endless);
    Reader reader;
    Request request = greedy("A<think>", 100);
    request.reasoning = ReasoningSetup{{kThink, kEndThink}, true};
    request.max_thinking_tokens = budget;
    add(std::move(request), reader);
    run_to_end();
    // White space right behind the opening belongs to nothing.
    EXPECT_EQ(reader.reasoning, budget == 0 ? "" : std::string(budget, 'a') + "\n") << budget;
    EXPECT_EQ(reader.answer, "xyz");
    ASSERT_TRUE(reader.end);
    EXPECT_EQ(reader.end->reason, FinishReason::Stop);
    EXPECT_LE(reader.end->usage.reasoning_tokens, budget + 2);
    EXPECT_EQ(reader.tokens.size(), budget + 8);  // and the four of the end, xyz, the stop token
  }
}

TEST_F(SchedulerTest, AThoughtWithinItsBudgetIsLeftAlone) {
  const auto thinks_twice = [](TokenId last, std::size_t position) {
    if (last == kThink) return ids("a")[0];
    if (last == ids("b")[0]) return kEndThink;
    if (last == kEndThink) return ids("y")[0];
    return alphabet(last, position);
  };
  start({}, thinks_twice);
  Reader reader;
  Request request = greedy("A<think>", 100);
  request.reasoning = ReasoningSetup{{kThink, kEndThink}, true};
  request.max_thinking_tokens = 50;
  add(std::move(request), reader);
  run_to_end();
  EXPECT_EQ(reader.reasoning, "ab");
  EXPECT_EQ(reader.answer, "yz");
}

TEST_F(SchedulerTest, LongPromptsAreReadInChunksWhileAnswersFlow) {
  SchedulerOptions options;
  options.prompt_chunk = 8;
  start(options);
  Reader writer;
  Reader reader;
  add(greedy("a", 20), writer);
  scheduler->step();
  add(greedy(std::string(60, 'k'), 1), reader);
  model->batches.clear();
  run_to_end();
  EXPECT_EQ(writer.answer, "bcdefghijklmnopqrstu");
  EXPECT_EQ(reader.answer, "l");
  EXPECT_EQ(reader.progress, 56U);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(model->batches[i].size(), i == 7 ? 5U : 9U)
        << "one token of the answer, 8 of the prompt";
  }
}

TEST_F(SchedulerTest, APromptAloneTakesAllTheModelCanTake) {
  start({}, alphabet, 32);
  Reader reader;
  add(greedy(std::string(70, 'a'), 1), reader);
  run_to_end();
  ASSERT_EQ(model->batches.size(), 3U);
  EXPECT_EQ(model->batches[0].size(), 32U);
  EXPECT_EQ(model->batches[2].size(), 6U);
  EXPECT_THAT(model->batches[1].wants_logits, testing::Each(false));
}

TEST_F(SchedulerTest, RequestsJoinAndLeaveBetweenSteps) {
  start();
  std::map<char, Reader> readers;
  for (const char c : {'p', 's', 'v'}) {
    add(greedy(std::string(1, c)), readers[c]);
    scheduler->step();
  }
  EXPECT_EQ(scheduler->stats().active, 3U);
  run_to_end();
  EXPECT_EQ(readers['p'].answer, "qrstuvwxyz");
  EXPECT_EQ(readers['s'].answer, "tuvwxyz");
  EXPECT_EQ(readers['v'].answer, "wxyz");
  // p: steps 1 to 11, the last for the stop token; s: 2 to 9; v: 3 to 7.
  const SchedulerCounts counts = scheduler->stats().counts;
  EXPECT_EQ(counts.steps, 11U);
  EXPECT_EQ(counts.step_requests, 24U);
  EXPECT_EQ(counts.step_tokens, 24U);
  EXPECT_THAT(counts.steps_of, testing::ElementsAre(3, 3, 5, 0, 0, 0, 0));
}

TEST_F(SchedulerTest, NoMoreThanMaxActiveRunAtOnce) {
  SchedulerOptions options;
  options.max_active = 2;
  options.cache.capacity_tokens = 1024;
  start(options);
  std::vector<Reader> readers(5);
  for (Reader& reader : readers) add(greedy("t"), reader);
  while (scheduler->has_work()) {
    scheduler->step();
    EXPECT_LE(scheduler->stats().active, 2U);
  }
  for (const Reader& reader : readers) EXPECT_EQ(reader.answer, "uvwxyz");
}

TEST_F(SchedulerTest, CancellingEndsARequestWhereverItIs) {
  SchedulerOptions options;
  options.max_active = 1;
  options.cache.capacity_tokens = 1024;
  start(options);
  Reader active;
  Reader waiting;
  Reader last;
  const auto first = add(greedy("a"), active);
  const auto second = add(greedy("b"), waiting);
  add(greedy("x"), last);
  scheduler->step();
  scheduler->step();
  first->cancelled = true;
  second->cancelled = true;
  run_to_end();
  EXPECT_EQ(active.answer, "bc");
  EXPECT_EQ(active.end->reason, FinishReason::Cancelled);
  EXPECT_EQ(waiting.end->reason, FinishReason::Cancelled);
  EXPECT_EQ(waiting.end->usage.completion_tokens, 0U);
  EXPECT_EQ(last.answer, "yz");
}

TEST_F(SchedulerTest, ACancelledAnswerKeepsWhatWasHeldBack) {
  start();
  Reader reader;
  Request request = greedy("a");
  request.stop_strings = {"bcdef!"};
  const auto job = add(std::move(request), reader);
  for (int i = 0; i < 3; ++i) scheduler->step();
  EXPECT_EQ(reader.answer, "");
  job->cancelled = true;
  run_to_end();
  EXPECT_EQ(reader.answer, "bcd");
}

TEST_F(SchedulerTest, AContinuedConversationComputesOnlyWhatIsNew) {
  start();
  Reader first;
  add(greedy("aaaaw"), first);
  run_to_end();
  const std::size_t before = computed();
  Reader second;
  add(greedy("aaaawxyz<|end|>bbx"), second);
  run_to_end();
  EXPECT_EQ(second.answer, "yz");
  // "aaaaw" and the fed answer "xyz" are in the cache; the stop token was never fed.
  EXPECT_EQ(second.end->usage.cached_tokens, 8U);
  EXPECT_EQ(computed() - before, 4U + 2U);
}

TEST_F(SchedulerTest, ASharedBeginningIsComputedOnce) {
  start();
  Reader first;
  add(greedy(std::string(100, 'm') + "x"), first);
  run_to_end();
  Reader second;
  add(greedy(std::string(100, 'm') + "u"), second);
  run_to_end();
  EXPECT_EQ(second.answer, "vwxyz");
  EXPECT_EQ(second.end->usage.cached_tokens, 100U);
  // The first one's sequence is still there, whole.
  Reader third;
  add(greedy(std::string(100, 'm') + "xx"), third);
  run_to_end();
  EXPECT_EQ(third.end->usage.cached_tokens, 101U);
}

TEST_F(SchedulerTest, ARunningRequestSharesItsPromptToo) {
  start();
  Reader first;
  Reader second;
  add(greedy(std::string(20, 'm') + "a"), first);
  scheduler->step();
  add(greedy(std::string(20, 'm') + "k"), second);
  run_to_end();
  EXPECT_EQ(second.end->usage.cached_tokens, 20U);
  EXPECT_EQ(first.answer, "bcdefghijklmnopqrstuvwxyz");
  EXPECT_EQ(second.answer, "lmnopqrstuvwxyz");
}

TEST_F(SchedulerTest, RequestsThatComeTogetherReadTheirSharedPromptOnce) {
  start();
  const std::string prompt(193, 'a');  // six steps of 32, and a token
  std::vector<Reader> readers(5);
  for (std::size_t i = 0; i < 4; ++i) add(greedy(prompt, 2), readers[i]);
  add(greedy("w", 2), readers[4]);  // has nothing to do with them, and does not wait for them
  scheduler->step();
  EXPECT_EQ(scheduler->stats().active, 2U);
  run_to_end();
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(readers[i].answer, "bc") << i;
  EXPECT_EQ(readers[4].answer, "xy");
  // The prompt, the last token of three copies of it, a w, and one token more of each answer.
  EXPECT_EQ(computed(), 193U + 3 + 1 + 5);
  EXPECT_EQ(readers[1].end->usage.cached_tokens, 192U);
}

TEST_F(SchedulerTest, TheSamePromptAgainStillComputesItsLastToken) {
  start();
  Reader first;
  Reader second;
  add(greedy("aaax"), first);
  run_to_end();
  add(greedy("aaax"), second);
  run_to_end();
  EXPECT_EQ(second.end->usage.cached_tokens, 3U);
  EXPECT_EQ(second.answer, "yz");
}

TEST_F(SchedulerTest, NothingIsSharedBetweenScopes) {
  start();
  Reader first;
  Reader second;
  add(greedy("aaaax"), first);
  run_to_end();
  Request request = greedy("aaaax");
  request.cache_scope = 7;
  add(std::move(request), second);
  run_to_end();
  EXPECT_EQ(second.end->usage.cached_tokens, 0U);
}

TEST_F(SchedulerTest, IdleSequencesMakeRoomOldestFirst) {
  SchedulerOptions options;
  options.cache.capacity_tokens = 4 * 64;
  start(options);
  Reader readers[4];
  add(greedy(std::string(60, 'a') + "y"), readers[0]);  // a page each
  run_to_end();
  add(greedy(std::string(60, 'b') + "y"), readers[1]);
  run_to_end();
  add(greedy(std::string(150, 'c') + "y"), readers[2]);  // three pages: the oldest must go
  run_to_end();
  EXPECT_EQ(readers[2].answer, "z");
  add(greedy(std::string(60, 'a') + "yz"), readers[3]);
  run_to_end();
  EXPECT_EQ(readers[3].end->usage.cached_tokens, 0U);
}

TEST_F(SchedulerTest, WhenTheCacheIsFullTheYoungestStartsAgainLaterAndLosesNothing) {
  // Both grow to 90 tokens, two pages each, but there are only three.
  SchedulerOptions options;
  options.cache.capacity_tokens = 3 * 64;
  start(options, [](TokenId last, std::size_t position) {
    return position >= 89 ? kEnd : value(last) >= 28 ? TokenId{3} : TokenId{value(last) + 1};
  });
  Reader alone;
  add(greedy("k"), alone);
  run_to_end();
  Reader first;
  Reader second;
  add(greedy("ak"), first);
  add(greedy("bk"), second);
  run_to_end();
  EXPECT_GE(scheduler->stats().counts.preemptions, 1U);
  EXPECT_EQ(first.end->reason, FinishReason::Stop);
  EXPECT_EQ(second.end->reason, FinishReason::Stop);
  EXPECT_EQ(first.answer, alone.answer.substr(0, 88));
  EXPECT_EQ(second.answer, first.answer);
}

TEST_F(SchedulerTest, ALoneRequestThatFillsTheCacheEndsWithLength) {
  SchedulerOptions options;
  options.context_tokens = 64;
  options.cache.capacity_tokens = 64;
  start(options, [](TokenId, std::size_t) { return TokenId{5}; });
  Reader reader;
  add(greedy("a"), reader);
  run_to_end();
  EXPECT_EQ(reader.end->reason, FinishReason::Length);
  EXPECT_EQ(reader.end->usage.completion_tokens, 63U);
}

TEST_F(SchedulerTest, AFailureOfTheModelEndsItsBatchAndNothingElse) {
  start();
  Reader first;
  Reader second;
  add(greedy("a"), first);
  scheduler->step();
  model->fails = true;
  run_to_end();
  EXPECT_EQ(first.end->reason, FinishReason::Failed);
  ASSERT_TRUE(first.end->error);
  EXPECT_STREQ(first.end->error->what(), "the model broke");
  add(greedy("w"), second);
  run_to_end();
  EXPECT_EQ(second.answer, "xyz");
}

TEST_F(SchedulerTest, PenaltiesAndSeedsAreEachRequestsOwn) {
  // A flat choice among the alphabet: what is drawn shows the seed.
  start({}, [](TokenId, std::size_t) { return TokenId{3}; });
  const auto draw = [&](std::uint64_t seed, std::size_t company) {
    std::vector<Reader> readers(company + 1);
    for (std::size_t i = 0; i <= company; ++i) {
      Request request = greedy("a", 30);
      request.sampling.temperature = 50;
      request.sampling.seed = i == 0 ? seed : 1000 + i;
      request.stop_tokens.clear();
      add(std::move(request), readers[i]);
    }
    run_to_end();
    return readers[0].tokens;
  };
  const auto alone = draw(5, 0);
  EXPECT_EQ(draw(5, 3), alone);
  EXPECT_NE(draw(6, 0), alone);
}

TEST_F(SchedulerTest, OneThatHasNoTokenToDrawFailsAlone) {
  start();
  std::vector<Reader> readers(5);
  for (std::size_t i = 0; i < readers.size(); ++i) {
    Request request = greedy("u");
    if (i == 2) {
      for (std::size_t id = 0; id < kVocabulary; ++id) {
        request.sampling.logit_bias.emplace_back(TokenId{static_cast<std::int32_t>(id)},
                                                 -std::numeric_limits<float>::infinity());
      }
    }
    add(std::move(request), readers[i]);
  }
  run_to_end();
  for (std::size_t i = 0; i < readers.size(); ++i) {
    EXPECT_EQ(readers[i].answer, i == 2 ? "" : "vwxyz") << i;
    EXPECT_EQ(readers[i].end->reason, i == 2 ? FinishReason::Failed : FinishReason::Stop) << i;
  }
}

TEST_F(SchedulerTest, RefusesATokenizerLargerThanTheModel) {
  class Small : public Model {
   public:
    Small() { config_.vocab_size = 10; }
    const ModelConfig& config() const override { return config_; }
    std::size_t max_batch() const override { return 1; }
    KvCache make_cache(const KvCacheOptions&) override { fail(ErrorCode::Internal, "not reached"); }
    Logits forward(const Batch&, KvCache&, Observer*) override { return {}; }

   private:
    ModelConfig config_;
  } small;
  EXPECT_THROW(Scheduler(small, tokenizer, {}), Error);
}

}  // namespace
}  // namespace fathom
