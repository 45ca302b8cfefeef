// The grammar of an answer's calls: names that exist, arguments that are valid against their
// schema.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/tool_format.h"
#include "grammar/grammar.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

struct ToolFunction {
  std::string name;
  nlohmann::ordered_json parameters;  // a schema; null: any object
  /// Whether arguments must be held to the schema: a keyword that cannot be kept to is then an
  /// error, and else leaves the arguments any JSON object.
  bool strict = false;
};

/// What follows ToolFormat::begin; with `whole`, from `begin` on. Control tokens are the symbols of
/// grammar::control_symbol(). Throws Error(InvalidArgument | Unsupported | ResourceLimit) naming
/// the function.
std::shared_ptr<const grammar::Grammar> tool_grammar(const ToolFormat& format,
                                                     const Tokenizer& tokenizer,
                                                     const std::vector<ToolFunction>& functions,
                                                     bool whole, bool several);

}  // namespace fathom
