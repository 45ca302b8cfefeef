#include "engine/tool_grammar.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "grammar/json_schema.h"
#include "grammar/json_text.h"
#include "grammar/token_mask.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;
using grammar::Builder;

/// In one answer: a small model may go on for ever.
constexpr std::uint32_t kMostCalls = 32;

/// A piece of the format, in which control tokens become symbols.
Builder::Expr marked(Builder& b, const Tokenizer& tokenizer, const std::string& text) {
  std::string bytes;
  for (const TokenId id : tokenizer.encode(text, {.add_special = false, .parse_special = true})) {
    bytes += tokenizer.is_special(id) ? grammar::control_symbol(tokenizer.piece(id))
                                      : std::string(tokenizer.piece(id));
  }
  // SentencePiece puts a space before every text.
  if (tokenizer.has_space_prefix() && bytes.starts_with(' ') && !text.starts_with(' ')) {
    bytes.erase(0, 1);
  }
  return b.literal(bytes);
}

}  // namespace

std::shared_ptr<const grammar::Grammar> tool_grammar(const ToolFormat& f,
                                                     const Tokenizer& tokenizer,
                                                     const std::vector<ToolFunction>& functions,
                                                     bool whole, bool several) {
  Builder b;
  grammar::JsonText json(b);
  std::vector<Builder::Expr> calls;
  for (const ToolFunction& function : functions) {
    const auto arguments = [&]() -> Builder::Expr {
      if (function.parameters.is_null() || function.parameters.empty()) return json.object();
      try {
        return grammar::json_schema_expr(json, function.parameters, "parameters");
      } catch (const Error& error) {
        if (error.code() == ErrorCode::Unsupported && !function.strict) return json.object();
        fail(error.code(), "function '{}': {}", function.name, error.what());
      }
    }();
    calls.push_back(b.sequence({marked(b, tokenizer, f.call + function.name + f.arguments),
                                arguments, marked(b, tokenizer, f.end_call)}));
  }
  const Builder::Rule call = b.declare("call");
  b.define(call, b.choice(std::move(calls)));
  std::vector<Builder::Expr> parts;
  if (whole) parts.push_back(marked(b, tokenizer, f.begin));
  parts.push_back(marked(b, tokenizer, f.open));
  parts.push_back(b.use(call));
  if (several && !f.one_call) {
    parts.push_back(
        b.repeat(b.sequence({marked(b, tokenizer, f.next), b.use(call)}), 0, kMostCalls - 1));
  }
  parts.push_back(marked(b, tokenizer, f.end));
  const Builder::Rule root = b.declare("calls");
  b.define(root, b.sequence(std::move(parts)));
  return b.compile(root);
}

}  // namespace fathom
