// The engine's thread: submitting, reading, cancelling, shutting down.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <thread>

#include "engine/fake_model.h"
#include "formats/checkpoint.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT: the tests' own vocabulary
using namespace std::chrono_literals;

Request greedy(const std::string& prompt, std::size_t max_tokens = 0) {
  Request request;
  request.prompt = ids(prompt);
  request.sampling.temperature = 0;
  request.stop_tokens = {kEnd};
  request.max_tokens = max_tokens;
  return request;
}

struct Text {
  std::string answer;
  Finished end;
};

Text read_all(Stream& stream) {
  Text text;
  while (auto event = stream.next()) {
    if (const auto* delta = std::get_if<Delta>(&*event)) text.answer += delta->text;
    if (auto* end = std::get_if<Finished>(&*event)) text.end = *end;
  }
  return text;
}

TEST(Engine, AnswersManyReadersAtOnce) {
  Engine engine(std::make_unique<FakeModel>(alphabet), small_tokenizer());
  std::vector<std::thread> threads;
  std::vector<std::string> answers(20);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    threads.emplace_back([&, i] {
      const char first = static_cast<char>('a' + i);
      Stream stream = engine.submit(greedy(std::string(1, first)));
      answers[i] = read_all(stream).answer;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i], std::string("abcdefghijklmnopqrstuvwxyz").substr(i + 1));
  }
}

TEST(Engine, CancellingStopsAnEndlessAnswer) {
  auto model = std::make_unique<FakeModel>([](TokenId, std::size_t) { return TokenId{5}; });
  model->delay = 1ms;
  Engine engine(std::move(model), small_tokenizer());
  Stream stream = engine.submit(greedy("a"));
  ASSERT_TRUE(stream.next());
  stream.cancel();
  EXPECT_EQ(read_all(stream).end.reason, FinishReason::Cancelled);
  EXPECT_TRUE(stream.over());
}

TEST(Engine, CancellingDoesNotWaitForALongPromptsStep) {
  auto model = std::make_unique<FakeModel>(alphabet, 512);
  model->delay = 5ms;
  model->layers = 10000;
  Engine engine(std::move(model), small_tokenizer());
  Stream stream = engine.submit(greedy(std::string(400, 'a')));
  std::this_thread::sleep_for(50ms);
  const auto start = std::chrono::steady_clock::now();
  stream.cancel();
  EXPECT_EQ(read_all(stream).end.reason, FinishReason::Cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
}

TEST(Engine, AStreamThatIsDroppedCancelsItsRequest) {
  auto model = std::make_unique<FakeModel>([](TokenId, std::size_t) { return TokenId{5}; });
  model->delay = 1ms;
  Engine engine(std::move(model), small_tokenizer());
  {
    Stream stream = engine.submit(greedy("a"));
  }
  for (int i = 0; i < 200 && engine.stats().active + engine.stats().waiting > 0; ++i) {
    std::this_thread::sleep_for(5ms);
  }
  // Let a request through to be sure that the engine has looked at the other one.
  Stream next = engine.submit(greedy("a", 1));
  read_all(next);
  EXPECT_LE(engine.stats().active, 1U);
}

TEST(Engine, ShuttingDownEndsEveryRequest) {
  std::optional<Stream> stream;
  {
    auto model = std::make_unique<FakeModel>([](TokenId, std::size_t) { return TokenId{5}; });
    model->delay = 1ms;
    Engine engine(std::move(model), small_tokenizer());
    stream.emplace(engine.submit(greedy("a")));
    ASSERT_TRUE(stream->next());
  }
  EXPECT_EQ(read_all(*stream).end.reason, FinishReason::Cancelled);
}

TEST(Engine, WaitingWithATimeoutReturnsWithoutAnEvent) {
  auto model = std::make_unique<FakeModel>(alphabet);
  model->delay = 200ms;
  Engine engine(std::move(model), small_tokenizer());
  Stream stream = engine.submit(greedy("x"));
  EXPECT_FALSE(stream.next_for(1ms));
  EXPECT_FALSE(stream.over());
  EXPECT_EQ(read_all(stream).answer, "yz");
}

TEST(Engine, RefusesRequestsThatCannotBe) {
  Engine engine(std::make_unique<FakeModel>(alphabet), small_tokenizer());
  const auto refused = [&](Request request) {
    try {
      engine.submit(std::move(request));
    } catch (const Error& error) {
      return error.code() == ErrorCode::InvalidArgument;
    }
    return false;
  };
  EXPECT_TRUE(refused(greedy("")));
  EXPECT_TRUE(refused(greedy(std::string(1000, 'a'))));
  Request outside = greedy("a");
  outside.prompt.push_back(TokenId{static_cast<std::int32_t>(kVocabulary)});
  EXPECT_TRUE(refused(outside));
  Request hot = greedy("a");
  hot.sampling.temperature = -1;
  EXPECT_TRUE(refused(hot));
  Request stop = greedy("a");
  stop.stop_strings = {""};
  EXPECT_TRUE(refused(stop));
  EXPECT_FALSE(refused(greedy("a", 1)));
}

/// A real, tiny model: what is batched, forked and sent back must compute what it computes alone.
class GoldenEngine : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Engine> make(const SchedulerOptions& options, unsigned threads = 2) const {
    ModelOptions model_options;
    model_options.precision = ActivationPrecision::F32;
    model_options.threads = threads;
    auto model = Model::load(
        open_checkpoint(std::string(FATHOM_SOURCE_DIR "/tests/golden/models/") + GetParam()),
        model_options);
    return std::make_unique<Engine>(std::move(model), small_tokenizer(), options);
  }
  static Request sampled(const std::string& prompt, std::uint64_t seed) {
    Request request = greedy(prompt, 60);
    request.sampling.temperature = 0.8F;
    request.sampling.seed = seed;
    request.stop_tokens.clear();
    return request;
  }
  /// Of the tokens, as not all of them have a text.
  static std::vector<TokenId> tokens(Stream stream) {
    std::vector<TokenId> ids;
    while (auto event = stream.next()) {
      if (const auto* delta = std::get_if<Delta>(&*event)) {
        if (delta->token) ids.push_back(delta->token->id);
      } else if (const auto* end = std::get_if<Finished>(&*event)) {
        EXPECT_EQ(end->reason, FinishReason::Length);
      }
    }
    return ids;
  }
};

TEST_P(GoldenEngine, SameSeedSameTokensWhateverTheCompanyThreadsAndMemory) {
  SchedulerOptions roomy;
  roomy.cache.dtype = DType::F32;
  roomy.cache.capacity_tokens = 4096;
  SchedulerOptions tight = roomy;
  tight.cache.capacity_tokens = 5 * 64;  // requests are sent back and start again
  tight.prompt_chunk = 3;
  const std::vector<std::string> prompts{"once upon a time", "once upon a hill", "the",
                                         "a long way from home to the sea and back again"};
  std::vector<std::vector<TokenId>> alone;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    alone.push_back(tokens(make(roomy, 1)->submit(sampled(prompts[i], i))));
    EXPECT_EQ(alone.back().size(), 60U);
  }
  SchedulerOptions guessing = tight;
  guessing.speculate = 7;
  guessing.pass_seconds = [](std::size_t) { return 0.001; };
  for (const SchedulerOptions& options : {roomy, tight, guessing}) {
    const auto engine = make(options);
    std::vector<Stream> streams;
    for (std::size_t round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        streams.push_back(engine->submit(sampled(prompts[i], i)));
      }
    }
    for (std::size_t i = 0; i < streams.size(); ++i) {
      EXPECT_EQ(tokens(std::move(streams[i])), alone[i % prompts.size()]) << prompts[i % 4];
    }
  }
}

TEST_P(GoldenEngine, GuessesChangeNoBitOfAnAnswer) {
  // Left to itself such a model soon goes round in circles, which guesses follow.
  for (const float temperature : {0.0F, 0.3F}) {
    std::vector<std::vector<SampledToken>> answers;
    for (const std::size_t speculate : {0U, 7U}) {
      SchedulerOptions options;
      options.cache.dtype = DType::BF16;
      options.cache.capacity_tokens = 1024;
      options.speculate = speculate;
      options.pass_seconds = [](std::size_t) { return 0.001; };  // guesses always pay
      const auto engine = make(options);
      Request request = sampled("once upon a time", 3);
      request.sampling.temperature = temperature;
      request.sampling.logprobs = 2;
      request.max_tokens = 250;
      Stream stream = engine->submit(std::move(request));
      answers.emplace_back();
      while (auto event = stream.next()) {
        const auto* delta = std::get_if<Delta>(&*event);
        if (delta != nullptr && delta->token) answers.back().push_back(*delta->token);
      }
      EXPECT_EQ(answers.back().size(), 250U);
      if (temperature == 0) {
        EXPECT_EQ(engine->stats().counts.right_guesses > 0, speculate > 0);
      }
    }
    for (std::size_t i = 0; i < answers[0].size(); ++i) {
      ASSERT_EQ(answers[0][i].id, answers[1][i].id) << i;
      ASSERT_EQ(answers[0][i].logprob, answers[1][i].logprob) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenEngine,
                         testing::Values("llama-gqa", "qwen3", "deepseek2-lite", "deepseek3"),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace fathom
