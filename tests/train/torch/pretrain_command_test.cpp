// `fathom train` as its users run it: from texts to a model, through interruptions and bad input.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <thread>
#include <utility>

#include "base/cpu_features.h"
#include "cli/run_program.h"
#include "train/torch/free_port.h"
#include "train/torch/tiny_twin.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
using namespace test;  // NOLINT
using ::testing::HasSubstr;
using train::free_port;

class PretrainCommand : public ::testing::Test {
 protected:
  PretrainCommand() {
    std::string lines;
    for (int i = 0; i < 400; ++i) {
      lines += R"({"text": "item )" + std::to_string(i) + " costs " + std::to_string(i * 3) +
               " coins\"}\n";
    }
    write_text(folder_ / "texts.jsonl", lines);
    fs::create_directories(folder_ / "model");
    write_text(folder_ / "model/config.json", train::kTinyConfig);
    const Output bpe = trainer({"bpe", folder_ / "texts.jsonl", "--vocab-size", "300", "--special",
                                "<|end|>", "-o", folder_ / "model/tokenizer.json"});
    EXPECT_EQ(bpe.exit_code, 0) << bpe.err;
    const Output corpus = trainer({"corpus", folder_ / "texts.jsonl", "--tokenizer",
                                   folder_ / "model", "-o", folder_ / "a.tokens", "--json"});
    EXPECT_EQ(corpus.exit_code, 0) << corpus.err;
    EXPECT_EQ(corpus.json().at("documents"), 400);
  }
  static Output trainer(std::vector<std::string> words) {
    words.insert(words.begin(), "train");
    return run(std::move(words));
  }
  std::vector<std::string> pretrain(const std::string& run, const std::string& tokens,
                                    const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"pretrain",     folder_ / "model",
                                   "--data",       folder_ / "a.tokens",
                                   "--run",        folder_ / run,
                                   "--tokens",     tokens,
                                   "--row-tokens", "32",
                                   "--rows",       "4",
                                   "--end",        "<|end|>",
                                   "--precision",  "f32",
                                   "--mtp",        "1",
                                   "--rate",       "5e-3",
                                   "--warmup",     "2",
                                   "--threads",    "1"};
    for (std::size_t i = 0; i < more.size(); ++i) {
      const auto there = std::ranges::find(words, more[i]);
      if (there != words.end() && i + 1 < more.size()) {
        *(there + 1) = more[++i];  // another value of what is said already
      } else {
        words.push_back(more[i]);
      }
    }
    return words;
  }
  static std::string bytes(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  TemporaryFolder folder_;
};

TEST_F(PretrainCommand, FromTextsToAModelThatRuns) {
  const Output done = trainer(pretrain("run", "8K"));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const fs::path checkpoint = done.out.substr(0, done.out.find('\n'));
  EXPECT_EQ(checkpoint.filename(), "step-00000063");
  EXPECT_THAT(done.err, HasSubstr("tokens/s"));
  EXPECT_THAT(done.err, HasSubstr("MFU"));
  const Output answer =
      run({"run", checkpoint, "--raw", "--temperature", "0", "--max-tokens", "4", "item 12"});
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
  const Output shown = run({"show", checkpoint, "--json"});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;

  // The model goes on to answers, and to rewards.
  write_text(folder_ / "qa.jsonl",
             "{\"prompt\": \"item 1 costs\", \"answer\": \" 3 coins\"}\n"
             "{\"prompt\": \"item 2 costs\", \"answer\": \" 6 coins\"}\n");
  const Output tuned = trainer({"sft",          checkpoint,
                                "--data",       folder_ / "qa.jsonl",
                                "--run",        folder_ / "sft",
                                "--epochs",     "4",
                                "--row-tokens", "64",
                                "--rows",       "1",
                                "--rate",       "1e-3",
                                "--end",        "<|end|>",
                                "--precision",  "f32",
                                "--threads",    "1",
                                "--json"});
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  EXPECT_TRUE(fs::exists(folder_ / "sft/step-00000004/model.safetensors"));
  const Output dry = trainer({"grpo",         folder_ / "sft/step-00000004",
                              "--tasks",      folder_ / "qa.jsonl",
                              "--run",        folder_ / "rl",
                              "--steps",      "200",
                              "--questions",  "2",
                              "--group",      "4",
                              "--max-tokens", "4",
                              "--end",        "<|end|>",
                              "--threads",    "1",
                              "--dry-run",    "--json"});
  ASSERT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_GT(dry.json().at("seconds").get<double>(), 0);
  EXPECT_GT(dry.json().at("flop").get<double>(), 1e6);
  EXPECT_GT(dry.json().at("peak_memory_bytes").get<double>(), 1e7);
  EXPECT_FALSE(fs::exists(folder_ / "rl"));
  const Output rewarded = trainer({"grpo",         folder_ / "sft/step-00000004",
                                   "--tasks",      folder_ / "qa.jsonl",
                                   "--run",        folder_ / "rl",
                                   "--steps",      "2",
                                   "--questions",  "2",
                                   "--group",      "4",
                                   "--max-tokens", "4",
                                   "--reward",     "pattern= .*",
                                   "--reward",     "exact*0.5",
                                   "--end",        "<|end|>",
                                   "--threads",    "1"});
  ASSERT_EQ(rewarded.exit_code, 0) << rewarded.err;
  EXPECT_THAT(rewarded.err, HasSubstr("step 2/2  reward "));
  EXPECT_TRUE(fs::exists(folder_ / "rl/step-00000002/config.json"));
}

using Environment = std::vector<std::pair<std::string, std::string>>;

/// Starts `fathom train`, and does not wait for it; its stderr goes to a file.
pid_t start(const std::vector<std::string>& words, const fs::path& err,
            const Environment& environment = {}) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<std::string> all{program(), "train"};
  all.insert(all.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& word : all) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::dup2(::open("/dev/null", O_WRONLY), 1);
  ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

/// What torchrun would say to one of two ranks.
Environment rank(int number, int port) {
  return {{"RANK", std::to_string(number)},
          {"WORLD_SIZE", "2"},
          {"MASTER_ADDR", "localhost"},
          {"MASTER_PORT", std::to_string(port)}};
}

/// Two ranks that have written their fifth step into folder/run.
std::pair<pid_t, pid_t> start_ranks(const std::vector<std::string>& words, const fs::path& folder) {
  const int port = free_port();
  const pid_t first = start(words, folder / "0.err", rank(0, port));
  const pid_t second = start(words, folder / "1.err", rank(1, port));
  for (int i = 0; i < 600 && !fs::exists(folder / "run/step-00000005"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return {first, second};
}

TEST_F(PretrainCommand, KilledAtAnyTimeItGoesOnAndEndsTheSame) {
  const Output whole = trainer(pretrain("whole", "12K", {"--save-every", "10"}));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const auto words = pretrain("killed", "12K", {"--save-every", "10"});
  int kills = 0;
  for (int attempt = 0; attempt < 12; ++attempt) {
    const pid_t child = start(words, folder_ / "err");
    std::this_thread::sleep_for(std::chrono::milliseconds(900 + attempt * 137));
    kills += ::kill(child, SIGKILL) == 0;
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) break;
  }
  EXPECT_GT(kills, 0);
  const Output last = trainer(words);
  ASSERT_EQ(last.exit_code, 0) << last.err;
  const std::string name = "step-00000094/model.safetensors";
  EXPECT_EQ(bytes(folder_ / "whole" / name), bytes(folder_ / "killed" / name));
  EXPECT_FALSE(bytes(folder_ / "whole" / name).empty());
}

TEST_F(PretrainCommand, ARanksDeathEndsTheJobAndAnotherNumberOfRanksGoesOn) {
  // Patience, since Gloo has once not told a rank that sent, as the other died, of its end.
  const auto words = pretrain(
      "run", "12K",
      {"--save-every", "5", "--expert-parallel", "--rate", "1e-3", "--rank-patience", "60"});
  const auto [first, second] = start_ranks(words, folder_.path());
  ::kill(second, SIGKILL);
  int status = 0;
  ::waitpid(second, &status, 0);
  ::waitpid(first, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(bytes(folder_ / "0.err"), HasSubstr("rank 0 of 2 has lost the others"));
  EXPECT_THAT(bytes(folder_ / "0.err"), HasSubstr("fathom: "));

  auto alone = words;
  std::erase(alone, "--expert-parallel");
  const Output rest = trainer(alone);
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("goes on from step "));
  EXPECT_TRUE(fs::exists(folder_ / "run/step-00000094/model.safetensors"));
}

TEST_F(PretrainCommand, ARankThatSaysNothingIsWaitedForWithPatience) {
  const auto words = pretrain("run", "12K", {"--save-every", "5", "--rank-patience", "10"});
  const auto [first, second] = start_ranks(words, folder_.path());
  ::kill(second, SIGSTOP);
  int status = 0;
  ::waitpid(first, &status, 0);
  ::kill(second, SIGKILL);
  ::waitpid(second, nullptr, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(bytes(folder_ / "0.err"), HasSubstr("rank 0 of 2 has lost the others"));
}

TEST_F(PretrainCommand, TorchrunStartsRanks) {
  const std::string python = FATHOM_SOURCE_DIR "/.cache/torch/bin/python";
  auto words = pretrain("run", "4K", {"--prompt", "item 1", "--expert-parallel"});
  words.insert(words.begin(), {"-m", "torch.distributed.run", "--no-python", "--nproc-per-node",
                               "2", "--master-addr", "127.0.0.1", "--master-port",
                               std::to_string(free_port()), "--", program(), "train"});
  const Output done = run(words, "", python);
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.err, HasSubstr("2 ranks"));
  const fs::path checkpoint = done.out.substr(0, done.out.find('\n'));
  EXPECT_EQ(checkpoint.filename(), "step-00000032");
  EXPECT_TRUE(fs::exists(checkpoint / "model-00002-of-00002.safetensors"));
  const Output answer =
      run({"run", checkpoint, "--raw", "--temperature", "0", "--max-tokens", "4", "item 12"});
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
}

TEST_F(PretrainCommand, ADryRunTellsAndLeavesNothing) {
  const Output told =
      trainer(pretrain("run", "1M", {"--dry-run", "--json", "--dollars-per-hour", "2"}));
  ASSERT_EQ(told.exit_code, 0) << told.err;
  const auto json = told.json();
  EXPECT_GT(json.at("tokens_per_s").get<double>(), 0);
  EXPECT_NEAR(json.at("seconds").get<double>(), 1e6 / json.at("tokens_per_s").get<double>(), 1);
  EXPECT_GT(json.at("dollars").get<double>(), 0);
  EXPECT_GT(json.at("peak_memory_bytes").get<double>(), 1e7);
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

TEST_F(PretrainCommand, BFloat16IsChosenOnlyWhereItIsMultiplied) {
  const auto chosen = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--dry-run", "--json", "--device", "cpu"});
    const Output told = trainer(pretrain("run", "1M", more));
    EXPECT_EQ(told.exit_code, 0) << told.err;
    return told.json().at("precision").get<std::string>();
  };
  const bool multiplied = cpu_features().avx512_bf16 || cpu_features().amx_bf16;
  EXPECT_EQ(chosen({"--precision", "auto"}), multiplied ? "bf16" : "f32");
  for (const char* precision : {"f32", "bf16", "fp8"}) {
    EXPECT_EQ(chosen({"--precision", precision}), precision);
  }
}

TEST_F(PretrainCommand, WhatIsWrongIsSaidInOneLine) {
  const auto told = [](const Output& output) {
    EXPECT_EQ(output.exit_code, 1);
    EXPECT_EQ(output.error_lines(), 1U) << output.err;
    return output.err;
  };
  write_text(folder_ / "bad.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n");
  EXPECT_THAT(told(trainer({"corpus", folder_ / "bad.jsonl", "--tokenizer", folder_ / "model", "-o",
                            folder_ / "x"})),
              HasSubstr("bad.jsonl, line 2: there is no field 'text'"));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
  EXPECT_THAT(told(trainer(pretrain("run", "many"))), HasSubstr("--tokens many"));
  EXPECT_THAT(told(trainer(pretrain("run", "1K", {"--schedule", "zigzag"}))), HasSubstr("zigzag"));
  EXPECT_THAT(told(trainer(pretrain("run", "1K", {"--row-tokens", "4096"}))),
              HasSubstr("has 128 positions"));
  EXPECT_THAT(told(trainer(pretrain("run", "1K", {"--fim", "0.1"}))),
              HasSubstr("fill-in-the-middle"));
  write_text(folder_ / "model/config.json", [] {
    std::string smaller = train::kTinyConfig;
    return smaller.replace(smaller.find("\"vocab_size\": 300"), 17, "\"vocab_size\": 200");
  }());
  EXPECT_THAT(told(trainer(pretrain("run2", "1K"))),
              HasSubstr("the tokenizer has 300 tokens, but the model's vocab_size is 200"));
}

}  // namespace
}  // namespace fathom
