// A stranger's grammar and a text for it: the first byte says whether it is GBNF, a regular
// expression, one that is looked for in a text, or a JSON schema; after a line with only "%%" comes
// the text. What is taken must be walked without a crash, and no dead end may be begun.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "grammar/automaton.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/json_text.h"
#include "grammar/regex.h"
#include "grammar/text_pattern.h"

using namespace fathom;
using namespace fathom::grammar;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t cut = all.find("\n%%\n");
  const std::string_view source = all.substr(0, cut);
  const std::string_view text = cut == std::string_view::npos ? "" : all.substr(cut + 4);
  try {
    if (data[0] == 't') {
      TextSearch search(std::make_shared<TextPattern>(source, source.size() % 2 == 0));
      for (std::size_t i = 0; i < text.size(); ++i) {
        if (search.step(static_cast<std::uint8_t>(text[i]), i)) return 0;
        if (search.earliest().value_or(i) > i) std::abort();
      }
      search.finish();
      return 0;
    }
    std::shared_ptr<const Grammar> grammar;
    if (data[0] == 'g') {
      grammar = gbnf_grammar(source);
    } else if (data[0] == 'r') {
      Builder b;
      JsonText json(b);
      const Builder::Rule root = b.declare("root");
      b.define(root, string_matching(json, source));
      grammar = b.compile(root);
    } else {
      const auto schema = nlohmann::ordered_json::parse(source, nullptr, false);
      if (schema.is_discarded()) return 0;
      grammar = json_schema_grammar(schema);
    }
    Automaton automaton(grammar, 32);
    Automaton::State state = automaton.start();
    for (const char c : text.substr(0, 200)) {
      if (state == Automaton::kDead) break;
      automaton.far_of(state);
      state = automaton.next(state, static_cast<std::uint8_t>(c));
    }
  } catch (const Error&) {
  }
  return 0;
}
