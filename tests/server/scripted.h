// A model that says what a test wants, and what came of it in a stream.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/test_server.h"

namespace fathom::test {

/// Writes `text` after each prompt, a character a token, then ends. Under a grammar, what it wants
/// and may not write is passed over.
inline FakeModel::Script says(const std::string& text) {
  struct State {
    std::size_t written = 0, next_position = 0;
  };
  const auto state = std::make_shared<State>();
  return [state, wanted = ids(text)](TokenId, std::size_t position) {
    if (position != state->next_position) state->written = 0;  // another prompt
    state->next_position = position + 1;
    return state->written < wanted.size() ? wanted[state->written++] : kEnd;
  };
}

/// A chat's stream put together: what the whole answer's choice would hold.
struct Streamed {
  std::string content, reasoning, arguments, reason;
  Json filtered;
  std::vector<std::string> deltas;  // of the content, without empty ones
};
inline Streamed joined(const Reply& reply) {
  Streamed all;
  for (const std::string& event : reply.events()) {
    if (event == "[DONE]") continue;
    const Json choice = Json::parse(event).at("choices")[0];
    const Json& delta = choice.at("delta");
    const std::string content = delta.contains("content") && delta.at("content").is_string()
                                    ? delta.at("content").get<std::string>()
                                    : "";
    if (!content.empty()) all.deltas.push_back(content);
    all.content += content;
    all.reasoning += delta.value("reasoning_content", "");
    if (delta.contains("tool_calls")) {
      all.arguments += delta.at("tool_calls")[0].at("function").value("arguments", "");
    }
    if (choice.at("finish_reason").is_string()) all.reason = choice.at("finish_reason");
    if (choice.contains("filtered")) all.filtered = choice.at("filtered");
  }
  return all;
}

}  // namespace fathom::test
