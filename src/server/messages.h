// Anthropic's Messages API (docs.anthropic.com/en/api/messages), over the same engine.
#pragma once

#include <memory>

#include "server/completion.h"
#include "server/fields.h"

namespace fathom::server {

/// A chat request from a body of /v1/messages: system beside the messages, contents in blocks,
/// max_tokens demanded; an assistant's message at the end is gone on with. Throws ApiError.
ChatRequest read_messages_request(const Json& body, const ServedModel& model);

/// The answer as one message of thinking and text blocks, or as its stream of events. Throws as
/// chat_completion().
std::unique_ptr<Generation> messages_completion(const ServedModel& model, ChatRequest request,
                                                std::uint64_t cache_scope, AnswerObserver observer);

}  // namespace fathom::server
