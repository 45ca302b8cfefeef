#include "server/filter_input.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "server/api_error.h"

namespace fathom::server {
namespace {

/// Takes a text; true ends the walk.
using Visit = std::function<bool(const std::string& path, const std::string& text)>;

bool is_text_part(const Json& part) {
  return part.is_object() && part.contains("text") && part.at("text").is_string();
}

bool walk(const Json& json, const std::string& path, const Visit& visit);

bool walk_list(const Json& list, const std::string& path, const Visit& visit) {
  // The readers join parts: a word may be cut between two.
  std::string joined;
  for (const Json& part : list) {
    if (is_text_part(part)) joined += part.at("text").get_ref<const std::string&>();
  }
  if (!joined.empty() && visit(path, joined)) return true;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!is_text_part(list[i]) && walk(list[i], fmt::format("{}[{}]", path, i), visit)) return true;
  }
  return false;
}

/// The texts of a call's arguments, which are JSON within a string: what it means counts, not how
/// it is written. Read event by event, since its depth is the client's choice.
class Arguments final : public nlohmann::json_sax<Json> {
 public:
  Arguments(const std::string& path, const Visit& visit) : path_(path), visit_(visit) {}
  bool found() const { return found_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(std::int64_t value) override { return take(std::to_string(value)); }
  bool number_unsigned(std::uint64_t value) override { return take(std::to_string(value)); }
  bool number_float(double, const std::string& written) override { return take(written); }
  bool string(std::string& value) override { return take(value); }
  bool binary(Json::binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(std::string& name) override { return take(name); }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override {
    return false;
  }

 private:
  bool take(const std::string& text) {
    found_ = visit_(path_, text);
    return !found_;
  }

  const std::string& path_;
  const Visit& visit_;
  bool found_ = false;
};

/// What says how to read the rest, and is no client's word.
bool is_mark(const std::string& name, const Json& value) {
  static const std::set<std::string, std::less<>> marks{
      "system", "user",   "assistant", "tool",    "developer", "function", "object",
      "array",  "string", "number",    "integer", "boolean",   "null"};
  return (name == "role" || name == "type") && value.is_string() &&
         marks.contains(value.get_ref<const std::string&>());
}

/// All texts, in order.
bool walk(const Json& json, const std::string& path, const Visit& visit) {
  if (json.is_string()) return visit(path, json.get_ref<const std::string&>());
  if (json.is_number()) return visit(path, json.dump());
  if (json.is_array()) return walk_list(json, path, visit);
  if (!json.is_object()) return false;
  const bool named_by_client = path.ends_with(".properties");  // of a tool's schema
  for (const auto& [name, value] : json.items()) {
    if (is_mark(name, value)) continue;
    const std::string inside = path + "." + name;
    if (named_by_client && visit(inside, name)) return true;
    if (name == "arguments" && value.is_string()) {
      Arguments arguments(inside, visit);
      Json::sax_parse(value.get_ref<const std::string&>(), &arguments);
      if (arguments.found()) return true;
    } else if (walk(value, inside, visit)) {
      return true;
    }
  }
  return false;
}

/// Where the rule first matches in what the client wrote; "" if it does so nowhere in that form.
std::string path_in(const Json& body, const std::shared_ptr<const FilterRule>& rule) {
  std::string found;
  Finder finder({rule});
  const auto visit = [&](const std::string& path, const std::string& text) {
    if (!finder.find(text)) return false;
    found = path;
    return true;
  };
  for (const char* field : {"instructions", "system", "messages", "input", "tools"}) {
    const auto member = body.find(field);
    if (member != body.end() && walk(*member, field, visit)) break;
  }
  return found;
}

std::vector<std::string> prompt_texts(const ServedModel& model, const TextRequest& request) {
  std::vector<std::string> texts = request.prompts;
  for (const auto& ids : request.token_prompts) {
    texts.push_back(model.engine->tokenizer().decode(ids));
  }
  return texts;
}

[[noreturn]] void refuse(const FilterRule& rule, const std::string& path, Metrics& metrics) {
  metrics.count_filtered(rule.name, "input");
  throw ApiError(400,
                 fmt::format("{} is refused by this server's filter, rule '{}'{}{}", path,
                             rule.name, rule.reason.empty() ? "" : ": ", rule.reason),
                 path, "content_filter");
}

}  // namespace

void screen_input(const ServedModel& model, const ChatRequest& request, const Json& body,
                  Metrics& metrics) {
  Finder finder(model.filter->input());
  const auto visit = [&](const std::string& path, const std::string& text) {
    const auto rule = finder.find(text);
    if (!rule) return false;
    const std::string written = path_in(body, rule);
    refuse(*rule, written.empty() ? path : written, metrics);
  };
  walk(request.messages, "messages", visit);
  if (request.tools) walk(request.tools->list, "tools", visit);
}

void screen_input(const ServedModel& model, const ResponsesRequest& request, const Json& body,
                  Metrics& metrics) {
  screen_input(model, request.chat, body, metrics);
}

void screen_input(const ServedModel& model, const TextRequest& request, const Json& body,
                  Metrics& metrics) {
  Finder finder(model.filter->input());
  const auto check = [&](const std::string& path, const std::string& text) {
    const auto rule = finder.find(text);
    if (rule) refuse(*rule, path, metrics);
  };
  const Json& prompt = body.at("prompt");
  const bool several = prompt.is_array() && !prompt[0].is_number();
  const std::vector<std::string> texts = prompt_texts(model, request);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    check(several ? fmt::format("prompt[{}]", i) : "prompt", texts[i]);
  }
  if (request.suffix) check("suffix", *request.suffix);
}

JudgedRequest judged_request(const ServedModel&, const ChatRequest& request) {
  JudgedRequest judged;
  const auto add = [&](const std::string&, const std::string& text) {
    if (!judged.text.empty() && !judged.text.ends_with(": ")) judged.text += '\n';
    judged.text += text;
    return false;
  };
  for (const Json& message : request.messages) {
    const std::string role = message.value("role", "");
    if (!judged.text.empty()) judged.text += '\n';
    judged.text += role + ": ";
    std::string own;
    walk(message, "", [&](const std::string& path, const std::string& text) {
      own += (own.empty() ? "" : "\n") + text;
      return add(path, text);
    });
    if (role == "user") judged.asked = std::move(own);
  }
  if (request.tools) walk(request.tools->list, "tools", add);
  return judged;
}

JudgedRequest judged_request(const ServedModel& model, const ResponsesRequest& request) {
  return judged_request(model, request.chat);
}

JudgedRequest judged_request(const ServedModel& model, const TextRequest& request) {
  std::string text = fmt::format("{}", fmt::join(prompt_texts(model, request), "\n"));
  if (request.suffix) text += "\n" + *request.suffix;
  return {text, text, 0};
}

}  // namespace fathom::server
