// Several ranks: in one process as threads, each with its own place, and as real processes.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <thread>

#include "cli/run_program.h"
#include "train/torch/shared_run.h"

namespace fathom::train {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// --- who there is --------------------------------------------------------------------------------

RankSetup setup_of(const std::map<std::string, std::string>& environment) {
  return rank_setup([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(RankSetup, IsWhatTorchrunOrMpirunSays) {
  EXPECT_EQ(setup_of({}).size, 1);
  EXPECT_EQ(setup_of({{"RANK", "0"}}).size, 1);
  const RankSetup torchrun = setup_of({{"RANK", "3"},
                                       {"WORLD_SIZE", "8"},
                                       {"LOCAL_WORLD_SIZE", "4"},
                                       {"LOCAL_RANK", "3"},
                                       {"MASTER_ADDR", "10.0.0.1"},
                                       {"MASTER_PORT", "1234"},
                                       {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                       {"TORCHELASTIC_RESTART_COUNT", "2"}});
  EXPECT_EQ(torchrun.rank, 3);
  EXPECT_EQ(torchrun.size, 8);
  EXPECT_EQ(torchrun.here, 4);
  EXPECT_EQ(torchrun.place, 3);
  EXPECT_EQ(torchrun.host, "10.0.0.1");
  EXPECT_EQ(torchrun.port, 1234);
  EXPECT_TRUE(torchrun.agent_listens);
  EXPECT_EQ(torchrun.attempt, "2");
  const RankSetup mpirun = setup_of({{"OMPI_COMM_WORLD_RANK", "1"},
                                     {"OMPI_COMM_WORLD_SIZE", "2"},
                                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(mpirun.rank, 1);
  EXPECT_EQ(mpirun.host, "127.0.0.1");
  EXPECT_FALSE(mpirun.agent_listens);
}

TEST(RankSetup, WhatMakesNoSenseIsSaid) {
  const auto told = [](const std::map<std::string, std::string>& environment) -> std::string {
    try {
      setup_of(environment);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_THAT(told({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK is 2, but WORLD_SIZE"));
  EXPECT_THAT(told({{"RANK", "x"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK is 'x'"));
  EXPECT_THAT(told({{"OMPI_COMM_WORLD_RANK", "1"},
                    {"OMPI_COMM_WORLD_SIZE", "4"},
                    {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}),
              HasSubstr("2 of 4 ranks are on this machine: MASTER_ADDR"));
}

// --- what they do together -----------------------------------------------------------------------

TEST(Ranks, AloneNothingHappens) {
  const Ranks alone;
  EXPECT_EQ(alone.sum(2.5), 2.5);
  EXPECT_EQ(alone.share(7), std::pair(std::int64_t{0}, std::int64_t{7}));
  const Tensor rows = at::arange(6).view({3, 2});
  EXPECT_TRUE(at::equal(alone.exchange(rows, {3}, {3}), rows));
}

TEST(Ranks, SumShareAndExchange) {
  const auto errors = in_ranks(3, [](const Ranks& ranks) {
    const int me = ranks.rank();
    EXPECT_EQ(ranks.sum(me + 0.5), 4.5);
    EXPECT_EQ(ranks.most(-me), 0);
    const auto [first, last] = ranks.share(10);
    EXPECT_EQ(ranks.sum(static_cast<double>(last - first)), 10);

    Tensor part = at::empty({2}), all = at::arange(6, at::kFloat);
    ranks.sum_parts(part, all);
    EXPECT_TRUE(at::equal(part, 3 * all.narrow(0, 2 * me, 2)));
    Tensor gathered = at::empty({6});
    ranks.gather(gathered, part);
    EXPECT_TRUE(at::equal(gathered, 3 * all));

    // Rank r sends r + s rows to rank s, none from the first to itself; of several types.
    std::vector<std::int64_t> counts;
    for (int s = 0; s < 3; ++s) counts.push_back(me + s);
    const std::int64_t sent = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    for (const auto type : {at::kFloat, at::kBFloat16, at::kLong}) {
      const Tensor rows = at::full({sent, 5}, me + 1, type);
      const Tensor came = ranks.exchange(rows, counts, counts);
      std::vector<Tensor> wanted;
      for (int s = 0; s < 3; ++s) wanted.push_back(at::full({me + s, 5}, s + 1, type));
      EXPECT_TRUE(at::equal(came, at::cat(wanted)));
    }
    const Tensor none = ranks.exchange(at::empty({0, 4}), {0, 0, 0}, {0, 0, 0});
    EXPECT_EQ(none.size(0), 0);
  });
  EXPECT_THAT(errors, Each(""));
}

TEST(Ranks, NcclIsForGpusOfTheirOwn) {
  const auto each = [](const std::vector<at::Device>& devices) {
    std::vector<int> found(devices.size());
    const auto errors = in_ranks(static_cast<int>(devices.size()), [&](const Ranks& ranks) {
      const auto rank = static_cast<std::size_t>(ranks.rank());
      found[rank] = ranks.gpu_each(devices[rank]) ? 1 : 0;
    });
    EXPECT_THAT(errors, Each(""));
    EXPECT_THAT(found, Each(found[0])) << "ranks must agree";
    return found[0] == 1;
  };
  const at::Device cpu(at::kCPU), first(at::kCUDA, 0), second(at::kCUDA, 1);
  EXPECT_TRUE(each({first, second}));
  EXPECT_FALSE(each({first, first}));
  EXPECT_FALSE(each({first, cpu}));
  EXPECT_FALSE(each({cpu, cpu}));
}

TEST(Ranks, IfOneFailsAllDo) {
  const auto errors = in_ranks(2, [](const Ranks& ranks) {
    ranks.together([&] { require(!(ranks.rank() == 1), ErrorCode::Io, "no room"); });
  });
  EXPECT_THAT(errors,
              ElementsAre("cancelled: rank 0 of 2 stops, because rank 1 failed", "io: no room"));
  const auto different = in_ranks(
      2, [](const Ranks& ranks) { ranks.require_same(ranks.first() ? "a" : "b", "options"); });
  EXPECT_THAT(different, Each("invalid_argument: the ranks have different options"));
}

TEST(Ranks, WhoeverLeavesIsMissed) {
  const auto errors = in_ranks(2, [](const Ranks& ranks) {
    ranks.sum(1.0);
    require(ranks.first(), ErrorCode::Internal, "gone");
    ranks.sum(1.0);
  });
  EXPECT_THAT(errors[0], HasSubstr("network: rank 0 of 2 has lost the others"));
  EXPECT_EQ(errors[1], "internal: gone");
}

// --- training ------------------------------------------------------------------------------------

TEST_F(SharedRun, TwoRanksLearnAsOneDoes) {
  for (const auto kind : {OptimizerKind::AdamW, OptimizerKind::Muon}) {
    const std::string name = kind == OptimizerKind::Muon ? "muon" : "adamw";
    RunOptions options = this->options(name);
    options.optimizer.kind = kind;
    const Outcome one = train(options, 1, false);
    ASSERT_EQ(one.losses.size(), 20U);
    EXPECT_LT(one.losses.back(), one.losses.front());
    options.run = folder_.path() / (name + "-two");
    expect_same(one, train(options, 2, false));
    options.run = folder_.path() / (name + "-spread");
    expect_same(one, train(options, 2, true));
  }
}

TEST_F(SharedRun, RanksWithFewerRowsOrNoneGoAlong) {
  RunOptions options = this->options("one");
  options.micro_rows = 1;
  options.batch = {0, 6};
  const Outcome one = train(options, 1, false);
  options.run = folder_.path() / "four";
  expect_same(one, train(options, 4, true));  // 1, 2, 1 and 2 rows
  options.batch = {0, 3};
  options.tokens = 5 * 3 * 32;
  options.evaluate_every = 0;
  options.run = folder_.path() / "few";
  const Outcome few = train(options, 1, false);
  options.run = folder_.path() / "few-four";
  expect_same(few, train(options, 4, true));  // none, 1, 1 and 1
}

TEST_F(SharedRun, AnotherNumberOfRanksGoesOn) {
  RunOptions options = this->options("whole");
  const Outcome whole = train(options, 1, false);
  options.run = folder_.path() / "parts";
  const std::vector<std::pair<int, bool>> ranks{
      {2, true}, {1, false}, {4, true}, {2, false}, {3, false}};
  Outcome parts;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const Outcome part = train(options, ranks[i].first, ranks[i].second,
                               i + 1 < ranks.size() ? static_cast<std::int64_t>(4 * i + 4) : 1000);
    parts.losses.insert(parts.losses.end(), part.losses.begin(), part.losses.end());
    parts.weights = part.weights;
    parts.evaluation = part.evaluation;
  }
  Outcome compared = whole;
  compared.further = compared.balances = compared.norms = {};
  expect_same(compared, parts);
  // Lines of the log are there once each.
  EXPECT_EQ(log(options).size(), 20U);
}

TEST_F(SharedRun, EachRankKeepsItsPartOfTheMoments) {
  const auto errors = in_ranks(2, [&](const Ranks& ranks) {
    TorchModel model = TorchModel::random(tiny_config(), {}, 0.02, 1);
    const Optimizer alone(model, {});
    double all = 0, own = 0;
    const auto count = [](double& sum) {
      return [&sum](const std::string&, Tensor& t, RowRange) {
        sum += static_cast<double>(t.numel());
      };
    };
    const_cast<Optimizer&>(alone).each_state(count(all));
    model.spread_experts(ranks);
    Optimizer shared(model, {}, ranks);
    shared.each_state(count(own));
    EXPECT_EQ(ranks.sum(own), all);
    EXPECT_LT(own, 0.6 * all);
  });
  EXPECT_THAT(errors, Each(""));
}

TEST_F(SharedRun, RanksThatWouldDoDifferentThingsAreRefused) {
  const auto errors = in_ranks(2, [&](const Ranks& ranks) {
    RunOptions own = options("run");
    own.ranks = ranks;
    if (!ranks.first()) own.save_every = 3;
    TrainingRun run(own);
  });
  EXPECT_THAT(errors, Each(HasSubstr("the ranks have different options")));
  const auto apart = in_ranks(3, [&](const Ranks& ranks) {
    RunOptions own = options("run");
    own.ranks = ranks;
    own.expert_parallel = true;
    TrainingRun run(own);
  });
  EXPECT_THAT(apart, Each(HasSubstr("4 experts (n_routed_experts) cannot be spread over 3 ranks")));
}

}  // namespace
}  // namespace fathom::train
