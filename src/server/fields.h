// A JSON body's fields, read with their types and ranges checked: a complaint names the field.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace fathom::server {

using Json = nlohmann::ordered_json;

/// Parses a request's body: an object of bounded depth, in UTF-8. Throws ApiError(422), or 400 for
/// what is no JSON.
Json parse_body(std::string_view text);

/// A text within a body, or an answer, as JSON: in the same bounds. Nothing for what is no JSON, or
/// past them: what is nested deeper than the stack reaches could not even be copied.
std::optional<Json> parse_inner(std::string_view text);

/// A number without a fraction: 16.0 is one to a client whose language has one kind of number.
bool is_whole(const Json& number);

/// An array of tokens' ids, called `name`. Throws ApiError(422) for what are no whole numbers,
/// ApiError(400) for those outside the vocabulary.
std::vector<TokenId> read_token_ids(const Json& list, std::string_view name,
                                    std::int64_t vocabulary);

/// Views an object that outlives it. A field that is null is as good as absent.
class Fields {
 public:
  /// `path`: where the object stands, for messages: "messages[2]"; "" for the body itself.
  /// Throws ApiError(422) if the value is no object.
  explicit Fields(const Json& object, std::string path = {});

  const Json* find(std::string_view name) const;
  /// Throws ApiError(422) if it is absent.
  const Json& need(std::string_view name) const;

  // Throw ApiError(422) for another type, ApiError(400) for a value out of its range.
  std::optional<bool> boolean(std::string_view name) const;
  std::optional<double> number(std::string_view name, double least, double most) const;
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t least,
                                      std::int64_t most) const;
  std::optional<std::string> text(std::string_view name) const;
  const Json* array(std::string_view name) const;
  std::optional<Fields> object(std::string_view name) const;

  /// "messages[2].content"
  std::string path_of(std::string_view name) const;
  [[noreturn]] void refuse_type(std::string_view name, std::string_view wanted) const;

 private:
  const Json* object_;
  std::string path_;
};

}  // namespace fathom::server
