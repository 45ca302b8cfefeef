// The texts of a request under the rules for input, before the engine gets it.
#pragma once

#include "server/completion_request.h"
#include "server/judged.h"
#include "server/metrics.h"
#include "server/responses.h"

namespace fathom::server {

/// Throws ApiError(400, code content_filter) naming the rule and the field, and counts it. What the
/// model would read is searched, in the one form that all APIs' requests come down to: messages
/// with their names, calls and results, descriptions of tools; or prompts and suffix. `body`, the
/// client's own, only tells where it stands: "messages[2].content". `model` must have a filter.
void screen_input(const ServedModel& model, const ChatRequest& request, const Json& body,
                  Metrics& metrics);
void screen_input(const ServedModel& model, const ResponsesRequest& request, const Json& body,
                  Metrics& metrics);
void screen_input(const ServedModel& model, const TextRequest& request, const Json& body,
                  Metrics& metrics);

/// The same texts as judges get them, each message after its role; and the user's last message (or
/// the prompt), which an answer replies to.
JudgedRequest judged_request(const ServedModel& model, const ChatRequest& request);
JudgedRequest judged_request(const ServedModel& model, const ResponsesRequest& request);
JudgedRequest judged_request(const ServedModel& model, const TextRequest& request);

}  // namespace fathom::server
