// A request as Boost.Beast has read it, or failed to, in the APIs' words.
#pragma once

#include <boost/beast/core/error.hpp>
#include <boost/beast/http/message.hpp>

#include "server/api_error.h"
#include "server/counted_body.h"
#include "server/http.h"
#include "server/listener.h"

namespace fathom::server {

/// All but its body, which stays with the message.
HttpRequest head_of(const boost::beast::http::request<CountedBody>& message);

/// The answer to what could not be read.
HttpResponse answer_to(const boost::beast::error_code& error, const ListenerOptions& options,
                       ErrorForm form);

/// Whether the client went away or fell silent, so that there is nobody to answer.
bool is_silence(const boost::beast::error_code& error);

}  // namespace fathom::server
