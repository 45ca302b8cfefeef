// DELETE /v1/context_cache.
#include <gtest/gtest.h>

#include <filesystem>

#include "server/test_server.h"

namespace fathom {
namespace {

using namespace test;  // NOLINT

std::string forget(const std::string& headers = {}) {
  return "DELETE /v1/context_cache HTTP/1.1\r\nHost: localhost\r\n" + headers +
         "Content-Length: 0\r\n\r\n";
}

std::size_t cached(TestServer& server, const std::string& headers = {}) {
  const Json messages = Json::array({{{"role", "user"}, {"content", std::string(100, 'a')}}});
  return server.chat({{"messages", messages}}, headers)
      .json()
      .at("usage")
      .at("prompt_cache_hit_tokens");
}

TEST(ForgetContext, WhatWasReadIsReadAgain) {
  TestServer server;
  cached(server);
  EXPECT_GT(cached(server), 0U);
  const Json answer = server.ask(forget()).json();
  EXPECT_EQ(answer.at("deleted"), true);
  EXPECT_GT(answer.at("sequences"), 0);
  EXPECT_EQ(cached(server), 0U);
}

TEST(ForgetContext, EachKeyForgetsItsOwn) {
  server::ApiOptions api;
  api.keys = {"key-of-alice-0123", "key-of-bob-0123456"};
  TestServer server({}, api);
  const std::string alice = "Authorization: Bearer key-of-alice-0123\r\n";
  const std::string bob = "Authorization: Bearer key-of-bob-0123456\r\n";
  cached(server, alice);
  cached(server, bob);
  EXPECT_EQ(server.ask(forget()).status, 401U);
  EXPECT_EQ(server.ask(forget(alice)).json().at("sequences"), 1);
  EXPECT_GT(cached(server, bob), 0U);
  EXPECT_EQ(cached(server, alice), 0U);
}

TEST(ForgetContext, PagesOnDiskGoToo) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "fathom-forget-pages";
  std::filesystem::remove_all(folder);
  server::ApiOptions api;
  api.context_store = std::make_shared<ContextStore>(ContextStoreOptions{folder});
  const std::vector<TokenId> tokens(64);
  api.context_store->save(PageNames("model", 0).of(tokens).back(), tokens,
                          std::vector<std::byte>(100));
  TestServer server({}, api);
  EXPECT_EQ(server.ask(forget()).json().at("pages"), 1);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace fathom
