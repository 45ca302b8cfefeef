// The tools of a request: which functions a model may call, and which it must.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/tool_grammar.h"
#include "server/fields.h"
#include "server/grammar_cache.h"

namespace fathom::server {

struct ToolUse {
  Json list = Json::array();            // as the template gets them
  std::vector<ToolFunction> functions;  // that may be called: of a named choice, one
  bool required = false;                // the answer is a call
  bool several = true;                  // parallel_tool_calls
};

/// `tools`, `tool_choice` and `parallel_tool_calls` of a chat request. Nothing if there are none,
/// or tool_choice is none: the model then knows of no tool. Throws ApiError.
std::optional<ToolUse> read_tools(const Fields& body);

/// An assistant's earlier `tool_calls`, checked: [{"id", "type", "function": {"name",
/// "arguments"}}].
Json read_tool_calls(const Fields& message);

/// What holds an answer to the tools; one that may do without them, to `content`.
OutputForm tools_form(const ToolUse& use, const ToolFormat& format,
                      const std::optional<OutputForm>& content);

/// A new call's id: "call_" and 24 hexadecimal digits, or what the format wants.
std::string new_call_id(const ToolFormat& format);

}  // namespace fathom::server
