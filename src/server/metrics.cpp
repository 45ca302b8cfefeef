#include "server/metrics.h"

#include <fmt/format.h>

#include <iterator>
#include <numeric>

#include "base/memory.h"

namespace fathom::server {
namespace {

template <typename Value>
void line(std::string& out, const char* type, const char* name, const char* help, Value value) {
  fmt::format_to(std::back_inserter(out), "# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help,
                 type, value);
}

Histogram steps_by_requests(const SchedulerCounts& counts) {
  return {{counts.kRequests.begin(), counts.kRequests.end()},
          counts.steps_of,
          counts.steps,
          static_cast<double>(counts.step_requests)};
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds, std::span<const std::size_t> in,
                     std::uint64_t count, double sum)
    : Histogram(std::move(bounds)) {
  std::partial_sum(in.begin(), in.end(), counts_.begin());
  count_ = count;
  sum_ = sum;
}

void Histogram::add(double value) {
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    if (value <= bounds_[i]) ++counts_[i];
  }
  ++count_;
  sum_ += value;
}

void Histogram::print(std::string& out, const std::string& name, const std::string& labels) const {
  const auto to = std::back_inserter(out);
  const std::string before = labels.empty() ? "" : labels + ",";
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    fmt::format_to(to, "{}_bucket{{{}le=\"{}\"}} {}\n", name, before, bounds_[i], counts_[i]);
  }
  const std::string all = labels.empty() ? "" : "{" + labels + "}";
  fmt::format_to(to, "{0}_bucket{{{1}le=\"+Inf\"}} {2}\n{0}_sum{3} {4}\n{0}_count{3} {2}\n", name,
                 before, count_, all, sum_);
}

void Metrics::count_response(unsigned status) {
  const std::scoped_lock lock(mutex_);
  ++by_class_[status / 100 < 6 ? status / 100 : 5];
}

void Metrics::count_filtered(const std::string& rule, const char* where) {
  const std::scoped_lock lock(mutex_);
  ++filtered_[{rule, where}];
}

void Metrics::count_judgement(const std::string& judge, double probability, double seconds) {
  const std::scoped_lock lock(mutex_);
  Judgements& of = judgements_[judge];
  of.probability.add(probability);
  of.seconds.add(seconds);
}

void Metrics::count_answer(const AnswerRecord& record) {
  if (!record.filtered_by.empty()) count_filtered(record.filtered_by, "output");
  const Usage& usage = record.usage;
  const std::scoped_lock lock(mutex_);
  ++answers_[static_cast<std::size_t>(record.reason)];
  prompt_tokens_ += usage.prompt_tokens;
  cached_tokens_ += usage.cached_tokens;
  completion_tokens_ += usage.completion_tokens;
  reasoning_tokens_ += usage.reasoning_tokens;
  if (usage.completion_tokens > 0) first_token_.add(usage.queue_seconds + usage.prompt_seconds);
  if (usage.completion_tokens > 1) {
    between_tokens_.add(usage.generation_seconds /
                        static_cast<double>(usage.completion_tokens - 1));
  }
}

std::string Metrics::print(const SchedulerStats& stats, std::size_t models) const {
  std::string out;
  const std::scoped_lock lock(mutex_);
  const auto to = std::back_inserter(out);
  out += "# HELP fathom_responses_total HTTP responses\n# TYPE fathom_responses_total counter\n";
  for (int i = 2; i < 6; ++i) {
    fmt::format_to(to, "fathom_responses_total{{class=\"{}xx\"}} {}\n", i, by_class_[i]);
  }
  out += "# HELP fathom_answers_total Answers that ended\n# TYPE fathom_answers_total counter\n";
  for (std::size_t i = 0; i < std::size(answers_); ++i) {
    fmt::format_to(to, "fathom_answers_total{{reason=\"{}\"}} {}\n",
                   to_string(static_cast<FinishReason>(i)), answers_[i]);
  }
  if (!filtered_.empty()) {
    out +=
        "# HELP fathom_filtered_total Requests and answers that a rule ended\n"
        "# TYPE fathom_filtered_total counter\n";
  }
  // A rule's name needs no escape (filter.h).
  for (const auto& [key, count] : filtered_) {
    fmt::format_to(to, "fathom_filtered_total{{rule=\"{}\",where=\"{}\"}} {}\n", key.first,
                   key.second, count);
  }
  line(out, "counter", "fathom_prompt_tokens_total", "Tokens of prompts", prompt_tokens_);
  line(out, "counter", "fathom_cached_tokens_total", "Tokens of prompts found in the cache",
       cached_tokens_);
  line(out, "counter", "fathom_completion_tokens_total", "Tokens written", completion_tokens_);
  line(out, "counter", "fathom_reasoning_tokens_total", "Tokens of these that were thinking",
       reasoning_tokens_);
  line(out, "counter", "fathom_dropped_readers_total", "Clients that stopped reading",
       dropped_readers.load());
  line(out, "counter", "fathom_preemptions_total", "Answers that gave up their place for a while",
       stats.counts.preemptions);
  line(out, "counter", "fathom_guessed_tokens_total",
       "Next tokens guessed, and checked in one pass", stats.counts.guessed_tokens);
  line(out, "counter", "fathom_right_guesses_total", "Tokens of these that were right",
       stats.counts.right_guesses);
  line(out, "gauge", "fathom_connections", "Open connections", connections.load());
  line(out, "gauge", "fathom_models_loaded", "Models in memory", models);
  line(out, "gauge", "fathom_body_bytes", "Bytes of requests' bodies that are being received",
       body_bytes.load());
  line(out, "gauge", "fathom_requests_waiting", "Requests that wait for a place", stats.waiting);
  line(out, "gauge", "fathom_requests_active", "Requests in the batch", stats.active);
  line(out, "gauge", "fathom_cache_bytes", "Memory of the KV cache", stats.cache_bytes);
  line(out, "gauge", "fathom_cache_free_tokens", "Room in the KV cache, in tokens",
       stats.cache_free_tokens);
  line(out, "counter", "fathom_step_tokens_total", "Tokens that went through a model",
       stats.counts.step_tokens);
  out +=
      "# HELP fathom_step_requests Requests in one step of a model: the batch\n"
      "# TYPE fathom_step_requests histogram\n";
  steps_by_requests(stats.counts).print(out, "fathom_step_requests");
  line(out, "gauge", "process_resident_memory_bytes", "RAM of this process, mapped files included",
       resident_memory().now);
  const ContextStoreStats& disk = stats.store;
  line(out, "gauge", "fathom_disk_cache_bytes", "Pages of the context cache on disk", disk.bytes);
  line(out, "counter", "fathom_disk_cache_pages_found_total", "Pages of 64 tokens read from disk",
       disk.found);
  line(out, "counter", "fathom_disk_cache_pages_written_total", "Pages written to disk",
       disk.written);
  line(out, "counter", "fathom_disk_cache_pages_left_out_total",
       "Pages that were not written: the disk was slow, full, or failed", disk.left_out);
  line(out, "counter", "fathom_disk_cache_pages_damaged_total",
       "Pages found on disk that were not as they must be", disk.damaged);
  out +=
      "# HELP fathom_first_token_seconds From the request to its first token\n"
      "# TYPE fathom_first_token_seconds histogram\n";
  first_token_.print(out, "fathom_first_token_seconds");
  out +=
      "# HELP fathom_between_tokens_seconds An answer's mean time between tokens\n"
      "# TYPE fathom_between_tokens_seconds histogram\n";
  between_tokens_.print(out, "fathom_between_tokens_seconds");
  const auto by_judge = [&](const char* name, const char* help, Histogram Judgements::* which) {
    if (judgements_.empty()) return;
    fmt::format_to(to, "# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
    for (const auto& [judge, of] : judgements_) {
      (of.*which).print(out, name, fmt::format("judge=\"{}\"", judge));
    }
  };
  by_judge("fathom_judge_probability", "What judges of the filter held a text to be",
           &Judgements::probability);
  by_judge("fathom_judge_seconds", "From a question to its judge's answer", &Judgements::seconds);
  return out;
}

}  // namespace fathom::server
