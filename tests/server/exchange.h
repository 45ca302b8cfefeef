// A request as it was sent and its answer as it came.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "server/fields.h"

namespace fathom::test {

using server::Json;

struct Asked {
  std::string method, path;         // "" of what is no request
  std::optional<std::string> body;  // absent if it was not sent whole
};

/// Takes the first request off what was sent; of what ends in the middle of one, all of it.
inline Asked take_request(std::string& sent) {
  Asked asked;
  const std::size_t line = sent.find("\r\n");
  const std::size_t head = sent.find("\r\n\r\n");
  const std::string first = sent.substr(0, line);
  const std::size_t space = first.find(' ');
  const std::size_t version = first.find(" HTTP/1.");
  if (version != std::string::npos && space < version) {
    asked.method = first.substr(0, space);
    const std::string target = first.substr(space + 1, version - space - 1);
    asked.path = target.substr(0, target.find('?'));
  }
  if (head == std::string::npos) {
    sent.clear();
    return asked;
  }
  const std::string headers = sent.substr(0, head);
  sent.erase(0, head + 4);
  constexpr std::string_view kLength = "Content-Length: ";
  const std::size_t field = headers.find(kLength);
  const bool chunked = headers.find("Transfer-Encoding:") != std::string::npos;
  std::size_t length = 0;
  if (field != std::string::npos) {
    length = std::strtoul(headers.c_str() + field + kLength.size(), nullptr, 10);
  }
  if (chunked || length > sent.size()) {
    sent.clear();  // such tests end the connection
    return asked;
  }
  asked.body = sent.substr(0, length);
  sent.erase(0, length);
  return asked;
}

struct Reply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  std::string raw;

  Json json() const {
    Json parsed = Json::parse(body, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << body;
    return parsed;
  }
  /// The data of each event, "[DONE]" included; comments are left out.
  std::vector<std::string> events() const {
    std::vector<std::string> found;
    for (std::size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
      const std::size_t end = body.find("\n\n", at);
      if (end == std::string::npos) break;
      found.push_back(body.substr(at + 6, end - at - 6));
      at = end;
    }
    return found;
  }
};

}  // namespace fathom::test
