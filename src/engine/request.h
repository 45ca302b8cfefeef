// What is asked of the engine, and what it answers with. The chat command, the server, a trainer's
// rollouts and the auditor differ only in how they fill a Request and what they do with its Events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "engine/reasoning.h"
#include "engine/sampler.h"
#include "grammar/token_mask.h"

namespace fathom {

struct ReasoningSetup {
  ReasoningMarkers markers;
  bool starts_inside = false;  // prompt_ends_in_reasoning()
};

/// What an answer may be: a grammar's text. Its thinking may be anything.
struct Constraint {
  std::shared_ptr<grammar::TokenMasks> masks;  // used by the engine's thread alone once submitted
  std::string begun;                           // text of the grammar that the prompt ends with
  /// If not empty: all is free until the answer has this text, after which the grammar begins.
  std::string trigger;
  bool trigger_at_start = false;  // nothing but white space may come before it
};

struct Request {
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;
  std::vector<std::string> stop_strings;  // end the answer; in the thinking they are only text
  std::vector<TokenId> stop_tokens;       // usually Tokenizer::end_of_generation()
  std::size_t max_tokens = 0;             // thinking included; 0: until the context is full
  bool stop_repetition = false;           // end an answer that goes round in circles
  std::optional<ReasoningSetup> reasoning;
  /// Tokens of thinking after which the engine closes the thought, and the answer begins. The few
  /// tokens that close it count as thinking too; their log-probabilities are given as 0.
  std::optional<std::size_t> max_thinking_tokens;
  /// The answer ends (Stop) where the grammar's text must end.
  std::optional<Constraint> constraint;
  /// Control tokens in the answer are text like others, not left out.
  bool show_control_tokens = false;
  /// The answer goes on with the prompt's text, so the space that SentencePiece puts before a first
  /// word belongs to it.
  bool continues_text = false;
  /// The end tells which experts each token went to (Finished::routing).
  bool record_routing = false;
  /// Requests share what the cache holds of equal prompts only within one scope (one user's key).
  std::uint64_t cache_scope = 0;
  /// Accounts with requests share the model's time equally, however many requests each has.
  std::uint64_t account = 0;
};

enum class FinishReason {
  Stop,        // a stop token or string
  Length,      // max_tokens, or the context is full
  Repetition,  // with Request::stop_repetition: see RepetitionGuard
  Cancelled,   // by cancel(), or the engine was shut down
  Failed,      // Finished::error says why
  Filtered     // never by the engine: a reader's own rules ended the answer
};

/// "stop", "length", "repetition", "cancelled", "error", "content_filter".
const char* to_string(FinishReason reason);

struct Usage {
  std::size_t prompt_tokens = 0;
  std::size_t cached_tokens = 0;      // of the prompt, found in the KV cache
  std::size_t completion_tokens = 0;  // the stop token included
  std::size_t reasoning_tokens = 0;   // of the completion
  double queue_seconds = 0;           // from submit() until work began
  double prompt_seconds = 0;          // from then until the first token
  double generation_seconds = 0;      // from the first token to the last

  /// Tokens a second; 0 when there is nothing to measure. The prompt's cached tokens do not count,
  /// and the first token of the answer counts as the prompt's work.
  double prompt_rate() const;
  double generation_rate() const;
};

/// A part of a long prompt has been read.
struct PromptProgress {
  std::size_t done = 0;  // tokens, cached ones included
  std::size_t total = 0;
};

/// What one token added. The text may be empty (an unfinished character, a held-back stop string)
/// and may come later than its token.
struct Delta {
  Channel channel = Channel::Answer;
  std::string text;                   // valid UTF-8
  std::optional<SampledToken> token;  // absent in a second Delta of one token, and at the end
};

/// The last event of every request.
struct Finished {
  FinishReason reason = FinishReason::Stop;
  std::string stop_string;     // the one that was found
  std::optional<Error> error;  // with FinishReason::Failed
  Usage usage;
  /// With Request::record_routing: the experts of all tokens but the last, which was never read.
  /// [tokens, routed layers, num_experts_per_tok]; empty if the model has no experts.
  std::vector<std::int32_t> routing = {};
};

using Event = std::variant<PromptProgress, Delta, Finished>;

/// Takes a request's events, on the engine's thread: it must not block or throw.
using EventSink = std::function<void(Event)>;

}  // namespace fathom
