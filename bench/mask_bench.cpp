// Token masks: microseconds a token of a JSON answer, with a schema that has just come (cold: every
// state is met for the first time) and one that has been used (warm).
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>

#include "base/file_map.h"
#include "engine/tokenizer_loader.h"
#include "grammar/json_schema.h"
#include "grammar/token_mask.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

const std::filesystem::path kAssets = std::filesystem::path(FATHOM_SOURCE_DIR) / ".cache/assets";

std::string read(const std::filesystem::path& path) {
  const FileMap file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.size()};
}

Tokenizer load(const std::string& name) {
  if (name == "smollm2") {
    return load_tokenizer(*open_checkpoint(kAssets / "SmolLM2-135M-Instruct.Q4_1.gguf"));
  }
  const auto folder = kAssets / "tokenizers" / name;
  return Tokenizer::from_json(read(folder / "tokenizer.json"),
                              read(folder / "tokenizer_config.json"));
}

constexpr const char* kSchema = R"({"type":"object","additionalProperties":false,
  "required":["title","summary","rating","tags","people"],"properties":{
  "title":{"type":"string","maxLength":200},"summary":{"type":"string"},
  "rating":{"type":"number","minimum":0,"maximum":10},
  "date":{"type":"string","format":"date"},
  "tags":{"type":"array","items":{"enum":["fiction","history","science","travel"]},"maxItems":4},
  "people":{"type":"array","items":{"type":"object","additionalProperties":false,
    "required":["name"],"properties":{"name":{"type":"string"},"age":{"type":"integer",
    "minimum":0,"maximum":150},"note":{"anyOf":[{"type":"string"},{"type":"null"}]}}}}}})";

constexpr const char* kText = R"({
  "title": "The Mapmaker's Daughter",
  "summary": "A cartographer in 17th century Lisbon leaves his daughter a chart with one \"empty\" coast. She sails to fill it, and finds that others have been there before her.",
  "rating": 8.25,
  "date": "2019-06-30",
  "tags": ["fiction", "travel"],
  "people": [
    {"name": "Inês de Almeida", "age": 24, "note": "the daughter; speaks five languages"},
    {"name": "Captain Brandão", "note": null}
  ]
})";

/// A pattern that has no bound but by counting: each of its characters is a state of its own.
constexpr const char* kCounted = R"({"type":"object","required":["slug"],"properties":{
  "slug":{"type":"string","pattern":"^[a-z0-9]+(-[a-z0-9]+)*$","minLength":4,"maxLength":200}}})";
constexpr const char* kSlug =
    R"({"slug": "a-cartographer-in-17th-century-lisbon-leaves-his-daughter-)"
    R"(a-chart-with-one-empty-coast-and-she-sails-to-fill-it"})";

struct Kind {
  const char* name;
  const char* schema;  // null: any object
  const char* text;
};
constexpr Kind kKinds[] = {{"json_schema", kSchema, kText},
                           {"json_object", nullptr, kText},
                           {"pattern_and_length", kCounted, kSlug}};

void walk(benchmark::State& state, const std::string& vocabulary, const Kind& kind, bool cold) {
  const Tokenizer tokenizer = load(vocabulary);
  std::vector<std::string_view> pieces(tokenizer.vocab_size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const TokenId id{static_cast<std::int32_t>(i)};
    if (!tokenizer.is_special(id)) pieces[i] = tokenizer.piece(id);
  }
  const auto table = std::make_shared<const grammar::TokenTable>(pieces);
  const auto grammar = kind.schema == nullptr
                           ? grammar::json_object_grammar()
                           : grammar::json_schema_grammar(Json::parse(kind.schema));
  const auto tokens = tokenizer.encode(kind.text, {.add_special = false, .parse_special = false});
  auto masks = std::make_unique<grammar::TokenMasks>(grammar, table);
  for (auto _ : state) {
    if (cold) masks = std::make_unique<grammar::TokenMasks>(grammar, table);
    auto at = masks->automaton().start();
    for (const TokenId token : tokens) {
      if (!grammar::allows(masks->mask(at), token)) {
        return state.SkipWithError("the text's tokens are not all allowed");
      }
      at = masks->accept(at, token);
    }
  }
  state.counters["tokens"] = static_cast<double>(tokens.size());
  state.counters["s/token"] =
      benchmark::Counter(static_cast<double>(state.iterations() * tokens.size()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void compile(benchmark::State& state, const char* text) {
  const Json schema = Json::parse(text);
  for (auto _ : state) benchmark::DoNotOptimize(grammar::json_schema_grammar(schema));
}
BENCHMARK_CAPTURE(compile, json_schema, kSchema)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(compile, pattern_and_length, kCounted)->Unit(benchmark::kMillisecond);

const bool kRegistered = [] {
  for (const char* vocabulary : {"smollm2", "deepseek_v3", "qwen3"}) {
    for (const Kind& kind : kKinds) {
      for (const bool cold : {true, false}) {
        const std::string name =
            fmt::format("mask/{}/{}/{}", vocabulary, kind.name, cold ? "cold" : "warm");
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
          walk(state, vocabulary, kind, cold);
        })->Unit(benchmark::kMillisecond);
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace fathom

BENCHMARK_MAIN();
