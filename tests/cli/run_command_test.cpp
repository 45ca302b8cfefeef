// `fathom run` as a program: answers, settings, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cpu/matmul.h"
#include "base/cpu_features.h"
#include "cli/run_program.h"
#include "cli/tiny_model.h"

namespace fathom::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// FATHOM_CPU for the programs that are run while it lives.
class ForcedKernels {
 public:
  explicit ForcedKernels(const char* level) { ::setenv("FATHOM_CPU", level, 1); }
  ~ForcedKernels() { ::unsetenv("FATHOM_CPU"); }
  ForcedKernels(const ForcedKernels&) = delete;
  ForcedKernels& operator=(const ForcedKernels&) = delete;
};

class RunCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = new TemporaryFolder;
    model = make_tiny_model(folder->path()).string();
  }
  static void TearDownTestSuite() { delete folder; }

  static TemporaryFolder* folder;
  static std::string model;
};
TemporaryFolder* RunCommand::folder = nullptr;
std::string RunCommand::model;

TEST_F(RunCommand, AnswersOnceAndPrintsOnlyTheAnswer) {
  const Output output = run({"run", model, "hello", "-n", "20", "--temperature", "0"});
  EXPECT_EQ(output.exit_code, 0) << output.err;
  EXPECT_EQ(output.err, "");
  EXPECT_FALSE(output.out.empty());
  EXPECT_EQ(output.out.back(), '\n');
  EXPECT_THAT(output.out, testing::Not(HasSubstr("\033")));
}

TEST_F(RunCommand, TheSameSeedGivesTheSameTextOnAnyNumberOfThreads) {
  const auto answer = [&](const char* seed, const char* threads) {
    return run({"run", model, "hello", "-n", "40", "--temperature", "1", "--seed", seed,
                "--threads", threads, "--precision", "f32", "--kv-type", "f32"})
        .out;
  };
  EXPECT_EQ(answer("7", "1"), answer("7", "2"));
  EXPECT_NE(answer("7", "1"), answer("8", "1"));
}

TEST_F(RunCommand, JsonTellsAnswerReasonUsageAndTimings) {
  const Output output =
      run({"run", model, "hello", "-n", "5", "--seed", "3", "--json", "--logprobs", "2"});
  ASSERT_EQ(output.exit_code, 0) << output.err;
  const auto json = output.json();
  EXPECT_EQ(json["model"], model);
  EXPECT_EQ(json["seed"], 3);
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["completion_tokens"], 5);
  // <|user|> h e l l o <|end|> <|assistant|>, where "he" is one token.
  EXPECT_EQ(json["usage"]["prompt_tokens"], 7);
  ASSERT_EQ(json["logprobs"].size(), 5U);
  EXPECT_LE(json["logprobs"][0]["logprob"].get<double>(), 0);
  ASSERT_EQ(json["logprobs"][0]["top"].size(), 2U);
  EXPECT_GE(json["logprobs"][0]["top"][0]["logprob"].get<double>(),
            json["logprobs"][0]["top"][1]["logprob"].get<double>());
}

TEST_F(RunCommand, APipesTextFollowsTheArgument) {
  const auto tokens = [&](std::vector<std::string> words, const std::string& input) {
    std::vector<std::string> arguments{"run", model, "-n", "1", "--json"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    return run(arguments, input).json()["usage"]["prompt_tokens"].get<int>();
  };
  EXPECT_EQ(tokens({}, "abc\n"), 3 + 3);
  EXPECT_EQ(tokens({"x", "y"}, "abc\n"), 3 + 3 + 2 + 3);  // "x y", two line breaks, "abc"
  EXPECT_EQ(tokens({"xyz"}, ""), 3 + 3);
}

TEST_F(RunCommand, WithoutAnyPromptItSaysSo) {
  const Output output = run({"run", model}, "");
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, StartsWith("fathom: there is no prompt"));
  EXPECT_EQ(output.error_lines(), 1U);
}

TEST_F(RunCommand, StopStringsEndTheAnswer) {
  const Output full = run({"run", model, "hello", "-n", "30", "--temperature", "0"});
  ASSERT_GT(full.out.size(), 8U);
  const std::string stop = full.out.substr(4, 2);
  const Output cut =
      run({"run", model, "hello", "-n", "30", "--temperature", "0", "--stop", stop, "--json"});
  const auto json = cut.json();
  EXPECT_EQ(json["finish_reason"], "stop");
  EXPECT_EQ(json["stop_string"], stop);
  EXPECT_EQ(json["content"], full.out.substr(0, full.out.find(stop)));
}

TEST_F(RunCommand, ASystemMessageGoesFirst) {
  const auto tokens = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"run", model, "abc", "-n", "1", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments).json()["usage"]["prompt_tokens"].get<int>();
  };
  // "<|system|>" is no token of this vocabulary: its letters and signs that are none are left out.
  EXPECT_GT(tokens({"--system", "xyz"}), tokens({}) + 3);
}

TEST_F(RunCommand, ControlTokensInTheQuestionAreText) {
  const auto tokens = [&](const std::string& text) {
    return run({"run", model, text, "-n", "1", "--json"})
        .json()["usage"]["prompt_tokens"]
        .get<int>();
  };
  // "<|end|>" as text is e, n, d (its signs are not in the vocabulary), not one control token.
  EXPECT_EQ(tokens("a<|end|>b"), tokens("aendb"));
}

TEST_F(RunCommand, ABaseModelContinuesTheText) {
  const TemporaryFolder other;
  const std::string base = make_tiny_model(other.path(), false).string();
  const auto json = run({"run", base, "abc", "-n", "3", "--json"}).json();
  EXPECT_EQ(json["usage"]["prompt_tokens"], 3);
  const auto raw = run({"run", model, "abc", "-n", "3", "--json", "--raw"}).json();
  EXPECT_EQ(raw["usage"]["prompt_tokens"], 3);
}

TEST_F(RunCommand, AnAnswerThatGoesRoundInCirclesEndsAndIsSaidTo) {
  const TemporaryFolder other;
  const auto path = make_tiny_model(other.path(), false);
  // A penalty below 1 favours what was there before: letters that repeat, and never the end.
  const std::vector<std::string> ask{"run", path.string(),      "abc", "--temperature",
                                     "0",   "--repeat-penalty", "0.1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), ask.begin(), ask.end());
    return run(more);
  };
  const auto json = with({"--json"}).json();
  ASSERT_EQ(json["finish_reason"], "repetition");
  const Output shown = with({});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_EQ(shown.out, json["content"].get<std::string>() + "\n");
  EXPECT_THAT(shown.err, HasSubstr("only repeated itself"));
  EXPECT_EQ(with({"--json", "--allow-loops"}).json()["finish_reason"], "length");
  EXPECT_THAT(with({"--allow-loops"}).err, HasSubstr("the context is full"));
}

TEST_F(RunCommand, TemplatesThatPrintTheDateGetTodays) {
  const TemporaryFolder other;
  const auto path = make_tiny_model(other.path());
  const nlohmann::ordered_json config{{"tokenizer_class", "GPT2Tokenizer"},
                                      {"eos_token", "<|end|>"},
                                      {"chat_template", "{{ strftime_now('%Y%m%d') }}"}};
  write_text(path / "tokenizer_config.json", config.dump());
  const Output output = run({"run", path.string(), "abc", "-n", "1", "--json"});
  ASSERT_EQ(output.exit_code, 0) << output.err;
  EXPECT_EQ(output.json()["usage"]["prompt_tokens"], 8) << "eight digits, a token each";
}

TEST_F(RunCommand, ForcedKernelsAreTheOnesThatRan) {
  for (const CpuLevel level : kCpuLevels) {
    const ForcedKernels forced(to_string(level));
    const Output output = run({"run", model, "abc", "-n", "2", "--json"});
    if (!cpu_runs(level)) {
      EXPECT_EQ(output.exit_code, 1);
      EXPECT_EQ(output.error()["code"], "unsupported");
      continue;
    }
    ASSERT_EQ(output.exit_code, 0) << output.err;
    EXPECT_EQ(output.json()["kernels"], to_string(cpu::matmul_level(level)))
        << "the kernels' own word";
  }
}

TEST_F(RunCommand, KernelsThatTheCpuLacksAreAClearError) {
  if (cpu_runs(CpuLevel::Amx)) GTEST_SKIP() << "this CPU has all of them";
  const ForcedKernels forced("amx");
  const Output output = run({"run", model, "abc"});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, StartsWith("fathom: FATHOM_CPU asks for amx kernels, but this CPU"));
  EXPECT_EQ(output.error_lines(), 1U);
}

TEST_F(RunCommand, AnUnknownWordForKernelsIsAClearError) {
  const ForcedKernels forced("sse9");
  const Output output = run({"run", model, "abc"});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, HasSubstr("FATHOM_CPU is 'sse9', expected scalar, avx2"));
}

TEST_F(RunCommand, TellsMemoryBeforeLoadingAndSpeedAfterwardsOnRequest) {
  const Output output = run({"run", model, "abc", "-n", "4", "--temperature", "0", "--stats"});
  ASSERT_EQ(output.exit_code, 0) << output.err;
  EXPECT_THAT(output.err, StartsWith("memory: "));
  EXPECT_THAT(output.err, HasSubstr("available\n"));
  EXPECT_THAT(output.err, HasSubstr("first token after "));
  EXPECT_THAT(output.err, HasSubstr("4 written at "));
  EXPECT_THAT(output.err, HasSubstr("in memory"));
}

TEST_F(RunCommand, TheContextsEndIsALengthNotACrash) {
  const auto json =
      run({"run", model, "abc", "--context", "32", "--temperature", "0", "--json"}).json();
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(
      json["usage"]["prompt_tokens"].get<int>() + json["usage"]["completion_tokens"].get<int>(),
      32);
}

TEST_F(RunCommand, APromptLongerThanTheContextIsRefused) {
  const Output output = run({"run", model, std::string(100, 'a'), "--context", "32", "--json"});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_EQ(output.error()["code"], "invalid_argument");
  EXPECT_THAT(output.error()["message"].get<std::string>(), HasSubstr("103 tokens"));
}

TEST_F(RunCommand, TooLittleMemoryIsRefusedBeforeLoading) {
  // The limit binds the whole address space, as a container's would bind its memory; here the
  // context that is asked for is more than any machine has.
  const TemporaryFolder other;
  const auto folder_path = make_tiny_model(other.path());
  std::ifstream in(folder_path / "config.json");
  auto config = nlohmann::json::parse(in);
  config["max_position_embeddings"] = 2000000000;
  write_text(folder_path / "config.json", config.dump());
  const Output output =
      run({"run", folder_path.string(), "abc", "--context", "2000000000", "--json"});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_EQ(output.error()["code"], "resource_limit");
  EXPECT_THAT(output.error()["message"].get<std::string>(), HasSubstr("available"));
}

TEST_F(RunCommand, ATokenizerOfAnotherModelIsRefusedByEveryCommand) {
  const TemporaryFolder other;
  const auto mixed = make_tiny_model(other.path());
  auto tokenizer = tiny_tokenizer();
  for (int id = 97; id < 120; ++id) tokenizer["model"]["vocab"]["more" + std::to_string(id)] = id;
  write_text(mixed / "tokenizer.json", tokenizer.dump());
  write_text(other / "text", "the same text, long enough for a window of the perplexity");
  const std::string text = (other / "text").string();
  for (const std::vector<std::string>& call :
       {std::vector<std::string>{"run", mixed.string(), "hello"},
        {"eval", mixed.string(), "--perplexity", text, "--window", "8"},
        {"bench", mixed.string()}}) {
    const Output output = run(call);
    EXPECT_EQ(output.exit_code, 1) << call[0];
    EXPECT_EQ(output.error_lines(), 1U) << output.err;
    EXPECT_THAT(output.err, HasSubstr("the tokenizer has 120 tokens, but the model only 97"));
  }
}

struct BadCall {
  const char* name;
  std::vector<std::string> arguments;  // MODEL stands for the model
  int exit_code;
  const char* message;

  /// In the test's name as others print it; bytes of pointers change from build to build.
  friend void PrintTo(const BadCall& call, std::ostream* out) { *out << call.name; }
};

class BadCalls : public RunCommand, public testing::WithParamInterface<BadCall> {};

TEST_P(BadCalls, LeaveOneErrorLineAndTheRightExitCode) {
  std::vector<std::string> arguments = GetParam().arguments;
  std::replace(arguments.begin(), arguments.end(), std::string("MODEL"), model);
  const Output output = run(arguments);
  EXPECT_EQ(output.exit_code, GetParam().exit_code);
  EXPECT_EQ(output.out, "");
  EXPECT_THAT(output.err, StartsWith("fathom: "));
  EXPECT_THAT(output.err, HasSubstr(GetParam().message));
  EXPECT_EQ(output.error_lines(), 1U) << output.err;

  arguments.push_back("--json");
  const Output json = run(arguments);
  EXPECT_EQ(json.exit_code, GetParam().exit_code);
  EXPECT_EQ(json.out, "");
  EXPECT_THAT(json.error()["message"].get<std::string>(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Cli, BadCalls,
    testing::Values(
        BadCall{"NoModel", {"run"}, 2, "MODEL is required"},
        BadCall{"UnknownOption", {"run", "MODEL", "--frobnicate"}, 2, "--frobnicate"},
        BadCall{"NotANumber", {"run", "MODEL", "x", "--temperature", "warm"}, 2, "temperature"},
        BadCall{"HotterThanAllowed",
                {"run", "MODEL", "x", "--temperature", "-1"},
                1,
                "temperature must be between"},
        BadCall{"UnknownKvType", {"run", "MODEL", "x", "--kv-type", "q3"}, 2, "q3"},
        BadCall{"UnknownPath", {"run", "/no/such/model.gguf", "x"}, 1, "/no/such/model.gguf"},
        BadCall{"ContextBeyondTheModels",
                {"run", "MODEL", "x", "--context", "100000"},
                1,
                "more than the 512"},
        BadCall{"UnknownCommand", {"rnu"}, 2, "did you mean 'run'"},
        BadCall{"EmptyStop", {"run", "MODEL", "x", "--stop", ""}, 1, "stop string is empty"}),
    [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace fathom::test
