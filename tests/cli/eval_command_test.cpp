// `fathom eval` and `fathom bench` as programs, on a model whose figures are computed here again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/run_program.h"
#include "cli/tiny_model.h"
#include "engine/tokenizer_loader.h"
#include "model/model.h"

namespace fathom::test {
namespace {

using testing::HasSubstr;

class EvalCommand : public testing::Test {
 protected:
  EvalCommand() : model(make_tiny_model(folder.path())) {}

  std::vector<std::string> with_model(std::vector<std::string> words) const {
    words.insert(words.begin() + 1, model.string());
    words.insert(words.end(), {"--precision", "f32", "--kv-type", "f32", "--json"});
    return words;
  }
  nlohmann::json eval(std::vector<std::string> options) const {
    options.insert(options.begin(), "eval");
    const Output output = run(with_model(options));
    EXPECT_EQ(output.exit_code, 0) << output.err;
    return output.json();
  }
  /// Sum of log-probabilities of tokens[scored, end), each after all before it.
  double log_likelihood(const std::vector<TokenId>& tokens, std::size_t scored) const {
    ModelOptions options;
    options.precision = ActivationPrecision::F32;
    const auto loaded = Model::load(open_checkpoint(model), options);
    KvCache cache = loaded->make_cache({DType::F32, 512});
    const SequenceId sequence = cache.create();
    Batch batch;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      batch.add(tokens[i], sequence, Position{static_cast<int>(i)}, true);
    }
    const Logits logits = loaded->forward(batch, cache);
    double total = 0;
    for (std::size_t i = scored; i < tokens.size(); ++i) {
      double sum = 0;
      for (const float logit : logits.row(i - 1)) sum += std::exp(double{logit});
      total +=
          double{logits.row(i - 1)[static_cast<std::size_t>(value(tokens[i]))]} - std::log(sum);
    }
    return total;
  }
  std::vector<TokenId> encode(const std::string& text) const {
    return load_tokenizer(*open_checkpoint(model)).encode(text, {});
  }

  TemporaryFolder folder;
  std::filesystem::path model;
};

TEST_F(EvalCommand, PerplexityIsThatOfTheTextsTokens) {
  // 96 tokens, so that two windows of 64 score the second and the last third.
  std::string text;
  for (int i = 0; i < 96; ++i) text += static_cast<char>('A' + i * i % 26);
  write_text(folder / "text.txt", text);
  const auto result =
      eval({"--perplexity", (folder / "text.txt").string(), "--window", "64"})["perplexity"];
  const std::vector<TokenId> tokens = encode(text);
  ASSERT_EQ(tokens.size(), 96U);
  const double first = log_likelihood({tokens.begin(), tokens.begin() + 64}, 32);
  const double second = log_likelihood({tokens.begin() + 32, tokens.end()}, 32);
  EXPECT_EQ(result["tokens"], 64);
  EXPECT_NEAR(result["perplexity"].get<double>(), std::exp(-(first + second) / 64), 1e-3);
}

TEST_F(EvalCommand, OfChoicesTheLikeliestIsTheModelsAnswer) {
  const std::string prompt = "Question: abc?\nAnswer:";
  const auto likelihood = [&](const std::string& choice) {
    std::vector<TokenId> tokens = encode(prompt);
    const std::size_t scored = tokens.size();
    for (const TokenId id : encode(" " + choice)) tokens.push_back(id);
    return log_likelihood(tokens, scored);
  };
  const int likelier = likelihood("xyz") > likelihood("Q7R") ? 0 : 1;
  const std::string start = R"({"question": "abc?", "choices": ["xyz", "Q7R"], "answer": )";
  write_text(folder / "right.jsonl", start + std::to_string(likelier) + "}\n");
  write_text(folder / "both.jsonl", start + "0}\n" + start + "1}\n");
  const auto right = eval({"--tasks", (folder / "right.jsonl").string()})["tasks"][0];
  EXPECT_EQ(right["kind"], "multiple_choice");
  EXPECT_EQ(right["by_likelihood"]["right"], 1);
  const auto both = eval({"--tasks", (folder / "both.jsonl").string()})["tasks"][0];
  EXPECT_EQ(both["questions"], 2);
  EXPECT_EQ(both["by_likelihood"]["right"], 1);
  EXPECT_DOUBLE_EQ(both["by_likelihood"]["accuracy"].get<double>(), 0.5);
}

TEST_F(EvalCommand, AnExactAnswerIsWhatTheModelWrites) {
  const auto said = run(with_model({"run", "abc", "-n", "12", "-t", "0"})).json()["content"];
  const nlohmann::json right{{"question", "abc"}, {"answer", said}};
  const nlohmann::json wrong{{"question", "abc"}, {"answer", said.get<std::string>() + "x"}};
  write_text(folder / "tasks.jsonl", right.dump() + "\n" + wrong.dump() + "\n");
  const auto result =
      eval({"--tasks", (folder / "tasks.jsonl").string(), "--max-tokens", "12"})["tasks"][0];
  EXPECT_EQ(result["kind"], "exact_answer");
  EXPECT_EQ(result["questions"], 2);
  EXPECT_EQ(result["exact"]["right"], 1);
}

TEST_F(EvalCommand, WithoutATaskItSaysWhatToGive) {
  const Output output = run({"eval", model.string()});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err,
              HasSubstr("give --perplexity FILE, --tasks FILE, --imatrix FILE, or several"));
}

TEST_F(EvalCommand, BenchTellsSpeedBesideTheMachinesLimits) {
  ::setenv("FATHOM_CPU", "scalar", 1);
  const Output output = run(with_model({"bench", "--prompts", "8", "--batches", "1,2", "--depths",
                                        "0,4", "--tokens", "2", "--repeat", "1"}));
  ::unsetenv("FATHOM_CPU");
  ASSERT_EQ(output.exit_code, 0) << output.err;
  const auto json = output.json();
  EXPECT_EQ(json["kernels"], "scalar") << "what ran, by the kernels' own word";
  EXPECT_EQ(json["precision"], "f32");
  EXPECT_GT(json["limits"]["read_bytes_per_second"].get<double>(), 0);
  EXPECT_GT(json["limits"]["f32_operations_per_second"].get<double>(), 0);
  ASSERT_EQ(json["measurements"].size(), 5U);  // a prompt, then batch by depth
  for (const auto& each : json["measurements"]) EXPECT_GT(each["tokens_per_second"], 0);
  EXPECT_EQ(json["measurements"][4]["batch"], 2);
  EXPECT_EQ(json["measurements"][4]["depth"], 4);
}

TEST_F(EvalCommand, AnswersOfTheSameTokensShareTheirExperts) {
  const auto bytes_read = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"bench",     FATHOM_SOURCE_DIR "/models/nano",
                                       "--prompts", "0",
                                       "--batches", "1,8",
                                       "--depths",  "0",
                                       "--tokens",  "2",
                                       "--repeat",  "1",
                                       "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Output output = run(arguments);
    EXPECT_EQ(output.exit_code, 0) << output.err;
    std::vector<double> bytes;
    const auto json = output.json();
    for (const auto& each : json["measurements"]) bytes.push_back(each["read_bytes"]);
    return bytes;
  };
  const std::vector<double> same = bytes_read({"--same-tokens"});
  const std::vector<double> others = bytes_read({});
  EXPECT_LT(same[1], 1.05 * same[0]) << "weights once, eight caches";
  EXPECT_GT(others[1], 1.2 * others[0]);
}

}  // namespace
}  // namespace fathom::test
