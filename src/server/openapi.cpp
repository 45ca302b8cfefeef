#include "server/openapi.h"

#include "base/version.h"
#include "server/openapi_text.h"

namespace fathom::server {

Json openapi_document(const std::string& url) {
  Json document = Json::parse(openapi_text());
  document["info"]["version"] = kVersion;
  document["servers"][0]["url"] = url;
  return document;
}

}  // namespace fathom::server
