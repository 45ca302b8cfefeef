// Walking a grammar by hand, and vocabularies to walk it with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/token_mask.h"

namespace fathom::grammar::testing {

/// Whether the text is one of the language.
inline bool matches(Automaton& automaton, std::string_view text) {
  Automaton::State state = automaton.start();
  for (const char c : text) {
    if (state == Automaton::kDead) return false;
    state = automaton.next(state, static_cast<std::uint8_t>(c));
  }
  return state != Automaton::kDead && automaton.accepts(state);
}
inline bool matches(std::shared_ptr<const Grammar> grammar, std::string_view text) {
  Automaton automaton(std::move(grammar), 16);
  return matches(automaton, text);
}

/// All single bytes, and pieces as a vocabulary for JSON has them.
inline std::vector<std::string> json_vocabulary() {
  std::vector<std::string> pieces;
  for (int b = 0; b < 256; ++b) pieces.emplace_back(1, static_cast<char>(b));
  for (const char* piece : {"{\"",
                            "\":",
                            "\": ",
                            "\", \"",
                            "\",\"",
                            "\"}",
                            "\"]",
                            "},",
                            "}}",
                            "]}",
                            "[]",
                            "{}",
                            ", ",
                            ": ",
                            "true",
                            "false",
                            "null",
                            "name",
                            "value",
                            "abc",
                            "ab",
                            "hello world",
                            "\n",
                            "\n  ",
                            "\n    ",
                            "  ",
                            "12",
                            "123",
                            "0.5",
                            "-1",
                            "1e5",
                            "\\n",
                            "\\\"",
                            "\\u00e9",
                            "é",
                            "日本",
                            "\xF0\x9F\x98\x80",
                            "a\"",
                            "a\",",
                            "abc\": ",
                            "2024-01-01",
                            "the quick brown fox jumps"}) {
    pieces.emplace_back(piece);
  }
  pieces.emplace_back("");  // a control token
  return pieces;
}

inline std::shared_ptr<const TokenTable> token_table(const std::vector<std::string>& pieces) {
  const std::vector<std::string_view> views(pieces.begin(), pieces.end());
  return std::make_shared<const TokenTable>(views);
}

}  // namespace fathom::grammar::testing
