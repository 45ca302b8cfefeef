// A model on duty: the engine that runs it, how it is talked to, and the names it answers to.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/chat.h"
#include "engine/engine.h"
#include "engine/sampling_defaults.h"
#include "server/filter.h"
#include "server/grammar_cache.h"
#include "server/prices.h"

namespace fathom::server {

class Judge;

struct ServedModel : std::enable_shared_from_this<ServedModel> {
  std::string name;                  // as /v1/models lists it
  std::vector<std::string> aliases;  // further names that requests may use
  std::int64_t created = 0;          // seconds since 1970: the file's own time
  std::unique_ptr<ChatFormat> chat;  // null: a base model, which only continues text
  SamplingParams sampling;           // where a request says nothing
  std::unique_ptr<Engine> engine;
  std::optional<Price> price;  // absent: nothing is said of costs
  std::unique_ptr<GrammarCache> grammars = std::make_unique<GrammarCache>();
  std::shared_ptr<const Filter> filter;  // rules for what goes in and out; null: there are none
  std::vector<std::shared_ptr<const Judge>> judges;  // those of the filter, with their models
  std::string fingerprint;  // changes with the model, the engine's version and its settings
};

}  // namespace fathom::server
