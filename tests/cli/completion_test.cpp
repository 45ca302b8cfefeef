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
  EXPECT_EQ(bash_offers("fathom run --kv-type "), "bf16\nf16\nq8\nf32\n");
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

/// What is wrong with a shell script's brackets and quotes, as far as one can tell without the
/// shell; "" if nothing.
std::string imbalance(const std::string& script) {
  std::string open;
  bool comment = false;
  for (std::size_t i = 0; i < script.size(); ++i) {
    const char c = script[i];
    if (comment) {
      comment = c != '\n';
    } else if (c == '\\') {
      ++i;
    } else if (!open.empty() && open.back() == '\'') {
      if (c == '\'') open.pop_back();
    } else if (c == '\'') {
      open += c;
    } else if (c == '"') {
      if (!open.empty() && open.back() == '"') {
        open.pop_back();
      } else {
        open += c;
      }
    } else if (c == '#' && (i == 0 || script[i - 1] == '\n')) {
      comment = true;
    } else if (c == '(' || c == '{') {
      open += c;
    } else if (c == '}' || c == ')') {
      const char begin = c == '}' ? '{' : '(';
      if (!open.empty() && open.back() == begin) {
        open.pop_back();
      } else if (c == '}' || open.empty() || open.back() != '{') {  // "word)" of a case is no end
        return "a " + std::string(1, c) + " too many after: " +
               script.substr(i < 80 ? 0 : i - 80, std::min<std::size_t>(i, 80));
      }
    }
  }
  return open.empty() ? "" : "left open: " + open;
}

// The formatter once took the script's raw strings for code: "${(f)" became "${ (f)", and zsh
// refused it. This needs no zsh to notice.
TEST(Completion, TheZshScriptIsAsItWasWritten) {
  const std::string script = run({"completion", "zsh"}).out;
  EXPECT_THAT(script, testing::StartsWith("#compdef fathom\n"));
  EXPECT_EQ(imbalance(script), "");
  EXPECT_THAT(script, HasSubstr("\n  models=(${(f)\"$(fathom list --json 2>/dev/null | grep"));
  EXPECT_THAT(script, HasSubstr("\n_fathom_models() {\n"));
  EXPECT_THAT(script, HasSubstr("\n_fathom() {\n"));
  EXPECT_THAT(script,
              HasSubstr("\n  case $state in\n    command) _describe command commands ;;\n"));
  for (const char* command : {"run", "pull", "show", "bench", "completion", "man"}) {
    EXPECT_THAT(script, HasSubstr(std::string("\n    '") + command + ":")) << "offered";
    EXPECT_THAT(script, HasSubstr(std::string("\n        ") + command + ")\n          _arguments"));
  }
  EXPECT_THAT(script, HasSubstr("'--precision["));
  EXPECT_THAT(script, testing::EndsWith(
                          "if [ \"$funcstack[1]\" = _fathom ]; then _fathom \"$@\"; else compdef "
                          "_fathom fathom; fi\n"));
  EXPECT_EQ(imbalance(run({"completion", "bash"}).out), "");
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
