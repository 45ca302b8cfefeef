// For scripts/schema_suite: a line of JSON in, a line out.
//
//   in:  {"schema": ..., "texts": ["..."], "samples": 5, "seed": 1}
//   out: {"error": "...", "code": "..."}  or  {"accepted": [true, ...], "samples": ["...", ...]}
//
// Samples are walks by random allowed tokens of a vocabulary that has JSON's usual pieces; past
// some length those that lead to an end soonest.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "grammar/grammar_helpers.h"
#include "grammar/json_schema.h"

namespace {

using namespace fathom;
using namespace fathom::grammar;
using Json = nlohmann::ordered_json;

std::string sample(TokenMasks& masks, const std::vector<std::string>& pieces,
                   std::mt19937& random) {
  Automaton& automaton = masks.automaton();
  Automaton::State state = automaton.start();
  std::string text;
  for (int step = 0; step < 20000; ++step) {
    if (automaton.ends(state) || (automaton.accepts(state) && random() % 3 == 0)) return text;
    const TokenMask& mask = masks.mask(state);
    std::vector<std::size_t> allowed;
    std::vector<std::size_t> closing;
    for (std::size_t id = 0; id < pieces.size(); ++id) {
      if (!allows(mask, TokenId{static_cast<std::int32_t>(id)})) continue;
      allowed.push_back(id);
      if (pieces[id].size() == 1 &&
          std::string_view("}]\"0").find(pieces[id][0]) != std::string_view::npos) {
        closing.push_back(id);
      }
    }
    if (allowed.empty()) {
      if (automaton.accepts(state)) return text;
      throw Error(ErrorCode::Internal, "a dead end after " + text);
    }
    const bool hurry = step > 40 && !closing.empty() && random() % 8 != 0;
    const auto& from = hurry ? closing : allowed;
    const std::size_t id = from[random() % from.size()];
    text += pieces[id];
    state = masks.accept(state, TokenId{static_cast<std::int32_t>(id)});
  }
  throw Error(ErrorCode::Internal, "no end after " + text.substr(0, 200));
}

Json answer(const Json& asked) {
  const auto grammar = json_schema_grammar(asked.at("schema"));
  Json accepted = Json::array();
  Automaton automaton(grammar, 64);
  for (const Json& text : asked.at("texts")) {
    accepted.push_back(fathom::grammar::testing::matches(automaton, text.get<std::string>()));
  }
  const auto pieces = fathom::grammar::testing::json_vocabulary();
  TokenMasks masks(grammar, fathom::grammar::testing::token_table(pieces));
  std::mt19937 random(asked.at("seed").get<unsigned>());
  Json samples = Json::array();
  for (int i = 0; i < asked.at("samples").get<int>(); ++i) {
    samples.push_back(sample(masks, pieces, random));
  }
  return {{"accepted", accepted}, {"samples", samples}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    Json out;
    try {
      out = answer(Json::parse(line));
    } catch (const Error& error) {
      out = {{"error", error.what()}, {"code", to_string(error.code())}};
    } catch (const std::exception& error) {
      out = {{"error", error.what()}, {"code", "exception"}};
    }
    std::cout << out.dump(-1, ' ', true, Json::error_handler_t::replace) << std::endl;
  }
}
