// A run of twenty small steps, and what is left of one.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/test_files.h"
#include "tokenizer/tokenizer_json_writer.h"
#include "train/corpus_rows.h"
#include "train/torch/tiny_twin.h"
#include "train/torch/training_run.h"

namespace fathom::train {

/// A copy of its values.
inline Tensor on_cpu(const Tensor& tensor) { return tensor.detach().cpu().clone(); }

inline std::map<std::string, Tensor> weights_of(const TorchModel& model) {
  std::map<std::string, Tensor> all;
  for (const auto& parameter : model.parameters()) {
    all[parameter.name] = on_cpu(parameter.value);
  }
  return all;
}

/// Lines of a run's log, without what differs from one time to the next.
inline std::vector<std::string> log_of(const std::filesystem::path& run,
                                       const std::vector<std::string>& without) {
  std::vector<std::string> lines;
  std::ifstream file(run / "log.jsonl");
  for (std::string line; std::getline(file, line);) {
    auto json = nlohmann::json::parse(line);
    for (const std::string& name : without) json.erase(name);
    lines.push_back(json.dump());
  }
  return lines;
}

/// Twenty steps of six rows.
class TinyRun : public ::testing::Test {
 protected:
  TinyRun() : tokenizer_(tiny_vocabulary()) {
    TokenCorpusWriter writer(folder_.path() / "data.tokens", tokenizer_);
    for (int i = 0; i < 300; ++i) {
      std::string text = "number " + std::to_string(i) + " and ";
      text += std::to_string(i * 7 % 10) + std::string(static_cast<std::size_t>(i % 13), 'x');
      writer.add(tokenizer_.encode(text));
    }
    writer.commit();
  }
  std::shared_ptr<RowSource> rows(std::size_t tokens) const {
    PackOptions pack;
    pack.row_tokens = tokens;
    pack.ahead = 2;
    pack.middle = {0.3, TokenId{1}, TokenId{2}, TokenId{3}};
    return std::make_shared<CorpusRows>(
        std::vector<std::filesystem::path>{folder_.path() / "data.tokens"}, tokenizer_, pack);
  }
  RunOptions options(const std::string& run) const {
    RunOptions options;
    options.texts = {kTinyConfig, write_tokenizer_json(tiny_vocabulary()), ""};
    options.run = folder_.path() / run;
    options.tokens = 20 * 6 * 32;  // twenty steps
    options.batch = {0, 6};
    options.micro_rows = 4;
    options.row_tokens = 32;
    options.rows = rows(32);
    options.evaluation = rows(32)->first(10);
    options.rate = {5e-3, 3, RateShape::V3};
    options.twin.mtp_depth = 1;
    options.deviation = 0.02;
    options.save_every = 0;
    options.evaluate_every = 7;
    return options;
  }
  static std::vector<std::string> log(const RunOptions& options) {
    return log_of(options.run, {"seconds", "flop_per_s"});
  }
  testing::ScratchFolder folder_;
  Tokenizer tokenizer_;
};

}  // namespace fathom::train
