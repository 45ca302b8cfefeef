#include "server/api_error.h"

#include <nlohmann/json.hpp>

namespace fathom::server {
namespace {

const char* type_of(unsigned status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "insufficient_balance";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "internal_error";
    case 503:
      return "service_unavailable_error";
    default:
      return "invalid_request_error";
  }
}

const char* anthropic_type(unsigned status) {
  switch (status) {
    case 402:
      return "billing_error";
    case 413:
      return "request_too_large";
    case 500:
      return "api_error";
    case 503:
      return "overloaded_error";
    default:
      return type_of(status);
  }
}

}  // namespace

ErrorForm form_of(const HttpRequest& request) {
  return request.path == "/v1/messages" ? ErrorForm::Anthropic : ErrorForm::OpenAi;
}

HttpResponse ApiError::response(ErrorForm form) const {
  using Json = nlohmann::ordered_json;
  HttpResponse response;
  response.status = status_;
  Json body;
  if (form == ErrorForm::Anthropic) {
    body = {{"type", "error"}, {"error", {{"type", anthropic_type(status_)}, {"message", what()}}}};
  } else {
    Json error{{"message", what()}, {"type", type_of(status_)}};
    error["param"] = param_.empty() ? Json() : Json(param_);
    error["code"] = code_.empty() ? type_of(status_) : code_;
    body["error"] = std::move(error);
  }
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (status_ == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (status_ == 429 || status_ == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

std::string error_events(const HttpRequest& request, const HttpResponse& response) {
  if (form_of(request) == ErrorForm::Anthropic) {
    return "event: error\ndata: " + response.body + "\n\n";
  }
  if (request.path != "/v1/responses") {
    return "data: " + response.body + "\n\ndata: [DONE]\n\n";
  }
  // This API's events all have a type, and its errors are not wrapped.
  using Json = nlohmann::ordered_json;
  const Json error = Json::parse(response.body).at("error");
  const Json event{{"type", "error"},
                   {"sequence_number", 0},
                   {"code", error.at("code")},
                   {"message", error.at("message")},
                   {"param", error.at("param")}};
  return "event: error\ndata: " + event.dump() + "\n\n";
}

ApiError to_api_error(const Error& error) {
  switch (error.code()) {
    case ErrorCode::InvalidArgument:
    case ErrorCode::Unsupported:
      return {400, error.what()};
    case ErrorCode::NotFound:
      return {404, error.what()};
    case ErrorCode::ResourceLimit:
    case ErrorCode::Cancelled:
      return {503, error.what()};
    default:
      return {500, error.what()};
  }
}

}  // namespace fathom::server
