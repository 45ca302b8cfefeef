// The forward pass against Hugging Face transformers on tiny random checkpoints.
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>
#include <random>

#include "backend/cpu/attention.h"
#include "backend/cpu/kernel_trace.h"
#include "backend/cpu/matmul.h"
#include "base/cpu_features.h"
#include "model/golden_models.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT

class Oracle : public testing::TestWithParam<GoldenFile> {};

TEST_P(Oracle, GivesTheSameLogitsAtEveryPosition) {
  const Golden golden = read_golden(GetParam().name);
  const auto model = load_golden(GetParam());
  const auto logits = feed_in_chunks(*model, golden.tokens, {golden.tokens.size()});
  const auto vocab_size = static_cast<std::size_t>(model->config().vocab_size);
  const double error = worst_error(logits, golden.logits, vocab_size);
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LE(error, kOracleTolerance);
}

/// Collects the routed experts, each token's by ascending id as the oracle has them.
class RoutingLog : public Observer {
 public:
  explicit RoutingLog(std::size_t per_token) : per_token_(per_token) {}
  void routing(std::int64_t layer, std::span<const std::int32_t> ids,
               std::span<const float> weights) override {
    auto& log = layers[layer];
    for (std::size_t at = 0; at < ids.size(); at += per_token_) {
      std::vector<std::size_t> order(per_token_);
      std::iota(order.begin(), order.end(), at);
      std::sort(order.begin(), order.end(), [&](auto a, auto b) { return ids[a] < ids[b]; });
      auto& id_row = log.ids.emplace_back();
      auto& weight_row = log.weights.emplace_back();
      for (std::size_t i : order) {
        id_row.push_back(ids[i]);
        weight_row.push_back(weights[i]);
      }
    }
  }
  std::map<std::int64_t, Golden::Routing> layers;

 private:
  std::size_t per_token_;
};

TEST_P(Oracle, RoutesEveryTokenToTheSameExperts) {
  const Golden golden = read_golden(GetParam().name);
  const auto model = load_golden(GetParam());
  RoutingLog log(static_cast<std::size_t>(model->config().moe.num_experts_per_tok));
  KvCache cache = model->make_cache({DType::F32, golden.tokens.size()});
  feed(*model, cache, cache.create(), golden.tokens, 0, golden.tokens.size(), &log);
  ASSERT_EQ(log.layers.size(), golden.routing.size());
  for (const auto& [layer, expected] : golden.routing) {
    ASSERT_EQ(log.layers[layer].ids, expected.ids) << "layer " << layer;
    for (std::size_t t = 0; t < expected.weights.size(); ++t) {
      for (std::size_t k = 0; k < expected.weights[t].size(); ++k) {
        EXPECT_NEAR(log.layers[layer].weights[t][k], expected.weights[t][k], 2e-5);
      }
    }
  }
}

TEST_P(Oracle, AnyChunkingAgrees) {
  const Golden golden = read_golden(GetParam().name);
  const auto model = load_golden(GetParam());
  const auto vocab_size = static_cast<std::size_t>(model->config().vocab_size);
  std::mt19937 random(7);
  std::vector<std::size_t> ragged;
  for (int i = 0; i < 100; ++i) ragged.push_back(1 + random() % 23);
  for (const auto& chunks :
       std::vector<std::vector<std::size_t>>{{1}, {2}, {64}, {63, 2}, {65}, {100, 1}, ragged}) {
    const auto logits = feed_in_chunks(*model, golden.tokens, chunks);
    EXPECT_LE(worst_error(logits, golden.logits, vocab_size), kOracleTolerance)
        << "chunks of " << chunks[0] << ", ...";
  }
}

TEST_P(Oracle, MixedBatchesOfSeveralSequencesAgree) {
  const Golden golden = read_golden(GetParam().name);
  const auto model = load_golden(GetParam());
  const auto vocab_size = static_cast<std::size_t>(model->config().vocab_size);
  const std::size_t length = golden.tokens.size();
  // Three sequences read the same text at their own pace: long chunks, short ones, token by token.
  const std::size_t pace[] = {37, 5, 1};
  KvCache cache = model->make_cache({DType::F32, 4 * length});
  std::vector<SequenceId> sequences;
  std::vector<std::size_t> at(3, 0);
  for (int s = 0; s < 3; ++s) sequences.push_back(cache.create());
  for (std::size_t round = 0; at[2] < length; ++round) {
    Batch batch;
    std::vector<std::size_t> rows;  // position of each row of logits
    for (std::size_t i = 0; i < 3; ++i) {
      const std::size_t s = (i + round) % 3;  // in changing order
      const std::size_t end = std::min(length, at[s] + pace[s]);
      for (; at[s] < end; ++at[s]) {
        const bool wants = (at[s] + s) % 3 != 0;
        batch.add(golden.tokens[at[s]], sequences[s], Position{static_cast<int>(at[s])}, wants);
        if (wants) rows.push_back(at[s]);
      }
    }
    const Logits logits = model->forward(batch, cache);
    ASSERT_EQ(logits.rows, rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto expected = std::span(golden.logits).subspan(rows[r] * vocab_size, vocab_size);
      ASSERT_LE(relative_error(logits.row(r), expected), kOracleTolerance)
          << "round " << round << ", position " << rows[r];
    }
  }
}

TEST_P(Oracle, AnyNumberOfThreadsGivesTheSameBits) {
  const Golden golden = read_golden(GetParam().name);
  const auto one = feed_in_chunks(*load_golden(GetParam(), 1), golden.tokens, {70, 1});
  for (unsigned threads : {2U, 3U, 5U}) {
    EXPECT_EQ(feed_in_chunks(*load_golden(GetParam(), threads), golden.tokens, {70, 1}), one)
        << threads << " threads";
  }
}

TEST_P(Oracle, EveryInstructionSetAgrees) {
  const Golden golden = read_golden(GetParam().name);
  for (CpuLevel level : kCpuLevels) {
    if (!cpu_runs(level)) continue;
    ASSERT_EQ(::setenv("FATHOM_CPU", to_string(level), 1), 0);
    const auto model = load_golden(GetParam());
    ::unsetenv("FATHOM_CPU");
    const auto vocab_size = static_cast<std::size_t>(model->config().vocab_size);
    cpu::forget_kernels_ran();
    const auto logits = feed_in_chunks(*model, golden.tokens, {80, 7});
    EXPECT_LE(worst_error(logits, golden.logits, vocab_size), kOracleTolerance) << to_string(level);
    // What the kernels say themselves: these ran, and no others.
    EXPECT_EQ(cpu::product_kernels_ran(), to_string(cpu::matmul_level(level)));
    EXPECT_EQ(cpu::attention_kernels_ran(), to_string(cpu::attention_level(level)));
  }
}

TEST_P(Oracle, ACacheInBf16StaysClose) {
  // Keys and values keep 8 bits of mantissa (half a step: 2^-9 = 0.002), which moves the logits of
  // these random models by 1 % or so; where an expert changes, by much more.
  const Golden golden = read_golden(GetParam().name);
  const auto model = load_golden(GetParam());
  const auto vocab_size = static_cast<std::size_t>(model->config().vocab_size);
  const auto logits = feed_in_chunks(*model, golden.tokens, {golden.tokens.size()}, DType::BF16);
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); i += vocab_size) {
    sum += relative_error(std::span(logits).subspan(i, vocab_size),
                          std::span(golden.logits).subspan(i, vocab_size));
  }
  const double mean = sum / static_cast<double>(golden.tokens.size());
  RecordProperty("mean_relative_error", std::to_string(mean));
  EXPECT_GT(mean, 0) << "the cache cannot have been BF16";
  EXPECT_LT(mean, model->config().moe.n_routed_experts > 0 ? 0.08 : 0.02);
  const auto chunked = feed_in_chunks(*model, golden.tokens, {31, 1}, DType::BF16);
  EXPECT_LE(worst_error(chunked, logits, vocab_size), 0.02);
}

const GoldenFile kFiles[] = {
    {"llama-gqa", ""},
    {"llama-gqa", "model.gguf"},
    {"llama-mqa-llama3", ""},
    {"llama-mqa-llama3", "model.gguf"},
    {"llama-bias-linear", ""},
    {"qwen2", ""},
    {"qwen2", "model.gguf"},
    {"qwen2-yarn", ""},
    {"qwen2-yarn", "model.gguf"},
    {"qwen3", ""},
    {"qwen3", "model.gguf"},
    {"deepseek-moe", ""},
    {"deepseek-moe", "model.gguf"},
    {"deepseek-moe-freq", ""},
    {"deepseek2-lite", ""},
    {"deepseek2-lite", "kv_b.gguf"},
    {"deepseek2-lite", "split.gguf"},
    {"deepseek2", ""},
    {"deepseek3", ""},
    {"deepseek3", "kv_b.gguf"},
    {"deepseek3", "split.gguf"},
    {"deepseek3", "both.gguf"},
    {"deepseek3-plain", ""},
    {"deepseek3-plain", "split.gguf"},
};
INSTANTIATE_TEST_SUITE_P(Models, Oracle, testing::ValuesIn(kFiles),
                         [](const auto& golden) { return golden.param.test_name(); });

}  // namespace
}  // namespace fathom
