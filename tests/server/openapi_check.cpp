#include "server/openapi_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/openapi.h"
#include "server/schema_check.h"

namespace fathom::test {
namespace {

const SchemaCheck& checker() {
  static const SchemaCheck check(openapi());
  return check;
}

/// The object itself, or what its "$ref" points to.
const Json& resolved(const Json& object) {
  return object.contains("$ref") ? checker().target(object.at("$ref")) : object;
}

std::string in_lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

/// The operation for a method and path; of those that have none, what the document says of others.
const Json& operation_of(const Asked& asked) {
  const Json& paths = openapi().at("paths");
  const bool known = paths.contains(asked.path);
  const std::string method = in_lower_case(asked.method);
  if (known && paths.at(asked.path).contains(method)) return paths.at(asked.path).at(method);
  const char* others = "x-other-requests";
  const bool own = known && paths.at(asked.path).contains(others);
  return (own ? paths.at(asked.path) : openapi())
      .at(others)
      .at(method == "options" ? "options" : "others");
}

std::string of_headers(const Json& response, const Reply& reply) {
  if (!response.contains("headers")) return {};
  for (const auto& [name, described] : response.at("headers").items()) {
    const Json& header = resolved(described);
    const auto found = reply.headers.find(in_lower_case(name));
    if (found == reply.headers.end()) {
      if (header.value("required", false)) return "it has no header " + name;
      continue;
    }
    const Json& schema = header.at("schema");
    const bool number = schema.value("type", "") == "integer";
    const Json value = number ? Json::parse(found->second, nullptr, false) : Json(found->second);
    if (std::string wrong = checker().complaint(schema, value); !wrong.empty()) {
      return fmt::format("its header {}: {}", name, wrong);
    }
  }
  return {};
}

/// One event: its lines without the empty one.
std::string of_event(const Json& described, const std::string& lines, bool last) {
  if (lines == ": keep-alive") return last ? "a stream's last is no comment" : "";
  std::string name;
  std::size_t data = 0;
  if (lines.starts_with("event: ")) {
    data = lines.find('\n') + 1;
    name = lines.substr(7, data - 8);
  }
  if (lines.compare(data, 6, "data: ") != 0) return "an event without data: " + lines;
  const std::string text = lines.substr(data + 6);
  if (described.contains("end") && (Json(text) == described.at("end")) != last) {
    return fmt::format("the stream {} with {}", last ? "ends" : "goes on after", text);
  }
  if (described.contains("end") && last) return {};
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return "an event is no JSON: " + text;
  if (name != (described.at("named") == true ? json.value("type", "") : "")) {
    return fmt::format("an event is called '{}': {}", name, text);
  }
  std::string wrong = checker().complaint(described.at("data"), json);
  return wrong.empty() ? wrong : fmt::format("an event, {}\n{}", text, wrong);
}

std::string of_stream(const Json& described, const std::string& body) {
  if (!body.ends_with("\n\n")) return "the stream ends within an event";
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t end = body.find("\n\n", at);
    const bool last = end + 2 == body.size();
    std::string wrong = of_event(described, body.substr(at, end - at), last);
    if (!wrong.empty()) return wrong;
    at = end + 2;
  }
  return {};
}

std::string of_body(const Json& response, const Reply& reply) {
  const auto type = reply.headers.find("content-type");
  const bool typed = type != reply.headers.end();
  if (!response.contains("content")) {
    return typed || !reply.body.empty() ? "it should be empty: " + reply.body : "";
  }
  if (!typed) return "it has no type";
  const Json& content = response.at("content");
  const std::string plain = type->second.substr(0, type->second.find(';'));
  const std::string& key = content.contains(type->second) ? type->second : plain;
  if (!content.contains(key)) return "its type is " + type->second;
  const Json& media = content.at(key);
  if (media.contains("x-events")) return of_stream(media.at("x-events"), reply.body);
  if (key != "application/json") return checker().complaint(media.at("schema"), reply.body);
  const Json json = Json::parse(reply.body, nullptr, false);
  if (json.is_discarded()) return "it is no JSON";
  return checker().complaint(media.at("schema"), json);
}

std::string of_request(const Json& operation, const Asked& asked, const Reply& reply) {
  const bool says_something = reply.status == 200 || reply.status == 422;
  if (!says_something || !asked.body || !operation.contains("requestBody")) return {};
  const Json& described = resolved(operation.at("requestBody"));
  const Json& schema = described.at("content").at("application/json").at("schema");
  const Json body = Json::parse(*asked.body, nullptr, false);
  const std::string wrong = body.is_discarded() ? "no JSON" : checker().complaint(schema, body);
  if (reply.status == 200 && !wrong.empty()) return "its body was taken, but: " + wrong;
  if (reply.status == 422 && wrong.empty()) return "its body was refused, but is valid";
  if (reply.status != 200) return {};
  const bool streamed = reply.headers.at("content-type").starts_with("text/event-stream");
  const bool wanted = body.contains("stream") && body.at("stream") == true;
  const Json& answer = resolved(operation.at("responses").at("200")).at("content");
  if (answer.contains("text/event-stream") && streamed != wanted)
    return "it streams, or does not, as nobody asked for";
  return {};
}

}  // namespace

const Json& openapi() {
  static const Json document = server::openapi_document("http://localhost");
  return document;
}

std::string undescribed(const Asked& asked, const Reply& reply) {
  const Json& operation = operation_of(asked);
  const std::string status = std::to_string(reply.status);
  const Json& responses = operation.at("responses");
  if (!responses.contains(status)) return "the document knows no such status";
  const Json& response = resolved(responses.at(status));
  std::string wrong = of_headers(response, reply);
  // What HEAD gets has no body; its headers are another method's.
  if (wrong.empty() && asked.method != "HEAD") wrong = of_body(response, reply);
  return wrong.empty() ? of_request(operation, asked, reply) : wrong;
}

}  // namespace fathom::test
