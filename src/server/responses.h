// OpenAI's Responses (platform.openai.com/docs/api-reference/responses), over the same engine. The
// server keeps no responses: a conversation's turns come with each request.
#pragma once

#include <cstdint>
#include <memory>

#include "server/completion.h"

namespace fathom::server {

struct ResponsesRequest {
  ChatRequest chat;
  Json echoed;  // the request's fields that a response repeats
};

/// Throws ApiError naming the field.
ResponsesRequest read_responses_request(const Json& body, const ServedModel& model);

std::unique_ptr<Generation> responses_completion(const ServedModel& model, ResponsesRequest request,
                                                 std::uint64_t cache_scope,
                                                 AnswerObserver observer);

}  // namespace fathom::server
