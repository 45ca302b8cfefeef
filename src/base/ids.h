// Strong types for the numbers that cross library boundaries, so that they cannot be mixed up.
#pragma once

#include <cstdint>

namespace fathom {

/// Index into the model's vocabulary.
enum class TokenId : std::int32_t {};
/// A conversation's place in the KvCache. Never reused while the cache lives.
enum class SequenceId : std::int32_t {};
/// Index of a token within its sequence, from 0.
enum class Position : std::int32_t {};

constexpr std::int32_t value(TokenId id) { return static_cast<std::int32_t>(id); }
constexpr std::int32_t value(SequenceId id) { return static_cast<std::int32_t>(id); }
constexpr std::int32_t value(Position position) { return static_cast<std::int32_t>(position); }

}  // namespace fathom
