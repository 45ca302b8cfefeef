// A scheduler over a scripted model, stepped by hand, and readers of what it answers.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/fake_model.h"
#include "engine/scheduler.h"

namespace fathom::test {

/// What a request has answered so far.
struct Reader {
  std::string answer;
  std::string reasoning;
  std::vector<TokenId> tokens;
  std::size_t progress = 0;
  std::optional<Finished> end;

  EventSink sink() {
    return [this](Event event) {
      EXPECT_FALSE(end) << "an event after the last one";
      if (const auto* delta = std::get_if<Delta>(&event)) {
        (delta->channel == Channel::Answer ? answer : reasoning) += delta->text;
        if (delta->token) tokens.push_back(delta->token->id);
      } else if (const auto* read = std::get_if<PromptProgress>(&event)) {
        progress = read->done;
      } else {
        end = std::get<Finished>(event);
      }
    };
  }
};

inline Request greedy(const std::string& prompt, std::size_t max_tokens = 0) {
  Request request;
  request.prompt = ids(prompt);
  request.sampling.temperature = 0;
  request.stop_tokens = {kEnd};
  request.max_tokens = max_tokens;
  return request;
}

class SchedulerFixture : public testing::Test {
 protected:
  void start(SchedulerOptions options = {}, FakeModel::Script script = alphabet,
             std::size_t max_batch = 32) {
    model = std::make_unique<FakeModel>(std::move(script), max_batch);
    if (options.cache.capacity_tokens == 0 && options.context_tokens == 0) {
      options.cache.capacity_tokens = 1024;
    }
    scheduler = std::make_unique<Scheduler>(*model, tokenizer, options);
  }
  std::shared_ptr<Job> add(Request request, Reader& reader) {
    auto job = std::make_shared<Job>(std::move(request), reader.sink(), tokenizer,
                                     scheduler->vocab_size());
    scheduler->add(job);
    return job;
  }
  void run_to_end() {
    for (int steps = 0; scheduler->has_work(); ++steps) {
      ASSERT_LT(steps, 10000) << "the scheduler does not come to an end";
      scheduler->step();
    }
  }
  std::size_t computed() const {
    std::size_t tokens = 0;
    for (const Batch& batch : model->batches) tokens += batch.size();
    return tokens;
  }

  Tokenizer tokenizer = small_tokenizer();
  std::unique_ptr<FakeModel> model;
  std::unique_ptr<Scheduler> scheduler;
};

}  // namespace fathom::test
