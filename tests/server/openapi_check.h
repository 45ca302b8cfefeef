// Whether openapi.json tells the truth about an exchange.
#pragma once

#include "server/exchange.h"

namespace fathom::test {

/// What the server describes itself with.
const Json& openapi();

/// What of the answer the document does not describe: its status, type, headers, body, or an event
/// of its stream; or of the request, that it was answered with 200 though its body is not of the
/// document's form, or refused with 422 for another form though it is. "" if they agree.
std::string undescribed(const Asked& asked, const Reply& reply);

}  // namespace fathom::test
