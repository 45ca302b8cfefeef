// What the API is, for programs: an OpenAPI 3.1 document. It is written by hand in openapi.json,
// and tests/server hold every answer that they get against it.
#pragma once

#include <string>

#include "server/fields.h"

namespace fathom::server {

/// openapi.json with this program's version and the server's URL ("http://localhost:8080") in it.
Json openapi_document(const std::string& url);

}  // namespace fathom::server
