// How a family of models writes calls of tools, and how one is told what tools there are.
//
// Each family learnt one form; a template shows it where it prints earlier calls. All of them are
// the same few pieces of text around names and JSON, so that one parser reads them all
// (tool_parser.h) and one grammar holds them to the tools' schemas (tool_grammar.h).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace fathom {

/// An answer with calls is:
///   TEXT begin open (call NAME arguments JSON end_call) next (call ...) ... end
struct ToolFormat {
  const char* name = "";
  std::string begin;  // a control token in most families: what comes before it is text
  std::string open;
  std::string call;
  std::string arguments;
  std::string end_call;
  std::string next;
  std::string end;
  bool only_at_start = false;         // `begin` counts only as the answer's first text
  bool one_call = false;              // the family knows no several calls in one answer
  bool template_lists_tools = false;  // else a system message must
  bool template_shows_calls =
      false;                       // prints tool_calls and results of earlier turns; else as text
  bool arguments_as_text = false;  // the template wants them as the JSON text, not as an object
  bool short_ids = false;          // nine letters or digits: Mistral's template insists
};

/// The family of a template's model. One that knows no tools is taught Hermes's form by a system
/// message.
ToolFormat tool_format(std::string_view template_source);

/// Messages and tools as the template needs them: tools become a part of the system message where
/// it does not list them, and earlier calls and results text where it does not show them. Tools are
/// [{"type": "function", "function": {"name", "description", "parameters"}}]; a message's
/// tool_calls have `arguments` as text.
nlohmann::ordered_json with_tools(const ToolFormat& format, const nlohmann::ordered_json& messages,
                                  const nlohmann::ordered_json& tools);

}  // namespace fathom
