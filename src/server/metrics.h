// What the server counts, as Prometheus reads it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "server/completion.h"

namespace fathom::server {

/// A cumulative histogram. Thread-safe under its owner's lock.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size()) {}
  /// Of what was counted elsewhere. `in`: how many values each bound has that the one before it has
  /// not; `count` and `sum` are of all values.
  Histogram(std::vector<double> bounds, std::span<const std::size_t> in, std::uint64_t count,
            double sum);
  void add(double value);
  /// `labels`: as they stand between braces; may be empty.
  void print(std::string& out, const std::string& name, const std::string& labels = {}) const;

 private:
  std::vector<double> bounds_;  // ascending, without the infinite one
  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

/// Thread-safe.
class Metrics {
 public:
  void count_response(unsigned status);
  void count_answer(const AnswerRecord& record);
  /// What a rule of the filter ended, or kept from beginning. `where`: "input" or "output".
  void count_filtered(const std::string& rule, const char* where);
  /// What a judge of the filter said, and how long it took.
  void count_judgement(const std::string& judge, double probability, double seconds);
  std::atomic<std::int64_t> connections{0};
  std::atomic<std::int64_t> body_bytes{0};  // of requests, arrived and not yet read
  std::atomic<std::uint64_t> dropped_readers{0};

  /// The text format, version 0.0.4.
  std::string print(const SchedulerStats& stats, std::size_t models) const;

 private:
  mutable std::mutex mutex_;
  std::uint64_t by_class_[6] = {};  // responses by status / 100
  std::uint64_t answers_[6] = {};   // by FinishReason
  std::map<std::pair<std::string, std::string>, std::uint64_t> filtered_;  // by rule and where
  struct Judgements {
    Histogram probability{{0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99}};
    Histogram seconds{{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}};
  };
  std::map<std::string, Judgements> judgements_;  // by judge
  std::uint64_t prompt_tokens_ = 0, cached_tokens_ = 0, completion_tokens_ = 0,
                reasoning_tokens_ = 0;
  Histogram first_token_{{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}};
  Histogram between_tokens_{{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}};
};

}  // namespace fathom::server
