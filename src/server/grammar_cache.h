// The grammars that answers are held to, kept while the same ones are asked for again: programs
// send the same schema with every request.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/tool_grammar.h"
#include "server/fields.h"

namespace fathom::server {

/// What an answer must be.
struct OutputForm {
  enum class Kind { JsonObject, JsonSchema, Gbnf, Tools };
  Kind kind = Kind::JsonObject;
  Json schema = {};                       // JsonSchema
  std::string grammar = {};               // Gbnf
  std::string field = "response_format";  // of the request, for complaints
  // Tools, as tool_grammar() takes them.
  const ToolFormat* format = nullptr;
  std::vector<ToolFunction> functions = {};
  bool whole = false;
  bool several = true;
  std::shared_ptr<const OutputForm> else_content = {};  // of an answer that calls nothing
};

/// Thread-safe.
class GrammarCache {
 public:
  /// For requests of this engine. Throws ApiError(400) naming the field, for what is no schema or
  /// grammar, what cannot be kept to, and what costs too much.
  std::shared_ptr<grammar::TokenMasks> masks(const Engine& engine, const OutputForm& form);

 private:
  static constexpr std::size_t kKept = 16;
  struct Entry {
    std::string key;
    std::shared_ptr<const grammar::Grammar> grammar;
    std::shared_ptr<grammar::TokenMasks> masks;
  };
  std::mutex mutex_;
  std::list<Entry> kept_;  // the last used first
};

}  // namespace fathom::server
