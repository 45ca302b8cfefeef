// Errors as DeepSeek's and OpenAI's clients know them: a status, and {"error": {...}}.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "base/error.h"
#include "server/http.h"

namespace fathom::server {

/// In whose form an error is told.
enum class ErrorForm { OpenAi, Anthropic };
/// That of the API whose path was asked.
ErrorForm form_of(const HttpRequest& request);

/// What a client did wrong, or was told no for. 400: a value out of its range; 401, 403: who asks;
/// 404: what is not there; 413, 415: the body; 422: a body of another form than the API's; 429,
/// 503: not now.
class ApiError : public std::runtime_error {
 public:
  ApiError(unsigned status, const std::string& message, std::string param = {},
           std::string code = {})
      : std::runtime_error(message),
        status_(status),
        param_(std::move(param)),
        code_(std::move(code)) {}

  unsigned status() const { return status_; }
  HttpResponse response(ErrorForm form = ErrorForm::OpenAi) const;

 private:
  unsigned status_;
  std::string param_;  // the field, "" if none
  std::string code_;   // "" : the type
};

/// An error response as the last of a stream's events, where its status was sent already.
std::string error_events(const HttpRequest& request, const HttpResponse& response);

/// What the client is told of an engine's error: its own fault as 400, lack of room as 503, the
/// rest as 500.
ApiError to_api_error(const Error& error);

}  // namespace fathom::server
