// Whether a value is valid by a JSON Schema, of the keywords that openapi.json uses. Another
// keyword is an error, so that nothing in that document stays unchecked. (Of Debian's validators
// for C++ there is one, valijson, and it brings Qt.)
#pragma once

#include <string>

#include "server/fields.h"

namespace fathom::test {

class SchemaCheck {
 public:
  /// `document` outlives it; "$ref" points into it: "#/components/schemas/Error".
  explicit SchemaCheck(const server::Json& document) : document_(document) {}

  /// Where and why `value` is not valid; "" if it is. The schema has passed check_schema().
  std::string complaint(const server::Json& schema, const server::Json& value) const;
  /// Throws std::runtime_error for an unknown keyword anywhere in the schema, or a "$ref" to
  /// nothing.
  void check_schema(const server::Json& schema) const;
  /// What a "$ref" points to.
  const server::Json& target(const std::string& ref) const;

 private:
  std::string at(const server::Json& schema, const server::Json& value,
                 const std::string& path) const;
  std::string of_any(const server::Json& schemas, const server::Json& value,
                     const std::string& path, bool exactly_one) const;
  std::string of_object(const server::Json& schema, const server::Json& value,
                        const std::string& path) const;
  std::string of_array(const server::Json& schema, const server::Json& value,
                       const std::string& path) const;

  const server::Json& document_;
};

}  // namespace fathom::test
