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

}  // namespace

std::string error_body(unsigned status, const std::string& message, const std::string& param,
                       const std::string& code) {
  nlohmann::ordered_json error{{"message", message}, {"type", type_of(status)}};
  error["param"] = param.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(param);
  error["code"] = code.empty() ? type_of(status) : code;
  return nlohmann::ordered_json{{"error", std::move(error)}}.dump(
      -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

HttpResponse ApiError::response() const {
  HttpResponse response;
  response.status = status_;
  response.body = error_body(status_, what(), param_, code_);
  if (status_ == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (status_ == 429 || status_ == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
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
