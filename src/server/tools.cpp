#include "server/tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "server/api_error.h"
#include "server/completion_base.h"

namespace fathom::server {
namespace {

constexpr std::size_t kMostTools = 128;
constexpr std::size_t kMostCalls = 128;

std::string read_name(const Fields& function) {
  function.need("name");
  const std::string name = *function.text("name");
  const bool good = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  if (!good) {
    throw ApiError(400,
                   fmt::format("{} is '{}', but must be 1 to 64 letters, digits, _ or -",
                               function.path_of("name"), name),
                   function.path_of("name"));
  }
  return name;
}

Fields function_of(const Fields& tool) {
  const std::string type = tool.text("type").value_or("function");
  if (type != "function") {
    throw ApiError(400, fmt::format("{} is '{}', but must be function", tool.path_of("type"), type),
                   tool.path_of("type"));
  }
  tool.need("function");
  return *tool.object("function");
}

}  // namespace

std::optional<ToolUse> read_tools(const Fields& body) {
  const Json* tools = body.array("tools");
  const Json* choice = body.find("tool_choice");
  const bool several = body.boolean("parallel_tool_calls").value_or(true);
  if (tools == nullptr || tools->empty()) {
    if (choice != nullptr && *choice != "none" && *choice != "auto") {
      throw ApiError(400, "tool_choice is only for requests with tools", "tool_choice");
    }
    return std::nullopt;
  }
  if (tools->size() > kMostTools) {
    throw ApiError(400, fmt::format("{} tools, but {} are possible", tools->size(), kMostTools),
                   "tools");
  }
  ToolUse use;
  use.several = several;
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const Fields function = function_of(Fields((*tools)[i], fmt::format("tools[{}]", i)));
    ToolFunction f;
    f.name = read_name(function);
    if (std::ranges::find(use.functions, f.name, &ToolFunction::name) != use.functions.end()) {
      throw ApiError(400, fmt::format("two tools are called '{}'", f.name), "tools");
    }
    f.strict = function.boolean("strict").value_or(false);
    if (function.object("parameters")) f.parameters = *function.find("parameters");
    // Templates expect what OpenAI's own clients send: these members, in this order.
    Json told{{"name", f.name}, {"description", function.text("description").value_or("")}};
    told["parameters"] = f.parameters.is_null()
                             ? Json{{"type", "object"}, {"properties", Json::object()}}
                             : f.parameters;
    use.list.push_back({{"type", "function"}, {"function", std::move(told)}});
    use.functions.push_back(std::move(f));
  }
  if (choice == nullptr || *choice == "auto") return use;
  if (*choice == "none") return std::nullopt;
  use.required = true;
  if (*choice == "required") return use;
  if (!choice->is_object()) {
    throw ApiError(400,
                   fmt::format("tool_choice is {}, but must be none, auto, required or a function",
                               choice->dump()),
                   "tool_choice");
  }
  const std::string name = read_name(function_of(Fields(*choice, "tool_choice")));
  const auto named = std::ranges::find(use.functions, name, &ToolFunction::name);
  if (named == use.functions.end()) {
    throw ApiError(400, fmt::format("tool_choice names '{}', which is none of the tools", name),
                   "tool_choice.function.name");
  }
  use.functions = {*named};
  use.several = false;
  return use;
}

Json read_tool_calls(const Fields& message) {
  const Json& calls = *message.array("tool_calls");
  if (calls.empty() || calls.size() > kMostCalls) {
    throw ApiError(400,
                   fmt::format("{} holds {} calls, but from 1 to {} are possible",
                               message.path_of("tool_calls"), calls.size(), kMostCalls),
                   message.path_of("tool_calls"));
  }
  Json read = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Fields call(calls[i], fmt::format("{}[{}]", message.path_of("tool_calls"), i));
    const Fields function = function_of(call);
    const std::string arguments = function.text("arguments").value_or("{}");
    if (!parse_inner(arguments)) {
      throw ApiError(400, fmt::format("{} is no JSON, or too deep", function.path_of("arguments")),
                     function.path_of("arguments"));
    }
    read.push_back({{"id", call.text("id").value_or("")},
                    {"type", "function"},
                    {"function", {{"name", read_name(function)}, {"arguments", arguments}}}});
  }
  return read;
}

OutputForm tools_form(const ToolUse& use, const ToolFormat& format,
                      const std::optional<OutputForm>& content) {
  OutputForm form;
  form.kind = OutputForm::Kind::Tools;
  form.field = "tools";
  form.functions = use.functions;
  form.format = &format;
  form.whole = use.required;
  form.several = use.several;
  if (content && !use.required) {
    // Then nothing is free: the first byte tells which of the two it will be.
    form.whole = true;
    form.else_content = std::make_shared<const OutputForm>(*content);
  }
  return form;
}

std::string new_call_id(const ToolFormat& format) {
  if (!format.short_ids) return new_id("call_");
  std::random_device random;
  std::string id;
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  for (int i = 0; i < 9; ++i) id += kLetters[random() % kLetters.size()];
  return id;
}

}  // namespace fathom::server
