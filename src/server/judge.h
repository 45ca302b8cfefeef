// A rule that a second model decides: it is told of a text and asked one question, and the
// probabilities of its two answers are compared.
//
// Works with any chat model that is asked in words, and with models that were made to judge (Llama
// Guard, ShieldGemma), whose templates ask by themselves. A judge is a model: who knows how to talk
// to it may talk it round. It is asked for its answer at once, without a thought.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "server/filter.h"
#include "server/served_model.h"

namespace fathom::server {

/// Any number of threads may use it.
class Judge {
 public:
  /// Throws Error(InvalidArgument) for a model that cannot be talked to, ApiError for words that it
  /// cannot answer with.
  Judge(JudgeRule rule, std::shared_ptr<const ServedModel> model);

  const JudgeRule& rule() const { return rule_; }

  /// Asks about a text, `asked` being what it replies to ("" for what is asked itself). verdict()
  /// reads the answer from the events; the first that it can be read from is enough. `scope`: as
  /// Request::cache_scope. Throws Error(InvalidArgument) if the judge's context has no room for it.
  Ticket ask(std::string_view asked, std::string_view text, std::uint64_t scope,
             EventSink sink) const;

  /// What it keeps of texts that it was asked about, as Engine::forget().
  std::size_t forget(std::optional<std::uint64_t> scope) const {
    return model_->engine->forget(scope);
  }

  /// The probability that the text is to be stopped, if this event tells.
  std::optional<double> verdict(const Event& event) const;

 private:
  const JudgeRule rule_;
  const std::shared_ptr<const ServedModel> model_;
  std::string grammar_;  // GBNF: one of the two words
};

}  // namespace fathom::server
