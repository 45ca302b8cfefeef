// A request and its answer as the APIs see them, whatever carries them (listener.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fathom::server {

struct HttpRequest {
  std::string method;         // "POST"
  std::string path;           // decoded target without its query: "/v1/chat/completions"
  std::string body;           // as it came
  std::string content_type;   // "" without one
  std::string authorization;  // "Bearer ..."
  std::string x_api_key;
  std::string host;
  std::string scheme = "http";  // "https" if a proxy before the server speaks TLS
  std::string origin;
};

struct HttpResponse {
  unsigned status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

}  // namespace fathom::server
