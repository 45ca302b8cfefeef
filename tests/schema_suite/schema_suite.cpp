// For scripts/schema_suite: a line of JSON in, a line out.
//
//   in:  {"schema": ..., "texts": ["..."], "samples": 5, "seed": 1}
//   out: {"error": "...", "code": "..."}  or  {"accepted": [true, ...], "samples": ["...", ...]}
//
// Samples are walks by random allowed tokens of a vocabulary that has JSON's usual pieces; past
// some length those that close something, and now and then the shortest way to an end, if it is
// near.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>

#include "base/error.h"
#include "grammar/grammar_helpers.h"
#include "grammar/json_schema.h"

namespace {

using namespace fathom;
using namespace fathom::grammar;
using Json = nlohmann::ordered_json;

/// The shortest text of these bytes that ends what has begun; nothing if it is far.
std::optional<std::string> way_out(Automaton& automaton, Automaton::State from,
                                   const std::string& bytes) {
  constexpr std::size_t kMostStates = 5000;
  struct Reached {
    Automaton::State state;
    std::size_t before;
    char byte;
  };
  std::vector<Reached> reached{{from, 0, 0}};
  std::set<Automaton::State> seen{from};
  for (std::size_t i = 0; i < reached.size() && i < kMostStates; ++i) {
    if (automaton.accepts(reached[i].state)) {
      std::string way;
      for (std::size_t at = i; at != 0; at = reached[at].before) way += reached[at].byte;
      return std::string(way.rbegin(), way.rend());
    }
    for (const char byte : bytes) {
      const auto to = automaton.next(reached[i].state, static_cast<std::uint8_t>(byte));
      if (to != Automaton::kDead && seen.insert(to).second) reached.push_back({to, i, byte});
    }
  }
  return std::nullopt;
}

std::string sample(TokenMasks& masks, const std::vector<std::string>& pieces,
                   const std::string& bytes, std::mt19937& random) {
  Automaton& automaton = masks.automaton();
  Automaton::State state = automaton.start();
  std::string text;
  for (int step = 0; step < 20000; ++step) {
    if (automaton.ends(state) || (automaton.accepts(state) && random() % 3 == 0)) return text;
    if (step % 100 == 99) {
      if (const auto rest = way_out(automaton, state, bytes)) return text + *rest;
    }
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
  // What closes anything, and what the schema's own texts and patterns are made of.
  const std::string schema = asked.at("schema").dump() + "}]\"0:,";
  std::set<char> bytes;
  for (const char c : schema) {
    if (static_cast<unsigned char>(c) < 0x80) bytes.insert(c);
  }
  Json samples = Json::array();
  for (int i = 0; i < asked.at("samples").get<int>(); ++i) {
    samples.push_back(sample(masks, pieces, {bytes.begin(), bytes.end()}, random));
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
