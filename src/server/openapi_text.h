// openapi.json as it was when the program was built: src/server/CMakeLists.txt puts it in.
#pragma once

#include <string_view>

namespace fathom::server {

std::string_view openapi_text();

}  // namespace fathom::server
