#include "engine/tool_format.h"

#include <nlohmann/json.hpp>

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

ToolFormat deepseek(bool named_type) {
  ToolFormat f;
  f.begin = "<｜tool▁calls▁begin｜>";
  f.call = "<｜tool▁call▁begin｜>";
  f.end = "<｜tool▁calls▁end｜>";
  if (named_type) {
    // V3 and R1: the type, then the arguments as a block of Markdown.
    f.name = "deepseek-v3";
    f.call += "function<｜tool▁sep｜>";
    f.arguments = "\n```json\n";
    f.end_call = "\n```<｜tool▁call▁end｜>";
    f.next = "\n";
  } else {
    f.name = "deepseek-v3.1";
    f.arguments = "<｜tool▁sep｜>";
    f.end_call = "<｜tool▁call▁end｜>";
  }
  return f;
}

ToolFormat hermes() {
  ToolFormat f;
  f.name = "hermes";
  f.begin = "<tool_call>";
  f.call = "\n{\"name\": \"";
  f.arguments = "\", \"arguments\": ";
  f.end_call = "}\n</tool_call>";
  f.next = "\n<tool_call>";
  return f;
}

ToolFormat llama3() {
  ToolFormat f;
  f.name = "llama3";
  f.begin = "{\"name\": \"";
  f.arguments = "\", \"parameters\": ";
  f.end_call = "}";
  f.only_at_start = true;
  f.one_call = true;
  return f;
}

ToolFormat mistral() {
  ToolFormat f;
  f.name = "mistral";
  f.begin = "[TOOL_CALLS]";
  f.open = " [";
  f.call = "{\"name\": \"";
  f.arguments = "\", \"arguments\": ";
  f.end_call = "}";
  f.next = ", ";
  f.end = "]";
  f.short_ids = true;
  return f;
}

/// One call in the family's form, as an answer has it.
std::string written(const ToolFormat& f, const Json& calls) {
  std::string text = f.begin + f.open;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (i > 0) text += f.next;
    const Json& function = calls[i].at("function");
    text += f.call + function.at("name").get<std::string>() + f.arguments +
            function.at("arguments").get<std::string>() + f.end_call;
  }
  return text + f.end;
}

/// What a model is told whose template does not say it.
std::string told(const ToolFormat& f, const Json& tools) {
  std::string text =
      "# Tools\n\nThese functions can be called. Each is described by a line of JSON:\n";
  for (const Json& tool : tools) text += "\n" + tool.at("function").dump();
  return text + "\n\nTo call one, answer in exactly this form, its arguments being JSON:\n" +
         f.begin + f.open + f.call + "NAME" + f.arguments + "{\"argument\": \"value\"}" +
         f.end_call + f.end + "\nIf no function is needed, answer in words.";
}

}  // namespace

ToolFormat tool_format(std::string_view source) {
  const auto has = [&](std::string_view text) { return source.find(text) != source.npos; };
  ToolFormat f;
  if (has("tool▁call▁begin")) {
    f = deepseek(has("```json") || has("['type']") || has("function<"));
    f.template_shows_calls = has("tool_calls");
    f.arguments_as_text = true;
  } else if (has("[TOOL_CALLS]")) {
    f = mistral();
    f.template_shows_calls = true;
  } else if (has("<tool_call>") && has("\"arguments\"")) {
    f = hermes();
    f.template_shows_calls = true;
  } else if (has("\"parameters\": ") && (has("ipython") || has("python_tag"))) {
    f = llama3();
    f.template_shows_calls = true;
  } else {
    f = hermes();
    f.name = "hermes-by-prompt";
  }
  f.template_lists_tools = f.template_shows_calls && (has("if tools") || has("in tools"));
  return f;
}

Json with_tools(const ToolFormat& f, const Json& messages, const Json& tools) {
  Json out = Json::array();
  for (const Json& message : messages) {
    Json copy = message;
    const bool calls = message.contains("tool_calls");
    if (calls && f.template_shows_calls) {
      for (Json& call : copy.at("tool_calls")) {
        Json& arguments = call.at("function").at("arguments");
        if (f.arguments_as_text) continue;
        const Json parsed = Json::parse(arguments.get<std::string>(), nullptr, false);
        if (!parsed.is_discarded()) arguments = parsed;
      }
      // Templates ask whether there is content by `is none`.
      if (copy.at("content") == "") copy["content"] = f.arguments_as_text ? Json() : Json("");
    } else if (calls) {
      std::string text =
          copy.at("content").is_string() ? copy.at("content").get<std::string>() : "";
      if (!text.empty()) text += "\n";
      copy["content"] = text + written(f, copy.at("tool_calls"));
      copy.erase("tool_calls");
    } else if (message.at("role") == "tool" && !f.template_shows_calls) {
      const std::string result =
          "<tool_response>\n" + message.at("content").get<std::string>() + "\n</tool_response>";
      // Results of one turn are one message: some templates want users and assistants in turn.
      if (!out.empty() && out.back().contains("results")) {
        out.back()["content"] = out.back().at("content").get<std::string>() + "\n" + result;
        continue;
      }
      copy = {{"role", "user"}, {"content", result}, {"results", true}};
    }
    out.push_back(std::move(copy));
  }
  for (Json& message : out) message.erase("results");
  if (f.template_lists_tools || tools.empty()) return out;
  const std::string text = told(f, tools);
  if (!out.empty() && out[0].at("role") == "system") {
    out[0]["content"] = out[0].at("content").get<std::string>() + "\n\n" + text;
  } else {
    out.insert(out.begin(), Json{{"role", "system"}, {"content", text}});
  }
  return out;
}

}  // namespace fathom
