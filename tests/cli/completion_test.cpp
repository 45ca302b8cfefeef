// The completion scripts, sourced in the shells they are for; the manual page; help of all
// commands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/run_program.h"

namespace fathom::test {
namespace {

using testing::HasSubstr;
using testing::Not;

/// What bash offers after `line`, one word a line.
std::string bash_offers(const std::string& line) {
  const TemporaryFolder folder;
  const std::string last_word = line.substr(line.find_last_of(' ') + 1);
  const auto words = std::count(line.begin(), line.end(), ' ');
  write_text(folder / "test.sh", "set -e\nPATH=" FATHOM_BINARY_DIR
                                 "/bin:$PATH\n"
                                 "source <(fathom completion bash)\n"
                                 "COMP_LINE='" +
                                     line +
                                     "'; COMP_POINT=${#COMP_LINE}\n"
                                     "COMP_WORDS=($COMP_LINE); COMP_CWORD=" +
                                     std::to_string(words) +
                                     "\n"
                                     "_fathom\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n");
  const Output output = run({(folder / "test.sh").string()}, {}, "bash");
  EXPECT_EQ(output.exit_code, 0) << output.err;
  EXPECT_EQ(output.err, "");
  return output.out;
}

TEST(Completion, BashOffersCommandsOptionsAndValues) {
  EXPECT_THAT(bash_offers("fathom to"), HasSubstr("tokenize"));
  EXPECT_THAT(bash_offers("fathom to"), Not(HasSubstr("run")));
  EXPECT_THAT(bash_offers("fathom run --tem"), HasSubstr("--temperature"));
  EXPECT_EQ(bash_offers("fathom run --kv-type "), "bf16\nf32\n");
  EXPECT_EQ(bash_offers("fathom completion z"), "zsh\n");
  EXPECT_EQ(bash_offers("fathom run --seed 1"), "\n");
}

TEST(Completion, ZshAcceptsTheScript) {
  if (run({"-c", "true"}, {}, "zsh").exit_code != 0) GTEST_SKIP() << "zsh is not installed";
  const TemporaryFolder folder;
  write_text(folder / "test.zsh", "path=(" FATHOM_BINARY_DIR
                                  "/bin $path)\n"
                                  "autoload -Uz compinit && compinit -u -d " +
                                      (folder / "dump").string() +
                                      "\n"
                                      "source <(fathom completion zsh)\n"
                                      "print -r -- $_comps[fathom]\n"
                                      "whence -w _fathom _fathom_models\n");
  const Output output = run({"-f", (folder / "test.zsh").string()}, {}, "zsh");
  EXPECT_EQ(output.exit_code, 0) << output.err;
  EXPECT_EQ(output.err, "");
  EXPECT_THAT(output.out, HasSubstr("_fathom: function"));
}

TEST(Completion, AnotherShellIsRefused) {
  const Output output = run({"completion", "fish"});
  EXPECT_EQ(output.exit_code, 2);
  EXPECT_THAT(output.err, HasSubstr("fish"));
}

TEST(Manual, TheCommittedPageIsTheProgramsOwn) {
  std::ifstream file(FATHOM_SOURCE_DIR "/docs/fathom.1");
  const std::string committed((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(run({"man"}).out, committed) << "run: build/release/bin/fathom man > docs/fathom.1";
}

TEST(Help, EveryCommandExplainsItself) {
  const std::string all = run({"--help"}).out;
  for (const char* command : {"run", "show", "bench", "eval", "convert", "quantize", "tokenize",
                              "detokenize", "completion", "man"}) {
    EXPECT_THAT(all, HasSubstr(command));
    const Output help = run({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.out, HasSubstr(std::string("fathom ") + command));
  }
  const Output version = run({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, testing::StartsWith("fathom "));
}

TEST(Output, AFullDiskIsAnError) {
  const TemporaryFolder folder;
  write_text(folder / "test.sh", program() + " man > /dev/full\n");
  const Output output = run({(folder / "test.sh").string()}, {}, "bash");
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, HasSubstr("standard output could not be written"));
}

}  // namespace
}  // namespace fathom::test
