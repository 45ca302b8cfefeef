// Chat and text completions: the engine's events as DeepSeek's and OpenAI's bodies and chunks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/completion_request.h"
#include "server/generation.h"
#include "server/served_model.h"

namespace fathom::server {

/// What is counted when an answer ends.
struct AnswerRecord {
  Usage usage;
  FinishReason reason = FinishReason::Stop;
  std::string filtered_by;  // the rule's name; empty if none ended it
};

/// The usage of all answers of a request. Prompts count once, however many answers they get.
struct UsageSum {
  std::size_t prompt = 0, cached = 0, completion = 0, reasoning = 0;
};

/// Who is told of a request's end, on the thread that takes its events.
struct AnswerObserver {
  std::function<void(const AnswerRecord&)> ended = {};
  /// The whole request has ended, or its client has left: then of what was known by then, all of
  /// the prompt counting as read.
  std::function<void(const UsageSum&)> settled = {};
};

/// Throw ApiError if the template or the tokenizer refuses the request. `model` outlives the
/// result. `cache_scope`: whose prompts it may share pages with.
std::unique_ptr<Generation> chat_completion(const ServedModel& model, ChatRequest request,
                                            std::uint64_t cache_scope, AnswerObserver observer);
std::unique_ptr<Generation> text_completion(const ServedModel& model, TextRequest request,
                                            std::uint64_t cache_scope, AnswerObserver observer);

/// The prompt's text and tokens for a chat request, as chat_completion() would make them.
ChatPrompt chat_prompt(const ServedModel& model, const ChatRequest& request);

}  // namespace fathom::server
