#include "server/grammar_cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

std::shared_ptr<const grammar::Grammar> compile(const OutputForm& form,
                                                const Tokenizer& tokenizer) {
  switch (form.kind) {
    case OutputForm::Kind::JsonObject:
      return grammar::json_object_grammar();
    case OutputForm::Kind::JsonSchema:
      return grammar::json_schema_grammar(form.schema);
    case OutputForm::Kind::Gbnf:
      return grammar::gbnf_grammar(form.grammar);
    case OutputForm::Kind::Tools: {
      auto calls = tool_grammar(*form.format, tokenizer, form.functions, form.whole, form.several);
      if (!form.else_content) return calls;
      return grammar::either(*calls, *compile(*form.else_content, tokenizer));
    }
  }
  return nullptr;
}

std::string key_of(const OutputForm& form) {
  switch (form.kind) {
    case OutputForm::Kind::JsonObject:
      return "object";
    case OutputForm::Kind::JsonSchema:
      return "schema " + form.schema.dump();
    case OutputForm::Kind::Gbnf:
      return "gbnf " + form.grammar;
    case OutputForm::Kind::Tools: {
      // The format is the model's, of whom this cache is.
      std::string key = fmt::format("tools {} {}", form.whole, form.several);
      for (const ToolFunction& f : form.functions) {
        key += fmt::format("\n{} {} {}", f.name, f.strict, f.parameters.dump());
      }
      if (form.else_content) key += "\nor " + key_of(*form.else_content);
      return key;
    }
  }
  return {};
}

}  // namespace

std::shared_ptr<grammar::TokenMasks> GrammarCache::masks(const Engine& engine,
                                                         const OutputForm& form) {
  const std::string key = key_of(form);
  const std::lock_guard lock(mutex_);
  auto found = std::ranges::find(kept_, key, &Entry::key);
  try {
    if (found == kept_.end()) {
      Entry made{key, compile(form, engine.tokenizer()), nullptr};
      made.masks = std::make_shared<grammar::TokenMasks>(made.grammar, engine.token_table());
      kept_.push_front(std::move(made));
      if (kept_.size() > kKept) kept_.pop_back();
      found = kept_.begin();
    } else if (found->masks->worn()) {
      found->masks = std::make_shared<grammar::TokenMasks>(found->grammar, engine.token_table());
    }
  } catch (const Error& error) {
    throw ApiError(
        400, fmt::format("{}: {}", form.field, error.what()), form.field,
        error.code() == ErrorCode::Unsupported ? "unsupported_schema" : "invalid_schema");
  }
  kept_.splice(kept_.begin(), kept_, found);
  return found->masks;
}

}  // namespace fathom::server
