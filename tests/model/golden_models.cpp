#include "model/golden_models.h"

#include <fstream>
#include <nlohmann/json.hpp>

namespace fathom::test {

Golden read_golden(const std::string& name) {
  Golden golden;
  std::ifstream json_file(golden_folder(name) / "tokens.json");
  const auto json = nlohmann::json::parse(json_file);
  for (int token : json.at("tokens")) golden.tokens.push_back(TokenId{token});
  for (const auto& [layer, routing] : json.at("routing").items()) {
    auto& to = golden.routing[std::stoll(layer)];
    routing.at("ids").get_to(to.ids);
    routing.at("weights").get_to(to.weights);
  }
  std::ifstream file(golden_folder(name) / "logits.f32", std::ios::binary | std::ios::ate);
  golden.logits.resize(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(golden.logits.data()),
            static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
  return golden;
}

}  // namespace fathom::test
