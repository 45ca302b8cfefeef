#include "server/wire_request.h"

#include <boost/beast/core/string.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace fathom::server {

namespace beast = boost::beast;
namespace http = beast::http;

HttpRequest head_of(const http::request<CountedBody>& message) {
  const auto field = [&](http::field name) { return std::string(message[name]); };
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string_view target(message.target().data(), message.target().size());
  request.path = std::string(target.substr(0, target.find('?')));
  request.content_type = field(http::field::content_type);
  request.authorization = field(http::field::authorization);
  request.x_api_key = std::string(message["x-api-key"]);
  request.host = field(http::field::host);
  if (beast::iequals(message["x-forwarded-proto"], "https")) request.scheme = "https";
  request.origin = field(http::field::origin);
  return request;
}

HttpResponse answer_to(const beast::error_code& error, const ListenerOptions& options,
                       ErrorForm form) {
  if (error == http::error::header_limit) {
    return ApiError(431, fmt::format("the header has more than {} bytes", options.max_header_bytes))
        .response(form);
  }
  if (error == http::error::body_limit) {
    return ApiError(413, fmt::format("the body has more than {} bytes", options.max_body_bytes))
        .response(form);
  }
  if (error == boost::system::errc::not_enough_memory) {
    return ApiError(503, "there is no room for another body now").response(form);
  }
  return ApiError(400, "this is not HTTP: " + error.message()).response(form);
}

bool is_silence(const beast::error_code& error) {
  return error == http::error::end_of_stream || error == beast::error::timeout ||
         (error != boost::system::errc::not_enough_memory &&
          error.category() != http::make_error_code({}).category());
}

}  // namespace fathom::server
