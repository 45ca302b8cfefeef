#include "train/torch/answer_batch.h"

#include <algorithm>

#include "base/error.h"

namespace fathom::train {
namespace {

/// Longer sequences have a row of their own: attention by document is for short ones.
constexpr std::size_t kLongestNeighbour = 2048;

bool short_enough(std::span<const Sample* const> samples) {
  return std::ranges::all_of(samples,
                             [](const Sample* s) { return s->tokens.size() <= kLongestNeighbour; });
}

bool same_prompt(const Sample& a, const Sample& b) {
  return std::ranges::equal(std::span(a.tokens).first(a.prompt),
                            std::span(b.tokens).first(b.prompt));
}

/// Fills a batch, token by token of its inputs.
class Filler {
 public:
  Filler(AnswerBatch& batch, std::int64_t per_token) : batch_(batch), per_token_(per_token) {}

  /// Tokens [from, to) of a sample to a place in all rows, as a document of their own, which goes
  /// on from the one at `prefix` if that is not -1.
  void put(const Sample& sample, std::size_t from, std::size_t to, std::int64_t place,
           std::int64_t prefix) {
    const auto count = static_cast<std::int64_t>(to - from);
    const auto first = static_cast<std::ptrdiff_t>(from);
    TokenRows& rows = batch_.rows;
    std::copy_n(sample.tokens.begin() + first, count, data(rows.tokens) + place);
    if (rows.documents.defined()) {
      for (std::int64_t t = 0; t < count; ++t) data(rows.positions)[place + t] = first + t;
      std::fill_n(data(rows.documents) + place, count, documents_++);
      std::fill_n(data(rows.prefixes) + place, count, prefix);
    }
    const auto layers = static_cast<std::int64_t>(batch_.replay.size());
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      for (std::int64_t t = 0; t < count; ++t) {
        std::copy_n(
            sample.routing.begin() + ((first + t) * layers + layer) * per_token_, per_token_,
            data(batch_.replay[static_cast<std::size_t>(layer)]) + (place + t) * per_token_);
      }
    }
  }
  /// The answer's tokens: the first is predicted at `before`, the others from `place` on.
  void ask(const Sample& sample, std::int64_t answer, std::int64_t before, std::int64_t place) {
    for (std::size_t t = sample.prompt; t < sample.tokens.size(); ++t, ++asked_) {
      const auto i = static_cast<std::int64_t>(t - sample.prompt);
      data(batch_.from)[asked_] = i == 0 ? before : place + i - 1;
      data(batch_.target)[asked_] = sample.tokens[t];
      data(batch_.cell)[asked_] = answer * batch_.longest + i;
    }
  }

 private:
  static std::int64_t* data(const Tensor& tensor) { return tensor.data_ptr<std::int64_t>(); }

  AnswerBatch& batch_;
  std::int64_t per_token_, documents_ = 0, asked_ = 0;
};

}  // namespace

std::vector<const Sample*> learning_order(std::span<const Sample> samples) {
  std::vector<const Sample*> order;
  for (const Sample& sample : samples) order.push_back(&sample);
  // Answers to one prompt come side by side.
  if (!short_enough(order)) {
    std::ranges::stable_sort(order, {}, [](const Sample* s) { return s->tokens.size(); });
  }
  return order;
}

namespace {

/// How many samples the next part has.
std::size_t fitting(std::span<const Sample* const> order, std::size_t tokens) {
  const bool together = short_enough(order);
  std::size_t count = 0, sum = 0;
  for (const Sample* sample : order) {
    const bool shares = together && count > 0 && same_prompt(*order[count - 1], *sample);
    sum += sample->answer() + (shares ? 0 : sample->prompt);
    // Rows of their own are as long as the longest, which is the last.
    if ((together ? sum : (count + 1) * sample->tokens.size()) > tokens) break;
    ++count;
  }
  return std::max<std::size_t>(count, 1);
}

}  // namespace

std::vector<std::span<const Sample* const>> in_batches(std::span<const Sample* const> order,
                                                       std::size_t tokens) {
  std::vector<std::span<const Sample* const>> batches;
  while (!order.empty()) {
    batches.push_back(order.first(fitting(order, tokens)));
    order = order.subspan(batches.back().size());
  }
  return batches;
}

Tensor AnswerBatch::spread(const Tensor& values) const {
  return at::zeros({answers * longest}, values.options())
      .index_copy(0, cell.to(values.device()), values)
      .view({answers, longest});
}

AnswerBatch answer_batch(std::span<const Sample* const> samples, std::int64_t pad,
                         std::int64_t routed, std::int64_t per_token) {
  AnswerBatch batch;
  batch.answers = static_cast<std::int64_t>(samples.size());
  // Token t is predicted at t - 1, so that the last one is no input.
  const bool together = short_enough(samples);
  std::size_t longest = 0, all = 0, asked = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Sample& sample = *samples[i];
    require(sample.prompt > 0 && sample.answer() > 0, ErrorCode::Internal,
            "a prompt or an answer is empty");
    require(sample.routing.empty() ||
                sample.routing.size() ==
                    (sample.tokens.size() - 1) * static_cast<std::size_t>(routed * per_token),
            ErrorCode::Internal, "the engine told {} experts for {} tokens in {} layers",
            sample.routing.size(), sample.tokens.size() - 1, routed);
    const bool shares = i > 0 && same_prompt(*samples[i - 1], sample);
    all += sample.answer() - 1 + (shares ? 0 : sample.prompt);
    asked += sample.answer();
    longest = std::max(longest, sample.tokens.size() - 1);
    batch.longest = std::max(batch.longest, static_cast<std::int64_t>(sample.answer()));
  }
  const auto length = static_cast<std::int64_t>(together ? all : longest);
  const std::int64_t rows = together ? 1 : batch.answers;
  batch.rows.tokens = at::full({rows, length}, pad, at::kLong);
  if (together) {
    for (Tensor* each : {&batch.rows.positions, &batch.rows.documents, &batch.rows.prefixes}) {
      *each = at::empty({rows, length}, at::kLong);
    }
  }
  for (Tensor* each : {&batch.from, &batch.target, &batch.cell}) {
    *each = at::empty({static_cast<std::int64_t>(asked)}, at::kLong);
  }
  const bool replays = routed > 0 && !samples.front()->routing.empty();
  for (std::int64_t layer = 0; replays && layer < routed; ++layer) {
    // What fills up goes to the first experts: any will do.
    batch.replay.push_back(at::arange(per_token).repeat({rows * length, 1}));
  }
  Filler filler(batch, per_token);
  std::int64_t place = 0, root = 0;
  for (std::int64_t i = 0; i < batch.answers; ++i) {
    const Sample& sample = *samples[static_cast<std::size_t>(i)];
    const auto prompt = static_cast<std::int64_t>(sample.prompt);
    const std::size_t inputs = sample.tokens.size() - 1;
    if (!together) {
      filler.put(sample, 0, inputs, i * length, -1);
      filler.ask(sample, i, i * length + prompt - 1, i * length + prompt);
      continue;
    }
    if (i == 0 || !same_prompt(*samples[static_cast<std::size_t>(i) - 1], sample)) {
      root = place;
      filler.put(sample, 0, sample.prompt, place, -1);
      place += prompt;
    }
    filler.put(sample, sample.prompt, inputs, place, root);
    filler.ask(sample, i, root + prompt - 1, place);
    place += static_cast<std::int64_t>(inputs) - prompt;
  }
  return batch;
}

}  // namespace fathom::train
