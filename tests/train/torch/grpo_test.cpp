// Reinforcement learning from end to end with a tiny model: it learns what is rewarded, engine and
// trainer agree, and a run goes on bit for bit.
#include <gmock/gmock.h>

#include <torch/torch.h>

#include <fstream>
#include <limits>
#include <map>

#include "base/error.h"
#include "train/torch/grpo_run.h"
#include "train/torch/in_ranks.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using ::testing::Each;
using ::testing::ElementsAre;

TEST_F(GrpoRun, LearnsWhatIsRewardedAndEngineAndTrainerAgree) {
  Grpo run(options("run"));
  double first = 0, last = 0;
  while (!run.done()) {
    const GrpoReport report = run.step();
    EXPECT_LT(report.gap, 1e-3) << "step " << report.step;
    EXPECT_GT(report.entropy, 0);
    EXPECT_LE(report.length, 3);
    EXPECT_EQ(report.clipped_low + report.clipped_high, 0) << "one update a step is on policy";
    if (report.step <= 5) first += report.reward / 5;
    if (report.step > 25) last += report.reward / 5;
  }
  EXPECT_LT(first, 0.35);
  EXPECT_GT(last, 0.5);
}

TEST_F(GrpoRun, EveryVariantLearns) {
  const auto learned = [&](const std::string& name,
                           const std::function<void(GrpoOptions&)>& change) {
    GrpoOptions o = options(name);
    change(o);
    Grpo run(o);
    double last = 0;
    while (!run.done()) last = run.step().reward;
    EXPECT_GT(last, 0.5) << name;
  };
  learned("dr", [](GrpoOptions& o) {
    o.policy.mean = LossMean::Constant;
    o.policy.divide_by_deviation = false;
    o.rate.peak = 1e-2;
  });
  learned("dapo", [](GrpoOptions& o) {
    o.policy.mean = LossMean::Token;
    o.policy.clip_high = 0.28;
    o.dynamic_sampling = true;
  });
  learned("cispo", [](GrpoOptions& o) {
    o.policy.keep_gradient = true;
    o.policy.clip_low = 1;
    o.policy.mean = LossMean::Token;
    o.minibatches = 2;
  });
  learned("kl", [](GrpoOptions& o) {
    o.policy.kl = 0.001;
    o.refresh_reference = 5;
    o.policy.truncated_weight = 2;
  });
}

TEST_F(GrpoRun, TheRateFollowsItsSchedule) {
  GrpoOptions o = options("run");
  o.steps = 10;
  o.rate = {1e-3, 2, RateShape::Wsd};
  Grpo run(o);
  std::vector<double> rates;
  while (!run.done()) rates.push_back(run.step().rate);
  ASSERT_EQ(rates.size(), 10U);
  EXPECT_DOUBLE_EQ(rates[0], 0.5e-3);
  EXPECT_DOUBLE_EQ(rates[5], 1e-3);
  EXPECT_NEAR(rates[9], 0.5e-3, 1e-9) << "half of the last fifth is over";
}

TEST_F(GrpoRun, ByChanceNothingIsLearned) {
  GrpoOptions o = options("run");
  o.rewards = {random_reward(3)};
  Grpo run(o);
  GrpoReport report;
  while (!run.done()) report = run.step();
  EXPECT_NEAR(report.reward, 0.5, 0.2);
}

TEST_F(GrpoRun, InterruptedItEndsWithTheSameBits) {
  GrpoOptions whole = options("whole");
  whole.steps = 6;
  whole.policy.kl = 0.01;
  whole.refresh_reference = 4;
  whole.minibatches = 2;
  whole.evaluation = {{"a=", "1"}, {"d=", "3"}};
  whole.evaluate_every = 2;
  whole.evaluation_samples = 3;
  GrpoOptions parts = whole;
  parts.run = folder_.path() / "parts";
  Grpo one(whole);
  while (!one.done()) one.step();
  for (int stop = 0;; ++stop) {
    Grpo run(parts);
    if (run.done()) break;
    for (int i = 0; i <= stop && !run.done(); ++i) run.step();
    run.save();
  }
  GrpoOptions others = parts;
  others.tasks[0].answer = "9";
  EXPECT_THROW(Grpo{others}, Error) << "as many tasks, but not the same";
  Grpo again(parts);
  for (std::size_t i = 0; i < one.model().parameters().size(); ++i) {
    EXPECT_TRUE(
        torch::equal(one.model().parameters()[i].value, again.model().parameters()[i].value))
        << one.model().parameters()[i].name;
  }
  EXPECT_EQ(log(whole), log(parts));
}

TEST_F(GrpoRun, EnginesExpertsAreReplayed) {
  // In BF16 the trainer's router sees other numbers than the engine's, and would choose otherwise
  // at times.
  const fs::path large = make("large");
  write_model_folder(large, TorchModel::random(tiny_config(), {}, 0.3, 1),
                     read_model_texts(folder_.path() / "model"));
  GrpoOptions o = options("own");
  o.weights = large;
  o.twin.compute = at::kBFloat16;
  o.max_tokens = 20;
  o.policy.kl = 1e-9;  // all answers are looked at
  for (const bool replays : {false, true}) {
    o.run = folder_.path() / (replays ? "replayed" : "own");
    o.replay_routing = replays;
    const GrpoReport report = Grpo(o).step();
    EXPECT_EQ(report.rerouted > 0, replays);
    EXPECT_LT(report.rerouted, 0.1);
  }
  // In F32 they choose alike, so that it would be seen if experts went to the wrong tokens.
  o.run = folder_.path() / "f32";
  o.twin.compute = at::kFloat;
  const GrpoReport report = Grpo(o).step();
  EXPECT_LT(report.rerouted, 1e-3);
  EXPECT_LT(report.gap, 1e-3);
}

TEST_F(GrpoRun, TwoRanksLearnAsOneDoes) {
  GrpoOptions o = options("one");
  o.steps = 4;
  o.questions = 5;
  o.evaluation = {{"a=", "1"}, {"d=", "3"}};
  o.evaluate_every = 2;
  o.policy.kl = 0.01;
  std::map<std::string, Tensor> one;
  for (const int size : {1, 2, 3}) {
    o.run = folder_.path() / std::to_string(size);
    const auto errors = in_ranks(size, [&](const Ranks& ranks) {
      GrpoOptions own = o;
      own.ranks = ranks;
      own.threads = 1;
      Grpo run(own);
      while (!run.done()) run.step();
      run.save();
      if (size == 1) one = weights_of(run.model());
      for (const auto& [name, value] : weights_of(run.model())) {
        EXPECT_LT((value - one.at(name)).abs().max().item<double>(), 2e-3) << name;
      }
    });
    EXPECT_THAT(errors, Each(""));
  }
  const auto lines = [](const fs::path& run) {
    std::vector<nlohmann::json> all;
    std::ifstream file(run / "log.jsonl");
    for (std::string line; std::getline(file, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  };
  const auto alone = lines(folder_.path() / "1");
  for (const char* several : {"2", "3"}) {
    const auto shared = lines(folder_.path() / several);
    ASSERT_EQ(shared.size(), alone.size());
    // While weights are the same, so are answers.
    for (const char* name : {"reward", "length", "equal_groups", "entropy", "gradient_norm"}) {
      EXPECT_NEAR(shared[0].at(name), alone[0].at(name), 1e-4) << name;
    }
  }
}

TEST_F(GrpoRun, AFailingRewardOfOneRankStopsAll) {
  GrpoOptions o = options("run");
  const auto errors = in_ranks(2, [&](const Ranks& ranks) {
    GrpoOptions own = o;
    own.ranks = ranks;
    own.threads = 1;
    own.rewards[0].of = [&](const Attempt& attempt) -> double {
      require(attempt.number != 40, ErrorCode::InvalidArgument, "the reward failed");
      return 1;
    };
    Grpo(own).step();
  });
  EXPECT_THAT(errors, ElementsAre("cancelled: rank 0 of 2 stops, because rank 1 failed",
                                  "invalid_argument: the reward failed"));
}

TEST(AnswerBatch, HasWhatIsAskedForWhereItIs) {
  Sample a, b, c;
  a.tokens = {5, 6, 7, 8};
  a.prompt = 2;
  b.tokens = {5, 6, 4};  // shares its prompt
  b.prompt = 2;
  c.tokens = {9, 3, 1};
  c.prompt = 1;
  for (int i = 0; i < 3 * 2 * 2; ++i) a.routing.push_back(i);
  for (int i = 0; i < 2 * 2 * 2; ++i) b.routing.push_back(50 + i);
  for (int i = 0; i < 2 * 2 * 2; ++i) c.routing.push_back(100 + i);
  const std::vector<const Sample*> all{&a, &b, &c};
  const AnswerBatch batch = answer_batch(all, 0, 2, 2);
  const auto numbers = [](const Tensor& t) {
    const Tensor flat = t.flatten().contiguous();
    return std::vector<std::int64_t>(flat.data_ptr<std::int64_t>(),
                                     flat.data_ptr<std::int64_t>() + flat.numel());
  };
  EXPECT_THAT(numbers(batch.rows.tokens), ElementsAre(5, 6, 7, 9, 3));
  EXPECT_THAT(numbers(batch.rows.positions), ElementsAre(0, 1, 2, 0, 1));
  EXPECT_THAT(numbers(batch.rows.documents), ElementsAre(0, 0, 1, 3, 4));
  EXPECT_THAT(numbers(batch.rows.prefixes), ElementsAre(-1, -1, 0, -1, 3));
  EXPECT_THAT(numbers(batch.from), ElementsAre(1, 2, 1, 3, 4));
  EXPECT_THAT(numbers(batch.target), ElementsAre(7, 8, 4, 3, 1));
  EXPECT_THAT(numbers(batch.cell), ElementsAre(0, 1, 2, 4, 5));
  ASSERT_EQ(batch.replay.size(), 2U);
  EXPECT_THAT(numbers(batch.replay[1]), ElementsAre(2, 3, 6, 7, 10, 11, 102, 103, 106, 107));

  // Long ones have a row each.
  Sample large = a;
  large.tokens.resize(3000, 1);
  large.routing.clear();
  a.routing.clear();
  const std::vector<const Sample*> apart{&a, &large};
  const AnswerBatch rows = answer_batch(apart, 0, 2, 2);
  EXPECT_EQ(rows.rows.tokens.sizes(), at::IntArrayRef({2, 2999}));
  EXPECT_FALSE(rows.rows.documents.defined());
  EXPECT_EQ(rows.from[0].item<int>(), 1);
  EXPECT_EQ(rows.from[2].item<int>(), 2999 + 1);
  EXPECT_EQ(rows.cell[2].item<int>(), 2998);
  EXPECT_EQ(rows.spread(at::ones({3000})).sum().item<double>(), 3000);
  EXPECT_TRUE(rows.replay.empty());
}

TEST(AnswerBatch, SideBySideOrByThemselvesTheyAreTheSame) {
  TorchModel model = TorchModel::random(tiny_config(), {}, 0.1, 1);
  std::vector<Sample> samples(3);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t t = 0; t < 6 + 5 * i; ++t) {
      samples[i].tokens.push_back(static_cast<std::int64_t>((7 * t + 31 * i) % 260));
    }
    samples[i].prompt = 2 + i;
  }
  const auto logits = [&](std::span<const Sample* const> some) {
    const AnswerBatch batch = answer_batch(some, 0, 1, 2);
    return model.logits(model.forward(batch.rows).states.flatten(0, 1).index_select(0, batch.from));
  };
  samples.push_back(samples[2]);  // a prompt that two share
  samples[3].tokens[7] = 5;
  const std::vector<const Sample*> order = learning_order(samples);
  std::vector<Tensor> alone;
  for (std::size_t i = 0; i < 4; ++i) alone.push_back(logits(std::span(order).subspan(i, 1)));
  EXPECT_LT((logits(order) - at::cat(alone)).abs().max().item<double>(), 1e-5);
  const auto sizes = [&](std::size_t tokens) {
    std::vector<std::size_t> all;
    for (const auto& batch : in_batches(order, tokens)) all.push_back(batch.size());
    return all;
  };
  EXPECT_THAT(sizes(6 + 11 + 16), ElementsAre(3, 1));
  EXPECT_THAT(sizes(6 + 11 + 16 + 12), ElementsAre(4));
  EXPECT_THAT(sizes(1), ElementsAre(1, 1, 1, 1));
}

TEST_F(GrpoRun, ADivergedRunEnds) {
  GrpoOptions o = options("run");
  o.rate.peak = std::numeric_limits<double>::infinity();
  o.rewards = {random_reward(3)};
  Grpo run(o);
  EXPECT_FALSE(run.step().skipped);  // after which no weight is finite
  // The engine has no finite log-probability to sample by, and says so at once.
  EXPECT_THROW(
      {
        for (int i = 0; i < 25; ++i) run.step();
      },
      Error);
}

TEST_F(GrpoRun, GroupsThatAreEqualTeachNothingAndAreSaid) {
  GrpoOptions o = options("run");
  o.rewards = {parse_reward("pattern=never this", 1)};
  o.dynamic_sampling = true;
  o.most_rounds = 2;
  Grpo run(o);
  const GrpoReport report = run.step();
  EXPECT_TRUE(report.skipped);
  EXPECT_EQ(report.equal_groups, 1);
}

TEST_F(GrpoRun, OptionsThatCannotWorkAreNamed) {
  GrpoOptions alone = options("run");
  alone.group = 1;
  EXPECT_THROW(Grpo{alone}, Error);
  GrpoOptions none = options("run");
  none.rewards.clear();
  EXPECT_THROW(Grpo{none}, Error);
}

TEST_F(GrpoRun, AFailingRewardCostsNothingThatCameBefore) {
  const auto fails_at = [](std::uint64_t number) {
    Reward reward = exact_reward(1);
    reward.of = [number](const Attempt& attempt) -> double {
      require(attempt.number != number, ErrorCode::InvalidArgument, "the reward failed");
      return attempt.text.size() % 2 == 0 ? 1 : 0;
    };
    return reward;
  };
  GrpoOptions whole = options("whole");
  whole.steps = 4;
  whole.rewards = {fails_at(~0ULL)};
  Grpo run(whole);
  while (!run.done()) run.step();

  GrpoOptions broken = whole;
  broken.run = folder_.path() / "broken";
  broken.rewards = {fails_at(150)};  // in the third step of 64 answers
  {
    Grpo first(broken);
    first.step();
    first.step();
    EXPECT_THROW(first.step(), Error);
    first.save();
  }
  broken.rewards = whole.rewards;
  Grpo second(broken);
  EXPECT_EQ(second.steps(), 2);
  while (!second.done()) second.step();
  EXPECT_EQ(log(broken), log(whole));
}

TEST_F(GrpoRun, BegunAnewItLogsItsStartOnce) {
  GrpoOptions o = options("begun");
  o.steps = 1;
  o.evaluation = {{"a=", "1"}};
  o.evaluation_samples = 0;
  for (int attempt = 0; attempt < 2; ++attempt) {
    Grpo run(o);
    run.evaluate_start();
    if (attempt == 0) run.save();  // as after a reward that failed in the first step
  }
  EXPECT_EQ(log(o).size(), 1U);
}

TEST_F(GrpoRun, AdaptersAloneLearnAndGoOnBitForBit) {
  GrpoOptions whole = options("lora");
  whole.steps = 6;
  whole.lora.rank = 4;
  whole.policy.kl = 0.01;
  Grpo run(whole);
  double gap = 0;
  while (!run.done()) gap = std::max(gap, run.step().gap);
  EXPECT_LT(gap, 1e-3);
  GrpoOptions halves = whole;
  halves.run = folder_.path() / "lora-halves";
  {
    Grpo first(halves);
    for (int i = 0; i < 3; ++i) first.step();
    first.save();
  }
  Grpo second(halves);
  EXPECT_TRUE(second.resumed());
  while (!second.done()) second.step();
  EXPECT_EQ(log(halves), log(whole));
  // A checkpoint has the adapters alone: what they adapt must be the same.
  GrpoOptions other = halves;
  other.weights = make("other");
  write_model_folder(other.weights, TorchModel::random(tiny_config(), {}, 0.05, 2), other.texts);
  try {
    Grpo run_on_other(other);
    ADD_FAILURE() << "other weights were taken";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("was begun with adapted weights"));
  }
}

}  // namespace
}  // namespace fathom::train
