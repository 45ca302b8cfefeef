// Pages, sharing and failure, on the smallest golden models.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>

#include "base/error.h"
#include "model/golden_models.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT

template <typename Body>
void expect_error(ErrorCode code, const Body& body) {
  try {
    body();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
  }
}

/// One model with grouped keys and values, one with the latent cache.
class Cache : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    golden_ = read_golden(GetParam());
    model_ = load_golden({GetParam(), ""});
    vocab_size_ = static_cast<std::size_t>(model_->config().vocab_size);
  }
  KvCache cache_of(std::size_t tokens) { return model_->make_cache({DType::F32, tokens}); }
  std::vector<float> feed_range(KvCache& cache, SequenceId sequence, std::size_t begin,
                                std::size_t end) {
    return feed(*model_, cache, sequence, golden_.tokens, begin, end);
  }
  /// The oracle's logits of positions [begin, end).
  std::span<const float> expected(std::size_t begin, std::size_t end) const {
    return std::span(golden_.logits).subspan(begin * vocab_size_, (end - begin) * vocab_size_);
  }
  void expect_oracle(const std::vector<float>& logits, std::size_t begin, std::size_t end) {
    EXPECT_LE(worst_error(logits, expected(begin, end), vocab_size_), kOracleTolerance)
        << "positions " << begin << " to " << end;
  }

  Golden golden_;
  std::unique_ptr<Model> model_;
  std::size_t vocab_size_ = 0;
};

TEST_P(Cache, TakesMemoryAsPagesAreUsed) {
  KvCache cache = cache_of(150);
  const ModelConfig& c = model_->config();
  const auto page_bytes = static_cast<std::size_t>(c.num_hidden_layers * 64 * c.kv_width() * 4);
  EXPECT_EQ(cache.capacity_tokens(), 192U);
  EXPECT_EQ(cache.bytes_used(), 0U);
  const SequenceId sequence = cache.create();
  EXPECT_EQ(cache.bytes_used(), 0U);
  feed_range(cache, sequence, 0, 64);
  EXPECT_EQ(cache.bytes_used(), page_bytes);
  feed_range(cache, sequence, 64, 65);
  EXPECT_EQ(cache.bytes_used(), 2 * page_bytes);
  EXPECT_EQ(cache.free_tokens(), 64U);
  cache.remove(sequence);
  EXPECT_EQ(cache.bytes_used(), 0U);
  EXPECT_EQ(cache.free_tokens(), 192U);
}

TEST_P(Cache, TruncatedSequenceGoesOnAsIfItHadNeverBeenLonger) {
  KvCache cache = cache_of(192);
  const SequenceId sequence = cache.create();
  feed_range(cache, sequence, 0, 150);
  for (std::size_t keep : {130U, 128U, 127U, 64U, 63U, 1U, 0U}) {
    cache.truncate(sequence, keep);
    EXPECT_EQ(cache.length(sequence), keep);
    EXPECT_EQ(cache.free_tokens(), 192 - (keep + 63) / 64 * 64);
    // Other tokens first, so that what was cut off is overwritten, then cut those off again.
    std::vector<TokenId> other(golden_.tokens.rbegin(), golden_.tokens.rend());
    feed(*model_, cache, sequence, other, keep, std::min<std::size_t>(keep + 9, 150));
    cache.truncate(sequence, keep);
    expect_oracle(feed_range(cache, sequence, keep, 150), keep, 150);
  }
}

TEST_P(Cache, ForksShareThePastAndWriteApart) {
  KvCache cache = cache_of(64 * 12);
  const SequenceId trunk = cache.create();
  feed_range(cache, trunk, 0, 100);
  std::vector<TokenId> other(golden_.tokens.rbegin(), golden_.tokens.rend());
  for (std::size_t at : {0U, 30U, 64U, 90U, 100U}) {
    const std::size_t before = cache.bytes_used();
    const SequenceId fork = cache.fork(trunk, at);
    EXPECT_EQ(cache.bytes_used(), before) << "a fork costs nothing until it grows";
    EXPECT_EQ(cache.length(fork), at);
    const SequenceId noise = cache.fork(trunk, at);
    feed(*model_, cache, noise, other, at, at + 20);  // writes where the fork would
    expect_oracle(feed_range(cache, fork, at, 120), at, 120);
    cache.remove(noise);
    cache.remove(fork);
  }
  expect_oracle(feed_range(cache, trunk, 100, 150), 100, 150);
}

TEST_P(Cache, AForkOutlivesItsSource) {
  KvCache cache = cache_of(256);
  const SequenceId source = cache.create();
  feed_range(cache, source, 0, 70);
  const SequenceId fork = cache.fork(source, 70);
  cache.remove(source);
  expect_oracle(feed_range(cache, fork, 70, 150), 70, 150);
  cache.remove(fork);
  EXPECT_EQ(cache.bytes_used(), 0U);
}

TEST_P(Cache, SharedPagesAreNeverWrittenByATruncatedOwner) {
  KvCache cache = cache_of(512);
  const SequenceId source = cache.create();
  feed_range(cache, source, 0, 128);
  const SequenceId fork = cache.fork(source, 128);
  cache.truncate(source, 40);  // into a page that the fork still reads
  std::vector<TokenId> other(golden_.tokens.rbegin(), golden_.tokens.rend());
  feed(*model_, cache, source, other, 40, 80);
  expect_oracle(feed_range(cache, fork, 128, 150), 128, 150);
}

TEST_P(Cache, PagesKeptElsewhereAreTheSamePages) {
  std::vector<std::vector<std::byte>> kept;
  std::vector<float> rest;
  {
    KvCache cache = cache_of(192);
    const SequenceId sequence = cache.create();
    feed_range(cache, sequence, 0, 130);
    for (std::size_t page = 0; page < 2; ++page) {
      kept.emplace_back(cache.page_bytes());
      cache.read_page(sequence, page, kept.back());
    }
    std::vector<std::byte> none(cache.page_bytes());
    expect_error(ErrorCode::InvalidArgument, [&] { cache.read_page(sequence, 2, none); });
    cache.truncate(sequence, 128);
    rest = feed_range(cache, sequence, 128, 150);
  }
  KvCache other = cache_of(192);
  const SequenceId sequence = other.create();
  for (const auto& page : kept) other.append_page(sequence, page);
  EXPECT_EQ(other.length(sequence), 128U);
  EXPECT_EQ(feed_range(other, sequence, 128, 150), rest) << "bit for bit";
  expect_error(ErrorCode::InvalidArgument, [&] { other.append_page(sequence, kept[0]); });
  other.truncate(sequence, 128);
  other.append_page(sequence, kept[0]);
  expect_error(ErrorCode::ResourceLimit, [&] { other.append_page(sequence, kept[1]); });
  EXPECT_EQ(other.length(sequence), 192U);
}

TEST_P(Cache, AFailedForwardLeavesTheCacheAsItWas) {
  KvCache cache = cache_of(128);
  const SequenceId first = cache.create();
  const SequenceId second = cache.create();
  feed_range(cache, first, 0, 60);
  const std::size_t used = cache.bytes_used();
  // Full: 60 + 60 tokens of `first` would need a second page, and `second` a third.
  Batch batch;
  for (int t = 60; t < 120; ++t) batch.add(golden_.tokens[0], first, Position{t}, true);
  batch.add(golden_.tokens[0], second, Position{0}, true);
  expect_error(ErrorCode::ResourceLimit, [&] { model_->forward(batch, cache); });
  EXPECT_EQ(cache.bytes_used(), used);
  EXPECT_EQ(cache.length(first), 60U);
  EXPECT_EQ(cache.length(second), 0U);
  expect_oracle(feed_range(cache, first, 60, 128), 60, 128);
}

TEST_P(Cache, AnObserverThatThrowsLeavesTheCacheAsItWas) {
  struct Refuses : Observer {
    void hidden_states(std::int64_t layer, std::span<const float>) override {
      if (layer == 1) throw std::runtime_error("enough");
    }
  } observer;
  KvCache cache = cache_of(192);
  const SequenceId sequence = cache.create();
  feed_range(cache, sequence, 0, 60);
  const std::size_t used = cache.bytes_used();
  EXPECT_THROW(feed(*model_, cache, sequence, golden_.tokens, 60, 140, &observer),
               std::runtime_error);
  EXPECT_EQ(cache.length(sequence), 60U);
  EXPECT_EQ(cache.bytes_used(), used);
  expect_oracle(feed_range(cache, sequence, 60, 150), 60, 150);
}

TEST_P(Cache, RefusesBatchesThatDoNotContinueIt) {
  KvCache cache = cache_of(128);
  const SequenceId sequence = cache.create();
  feed_range(cache, sequence, 0, 10);
  const auto run = [&](TokenId token, SequenceId id, int position) {
    Batch batch;
    batch.add(token, id, Position{position}, true);
    model_->forward(batch, cache);
  };
  const TokenId good = golden_.tokens[10];
  const auto invalid = ErrorCode::InvalidArgument;
  expect_error(invalid, [&] { run(good, sequence, 9); });
  expect_error(invalid, [&] { run(good, sequence, 11); });
  expect_error(invalid, [&] { run(good, sequence, -1); });
  expect_error(invalid, [&] { run(TokenId{-1}, sequence, 10); });
  expect_error(invalid, [&] { run(TokenId{static_cast<int>(vocab_size_)}, sequence, 10); });
  expect_error(invalid, [&] { run(good, SequenceId{77}, 0); });
  Batch twice;
  const SequenceId other = cache.create();
  twice.add(good, sequence, Position{10}, true);
  twice.add(good, other, Position{0}, true);
  twice.add(good, sequence, Position{11}, true);
  expect_error(invalid, [&] { model_->forward(twice, cache); });
  Batch empty;
  expect_error(invalid, [&] { model_->forward(empty, cache); });
  Batch large;
  for (std::size_t t = 0; t <= model_->max_batch(); ++t) {
    large.add(good, other, Position{static_cast<int>(t)}, false);
  }
  expect_error(invalid, [&] { model_->forward(large, cache); });
  expect_oracle(feed_range(cache, sequence, 10, 60), 10, 60);
}

TEST_P(Cache, RefusesSequencesThatItDoesNotHave) {
  KvCache cache = cache_of(128);
  const auto invalid = ErrorCode::InvalidArgument;
  const SequenceId sequence = cache.create();
  feed_range(cache, sequence, 0, 5);
  expect_error(invalid, [&] { cache.fork(sequence, 6); });
  expect_error(invalid, [&] { cache.truncate(sequence, 6); });
  cache.remove(sequence);
  expect_error(invalid, [&] { cache.remove(sequence); });
  expect_error(invalid, [&] { cache.length(sequence); });
  EXPECT_NE(cache.create(), sequence) << "ids are never used again";
  expect_error(ErrorCode::Unsupported, [&] { model_->make_cache({DType::Q4_0, 64}); });
}

TEST_P(Cache, BelongsToItsModel) {
  KvCache cache = cache_of(128);
  const auto other = load_golden({GetParam(), ""});
  Batch batch;
  batch.add(golden_.tokens[0], cache.create(), Position{0}, true);
  expect_error(ErrorCode::InvalidArgument, [&] { other->forward(batch, cache); });
}

TEST_P(Cache, MayOutliveItsModel) {
  KvCache cache = cache_of(128);
  feed_range(cache, cache.create(), 0, 70);
  model_.reset();
  EXPECT_GT(cache.bytes_used(), 0U);
}

TEST_P(Cache, ARandomHistoryNeverMixesSequencesUp) {
  // Sequences grow, fork, shrink and go, all on the golden text, so that the oracle knows every
  // position.
  std::mt19937 random(11);
  KvCache cache = cache_of(64 * 40);
  std::vector<SequenceId> alive{cache.create()};
  for (int step = 0; step < 150; ++step) {
    const std::size_t pick = random() % alive.size();
    const SequenceId sequence = alive[pick];
    const std::size_t length = cache.length(sequence);
    switch (random() % 5) {
      case 0:
        if (alive.size() < 8) alive.push_back(cache.fork(sequence, random() % (length + 1)));
        break;
      case 1:
        cache.truncate(sequence, random() % (length + 1));
        break;
      case 2:
        if (alive.size() > 1) {
          cache.remove(sequence);
          alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(pick));
        }
        break;
      default: {
        const std::size_t end = std::min<std::size_t>(150, length + 1 + random() % 40);
        if (end > length) expect_oracle(feed_range(cache, sequence, length, end), length, end);
      }
    }
  }
  for (SequenceId sequence : alive) cache.remove(sequence);
  EXPECT_EQ(cache.bytes_used(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Models, Cache, testing::Values("llama-gqa", "deepseek3"),
                         [](const auto& name) {
                           return std::string(name.param) == "llama-gqa" ? "grouped" : "latent";
                         });

}  // namespace
}  // namespace fathom
