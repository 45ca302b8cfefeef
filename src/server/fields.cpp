#include "server/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/json_guard.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

constexpr JsonLimits kBodyLimits{
    .depth = 64, .string_bytes = std::size_t{64} << 20, .values = std::size_t{1} << 20};

/// The parser takes a NUL byte for the text's end, and would not see what comes after it.
bool holds_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

}  // namespace

Json parse_body(std::string_view text) {
  if (holds_nul(text)) throw ApiError(400, "the body is not JSON: there is a NUL byte in it");
  try {
    guard_json(text, kBodyLimits, "the request's body");
    return Json::parse(text);
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  } catch (const Json::exception& error) {
    throw ApiError(400, "the body is not JSON: " + json_complaint(error.what()));
  }
}

std::optional<Json> parse_inner(std::string_view text) {
  if (holds_nul(text)) return std::nullopt;
  try {
    guard_json(text, kBodyLimits, "a text");
  } catch (const Error&) {
    return std::nullopt;
  }
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return std::nullopt;
  return json;
}

Fields::Fields(const Json& object, std::string path) : object_(&object), path_(std::move(path)) {
  if (!object.is_object()) {
    throw ApiError(422,
                   fmt::format("{}: expected an object, found {}",
                               path_.empty() ? "the body" : path_, object.type_name()),
                   path_);
  }
}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void Fields::refuse_type(std::string_view name, std::string_view wanted) const {
  const std::string path = path_of(name);
  const Json* found = find(name);
  throw ApiError(422,
                 fmt::format("{}: expected {}, found {}", path, wanted,
                             found == nullptr ? "nothing" : found->type_name()),
                 path);
}

const Json* Fields::find(std::string_view name) const {
  const auto found = object_->find(std::string(name));
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

const Json& Fields::need(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) {
    throw ApiError(422, fmt::format("missing field `{}`", path_of(name)), path_of(name));
  }
  return *found;
}

std::optional<bool> Fields::boolean(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_boolean()) refuse_type(name, "true or false");
  return found->get<bool>();
}

std::optional<double> Fields::number(std::string_view name, double least, double most) const {
  const Json* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_number()) refuse_type(name, "a number");
  const double value = found->get<double>();
  if (!std::isfinite(value) || value < least || value > most) {
    throw ApiError(400,
                   fmt::format("{} is {}, but must be from {} to {}", path_of(name), found->dump(),
                               least, most),
                   path_of(name));
  }
  return value;
}

bool is_whole(const Json& number) {
  return number.is_number() &&
         (number.is_number_integer() || std::trunc(number.get<double>()) == number.get<double>());
}

std::vector<TokenId> read_token_ids(const Json& list, std::string_view name,
                                    std::int64_t vocabulary) {
  std::vector<TokenId> ids;
  for (const Json& id : list) {
    if (!is_whole(id)) {
      throw ApiError(422, fmt::format("{}: {} is no token's id, an integer", name, id.dump()),
                     std::string(name));
    }
    // As a double it may be inexact, but then it is far outside.
    const double value = id.get<double>();
    if (value < 0 || value >= static_cast<double>(vocabulary)) {
      throw ApiError(
          400, fmt::format("{}: {} is no token's id (0 to {})", name, id.dump(), vocabulary - 1),
          std::string(name));
    }
    ids.push_back(TokenId{static_cast<std::int32_t>(value)});
  }
  return ids;
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t least,
                                            std::int64_t most) const {
  const Json* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (!is_whole(*found)) refuse_type(name, "an integer");
  const bool fits = found->is_number_unsigned()
                        ? std::in_range<std::int64_t>(found->get<std::uint64_t>())
                        : found->is_number_integer() || std::abs(found->get<double>()) < 0x1p63;
  const std::int64_t value = fits ? found->get<std::int64_t>() : 0;
  if (!fits || value < least || value > most) {
    throw ApiError(400,
                   fmt::format("{} is {}, but must be from {} to {}", path_of(name), found->dump(),
                               least, most),
                   path_of(name));
  }
  return value;
}

std::optional<std::string> Fields::text(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_string()) refuse_type(name, "a string");
  return found->get<std::string>();
}

const Json* Fields::array(std::string_view name) const {
  const Json* found = find(name);
  if (found != nullptr && !found->is_array()) refuse_type(name, "an array");
  return found;
}

std::optional<Fields> Fields::object(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_object()) refuse_type(name, "an object");
  return Fields(*found, path_of(name));
}

}  // namespace fathom::server
