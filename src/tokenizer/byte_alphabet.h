// GPT-2's byte alphabet: byte-level vocabularies write each byte as one printable character.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

/// The bytes that `piece` writes ("Ġthe" -> " the"), or nullopt when it has a character outside the
/// alphabet or is not UTF-8.
std::optional<std::string> from_byte_alphabet(std::string_view piece);

/// The inverse: " the" -> "Ġthe".
std::string to_byte_alphabet(std::string_view bytes);

}  // namespace fathom
