// openapi.json: that it is served, is whole, and that what it does not describe would be found.
// (That it is true is seen in every other test: Client::reply().)
#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "base/version.h"
#include "server/schema_check.h"
#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT
using ::testing::HasSubstr;

TEST(OpenApi, IsServedWithTheVersionAndTheServersUrl) {
  TestServer server;
  const Reply reply = server.ask(get("/openapi.json"));
  ASSERT_EQ(reply.status, 200);
  const Json document = reply.json();
  EXPECT_EQ(document, openapi());
  EXPECT_EQ(document.at("info").at("version"), kVersion);
  const auto url = [&](const std::string& head) {
    return server.ask("GET /openapi.json HTTP/1.1\r\n" + head + "\r\n")
        .json()
        .at("servers")[0]
        .at("url");
  };
  EXPECT_EQ(url("Host: 127.0.0.1:8080\r\n"), "http://127.0.0.1:8080");
  EXPECT_EQ(url("Host: localhost\r\nX-Forwarded-Proto: https\r\n"), "https://localhost")
      << "behind a proxy with TLS";
}

TEST(OpenApi, ItsPathsAreTheServersRoutes) {
  std::set<std::string> described, routes;
  for (const auto& [path, methods] : openapi().at("paths").items()) {
    for (const auto& [method, operation] : methods.items()) {
      if (!method.starts_with("x-")) described.insert(method + " " + path);
    }
  }
  for (const server::Api::Route& route : server::Api::routes()) {
    std::string method = route.method;
    std::ranges::transform(method, method.begin(), [](char c) { return std::tolower(c); });
    routes.insert(method + " " + route.path);
  }
  EXPECT_EQ(described, routes);
}

/// Every "$ref" below it.
void gather_refs(const Json& json, std::set<std::string>& refs) {
  if (!json.is_structured()) return;
  for (const auto& [name, value] : json.items()) {
    if (json.is_object() && name == "$ref") refs.insert(value.get<std::string>());
    gather_refs(value, refs);
  }
}

/// Every schema that is no part of another.
void gather_schemas(const Json& json, std::vector<Json>& schemas) {
  if (!json.is_structured()) return;
  for (const auto& [name, value] : json.items()) {
    if (name == "schemas" || name == "x-events") {
      for (const Json& each : value) {
        if (each.is_object()) schemas.push_back(each);
      }
    } else if (name == "schema") {
      schemas.push_back(value);
    } else {
      gather_schemas(value, schemas);
    }
  }
}

TEST(OpenApi, EverySchemaIsCheckedAndEveryComponentUsed) {
  const SchemaCheck check(openapi());
  std::vector<Json> schemas;
  gather_schemas(openapi(), schemas);
  EXPECT_GT(schemas.size(), openapi().at("components").at("schemas").size());
  for (const Json& schema : schemas) EXPECT_NO_THROW(check.check_schema(schema)) << schema;
  std::set<std::string> refs;
  gather_refs(openapi(), refs);
  for (const std::string& ref : refs) EXPECT_NO_THROW(check.target(ref)) << ref;
  for (const auto& [kind, components] : openapi().at("components").items()) {
    if (kind == "securitySchemes") continue;
    for (const auto& [name, component] : components.items()) {
      EXPECT_TRUE(refs.contains("#/components/" + kind + "/" + name)) << kind << ", " << name;
    }
  }
}

/// By the request body's name.
const Json kBodies = Json::parse(R"({
  "Chat": {"messages": [{"role": "user", "content": "u"}], "max_tokens": 3},
  "Text": {"prompt": "u", "max_tokens": 3},
  "Messages": {"messages": [{"role": "user", "content": "u"}], "max_tokens": 3},
  "Responses": {"input": "u", "max_output_tokens": 3},
  "Tokenize": {"content": "ab"},
  "Detokenize": {"tokens": [3, 4]},
  "Pull": {"model": "smollm2:135m"}})");

TEST(OpenApi, EveryRouteAnswersAsItIsDescribed) {
  int ends[2];  // to a process that fetches models, which is not there
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  server::ApiOptions options;
  options.pulls = std::make_shared<server::PullDesk>(ends[0], server::PullRules({"*"}));
  TestServer server({}, std::move(options));
  std::set<std::string> readable;
  for (const server::Api::Route& route : server::Api::routes()) {
    if (route.method == std::string("GET")) readable.insert(route.path);
  }
  for (const server::Api::Route& route : server::Api::routes()) {
    if (route.method != std::string("POST")) {
      std::string bytes = get(route.path);
      bytes.replace(0, 3, route.method);
      EXPECT_EQ(server.ask(bytes).status, 200) << route.path;
      continue;
    }
    const Json& operation = openapi().at("paths").at(route.path).at("post");
    const std::string ref = operation.at("requestBody").at("$ref");
    Json body = kBodies.at(ref.substr(ref.rfind('/') + 1));
    EXPECT_EQ(server.ask(post(route.path, body.dump())).status, 200) << route.path;
    body["stream"] = true;
    EXPECT_EQ(server.ask(post(route.path, body.dump())).status, 200) << route.path;
    EXPECT_EQ(server.ask(post(route.path, "[]")).status, 422) << route.path;
    EXPECT_EQ(server.ask(get(route.path)).status, readable.contains(route.path) ? 200 : 405)
        << route.path;
  }
  ::close(ends[1]);
}

TEST(OpenApi, EveryRouteFailsAsItIsDescribed) {
  TestServer server({}, {}, {},
                    [](TokenId, std::size_t) -> TokenId { fail(ErrorCode::Internal, "broke"); });
  const auto ask_all = [&](bool stream, int status) {
    for (const char* path :
         {"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"}) {
      const std::string ref =
          openapi().at("paths").at(path).at("post").at("requestBody").at("$ref");
      Json body = kBodies.at(ref.substr(ref.rfind('/') + 1));
      if (stream) body["stream"] = true;
      EXPECT_EQ(server.ask(post(path, body.dump())).status, status) << path;
    }
  };
  ask_all(false, 500);
  ask_all(true, 200);
  server.api().drain();
  ask_all(false, 503);
  EXPECT_EQ(server.ask(get("/ready")).status, 503);
}

/// The members that an object by this schema may have.
void gather_members(const Json& schema, std::set<std::string>& names) {
  if (schema.contains("$ref")) {
    gather_members(SchemaCheck(openapi()).target(schema.at("$ref")), names);
  }
  for (const Json& each : schema.value("allOf", Json::array())) gather_members(each, names);
  const Json members = schema.value("properties", Json::object());
  for (const auto& [name, member] : members.items()) names.insert(name);
}

/// Whatever a field is: the document says what is taken, and never that what is refused as another
/// form is of it. (Client::reply() compares.)
TEST(OpenApi, FieldsOfAnyFormAreTakenOrRefusedAsItSays) {
  TestServer server;
  const Json values = Json::parse(R"([null, true, false, 0, 1, -1, 1.5, 3.0, 1e300, "", "x", "none",
    [], ["x"], [1], [[1]], [{}], [null], [7, "x"], {}, {"type": "text"}, {"type": 7}, {"type": null},
    {"type": "function"}, {"type": "any"}, {"type": "auto"}, {"type": "enabled"}, {"type": "json_schema"}, {"effort": "low"},
    {"effort": 7}, {"format": {"type": "text"}}, {"format": 7}, {"include_usage": 7}, {"3": 1}, {"3": "x"},
    {"x": 1}, [{"type": "text"}], [{"type": "text", "text": "x"}], [{"type": "text", "text": 7}],
    [{"role": "user"}], [{"role": "user", "content": 7}], [{"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "x", "name": 7}], [{"role": 7, "content": "x"}],
    [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "tool_result"}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, {"role": "user", "content": "x"}],
    [{"type": "function_call_output", "output": "x"}], [{"type": "function_call", "name": "f"}],
    [{"name": "f"}], [{"type": "function", "name": "f"}], [{"function": {"name": "f"}}],
    [{"name": "f", "description": 7}], [{"function": {"name": "f", "strict": 7}}],
    [{"type": "custom", "name": "f", "input_schema": []}]])");
  std::size_t taken = 0, refused = 0;
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/v1/messages",
                           "/v1/responses", "/tokenize", "/detokenize"}) {
    const Json& operation = openapi().at("paths").at(path).at("post");
    const std::string ref = operation.at("requestBody").at("$ref");
    const Json& described = SchemaCheck(openapi()).target(ref).at("content");
    std::set<std::string> names;
    gather_members(described.at("application/json").at("schema"), names);
    ASSERT_GE(names.size(), 1U) << path;
    for (const std::string& name : names) {
      for (const Json& value : values) {
        Json body = kBodies.at(ref.substr(ref.rfind('/') + 1));
        body[name] = value;
        const int status = server.ask(post(path, body.dump())).status;
        EXPECT_TRUE(status == 200 || status == 400 || status == 404 || status == 422) << body;
        ++(status == 200 ? taken : refused);
      }
    }
  }
  EXPECT_GT(taken, 300U);
  EXPECT_GT(refused, 2000U);
}

TEST(OpenApi, WhatItDoesNotDescribeIsFound) {
  TestServer server;
  const std::string body = kBodies.at("Chat").dump();
  const Asked asked{"POST", "/v1/chat/completions", body};
  const Reply good = server.ask(post(asked.path, body));
  ASSERT_EQ(undescribed(asked, good), "");
  const auto with_body = [&](const auto& change) {
    Json json = good.json();
    change(json);
    Reply reply = good;
    reply.body = json.dump();
    return undescribed(asked, reply);
  };
  EXPECT_THAT(with_body([](Json& j) { j["extra"] = 1; }), HasSubstr("$.extra"));
  EXPECT_THAT(with_body([](Json& j) { j.erase("usage"); }), HasSubstr("usage"));
  EXPECT_THAT(with_body([](Json& j) { j["id"] = "1"; }), HasSubstr("$.id"));
  EXPECT_THAT(with_body([](Json& j) { j["choices"][0]["finish_reason"] = "bored"; }),
              HasSubstr("bored"));
  EXPECT_THAT(with_body([](Json& j) { j["choices"][0]["message"]["content"] = 7; }),
              HasSubstr("$.choices[0].message.content"));
  Reply reply = good;
  reply.status = 418;
  EXPECT_THAT(undescribed(asked, reply), HasSubstr("status"));
  reply = good;
  reply.headers["content-type"] = "text/html";
  EXPECT_THAT(undescribed(asked, reply), HasSubstr("text/html"));
  EXPECT_THAT(undescribed({"POST", "/v1/messages", body}, good), HasSubstr("$"));
  EXPECT_THAT(undescribed({"GET", "/nothing", {}}, good), HasSubstr("status"));
  // Requests: one that was taken, and one that was refused.
  EXPECT_THAT(undescribed({"POST", asked.path, R"({"messages": 7})"}, good),
              HasSubstr("was taken"));
  Reply refused = server.ask(post(asked.path, "{}"));
  EXPECT_THAT(undescribed(asked, refused), HasSubstr("is valid"));
  refused.status = 429;
  EXPECT_THAT(undescribed(asked, refused), HasSubstr("Retry-After"));
}

TEST(OpenApi, EventsThatItDoesNotDescribeAreFound) {
  TestServer server;
  Json body = kBodies.at("Messages");
  body["stream"] = true;
  const Asked asked{"POST", "/v1/messages", body.dump()};
  const Reply good = server.ask(post(asked.path, *asked.body));
  const auto changed = [&](const Reply& from, const Asked& of, const std::string& what,
                           const std::string& to) {
    Reply reply = from;
    const std::size_t at = reply.body.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    reply.body.replace(at, what.size(), to);
    return undescribed(of, reply);
  };
  EXPECT_THAT(changed(good, asked, "text_delta", "word_delta"), HasSubstr("word_delta"));
  EXPECT_THAT(changed(good, asked, "event: message_stop", "event: stop"), HasSubstr("'stop'"));
  EXPECT_THAT(changed(good, asked, "\n\n", "\n\nretry: 1\n\n"), HasSubstr("retry"));
  EXPECT_EQ(changed(good, asked, "\n\n", "\n\n: keep-alive\n\n"), "");
  body = kBodies.at("Chat");
  body["stream"] = true;
  const Asked chat{"POST", "/v1/chat/completions", body.dump()};
  const Reply chunks = server.ask(post(chat.path, *chat.body));
  EXPECT_THAT(changed(chunks, chat, "[DONE]", "[END]"), HasSubstr("[END]"));
  EXPECT_THAT(changed(chunks, chat, "data: {", "data: [DONE]\n\ndata: {"), HasSubstr("goes on"));
  EXPECT_THAT(changed(chunks, chat, "\"delta\"", "\"theta\""), HasSubstr("theta"));
  Asked whole = chat;
  whole.body = kBodies.at("Chat").dump();
  EXPECT_THAT(undescribed(whole, chunks), HasSubstr("streams"));
}

}  // namespace
}  // namespace fathom
