// The interactive chat at a terminal: commands, history, editing, stopping, folding, resizing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json_guard.h"
#include "cli/terminal_program.h"
#include "cli/tiny_model.h"

namespace fathom::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class ChatTerminal : public testing::Test {
 protected:
  ChatTerminal() : model(make_tiny_model(folder.path())) {}

  std::vector<std::string> chat(std::vector<std::string> options = {"-n", "8"}) const {
    std::vector<std::string> words{"run", model.string(), "--temperature", "0"};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  }
  /// The texts of a saved conversation with a role, one a message.
  static std::vector<std::string> saved(const std::filesystem::path& file, const char* role) {
    std::ifstream in(file);
    const auto json = nlohmann::json::parse(in, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << file << " is no conversation";
    std::vector<std::string> texts;
    for (const auto& message : json["messages"]) {
      if (message["role"] == role) texts.push_back(message["content"]);
    }
    return texts;
  }
  /// What the person has said so far.
  std::vector<std::string> questions(TerminalProgram& terminal) {
    const std::string file = (folder / "questions.json").string();
    std::filesystem::remove(file);
    terminal.say("/save " + file);
    return saved(file, "user");
  }

  TemporaryFolder folder;
  std::filesystem::path model;
};

TEST_F(ChatTerminal, GreetsAnswersAndLeaves) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  EXPECT_THAT(terminal.screen().text(), HasSubstr("tiny on fathom"));
  EXPECT_THAT(terminal.screen().text(), HasSubstr("/help lists the commands"));
  terminal.say("hello");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("> hello\n"));
  EXPECT_THAT(terminal.screen().text(), HasSubstr("[cut at max-tokens]"));
  terminal.type(key::kEnd);
  EXPECT_EQ(terminal.exit_code(), 0);
}

TEST_F(ChatTerminal, HelpNamesEveryCommandAndEachIsKnown) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.say("/help");
  for (const char* command : {"/help", "/clear", "/retry", "/system", "/set", "/think", "/save",
                              "/load", "/stats", "/exit"}) {
    EXPECT_THAT(terminal.screen().text(), HasSubstr(std::string("  ") + command + " "));
    if (std::string(command) == "/exit") continue;
    terminal.say(command);
    EXPECT_THAT(terminal.screen().text(), Not(HasSubstr(std::string("There is no ") + command)));
  }
  terminal.say("/hlep");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("There is no /hlep; /help lists the commands."));
  terminal.type(std::string("/exit") + key::kEnter);
  EXPECT_EQ(terminal.exit_code(), 0);
}

TEST_F(ChatTerminal, SettingsChangeAndBadOnesAreToldWithoutEndingTheChat) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.say("/set top-p 0.25");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("top-p is 0.25"));
  terminal.say("/set warmth 3");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("warmth"));
  terminal.say("/set temperature boiling");
  terminal.say("/set max-tokens 3");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("max-tokens is 3"));
  terminal.say("/stats on");
  terminal.say("hello");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("3 written at"));
}

TEST_F(ChatTerminal, ClearForgetsTheConversationAndRetryAsksAgain) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.say("hello");
  terminal.say("/retry");
  EXPECT_THAT(questions(terminal), testing::ElementsAre("hello"));
  terminal.say("/clear");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("The conversation is forgotten."));
  EXPECT_THAT(questions(terminal), testing::IsEmpty());
  terminal.say("/retry");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("nothing was asked yet"));
}

TEST_F(ChatTerminal, ASavedConversationGoesOnInAnotherChat) {
  const auto file = folder / "talk.json";
  {
    TerminalProgram terminal(chat(), folder.path());
    terminal.wait_for_prompt();
    terminal.say("/system be kind");
    terminal.say("hello");
    terminal.say("/save ~/talk.json");  // ~ is the home folder, as a shell would have it
  }
  const std::vector<std::string> first_answer = saved(file, "assistant");
  ASSERT_EQ(first_answer.size(), 1U);
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.say("/load " + (folder / "nothing.json").string());
  EXPECT_THAT(terminal.screen().text(), HasSubstr("nothing.json"));
  terminal.say("/load " + file.string());
  EXPECT_THAT(terminal.screen().text(), HasSubstr("3 messages from"));
  terminal.say("again");
  terminal.say("/save " + file.string());
  EXPECT_THAT(saved(file, "system"), testing::ElementsAre("be kind"));
  EXPECT_THAT(saved(file, "user"), testing::ElementsAre("hello", "again"));
  ASSERT_EQ(saved(file, "assistant").size(), 2U);
  EXPECT_EQ(saved(file, "assistant")[0], first_answer[0]);
}

TEST_F(ChatTerminal, HistoryComesBackInTheNextChatAndCanBeEdited) {
  {
    TerminalProgram terminal(chat(), folder.path());
    terminal.wait_for_prompt();
    terminal.say("first");
    terminal.say("second");
    terminal.type(key::kEnd);
    EXPECT_EQ(terminal.exit_code(), 0);
  }
  const auto history = folder.path() / ".local" / "state" / "fathom" / "history";
  EXPECT_EQ(std::filesystem::status(history).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.type(std::string(key::kUp) + key::kUp);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> first"; }))
      << terminal.screen().text();
  terminal.type(std::string(key::kLeft) + key::kLeft + "--");
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> fir--st"; }))
      << terminal.screen().text();
  terminal.type(std::string(key::kStartOfLine) + "\u00e9");
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> \u00e9fir--st"; }))
      << terminal.screen().text();
  terminal.type(key::kEnter);
  terminal.wait_for_prompt();
  EXPECT_THAT(questions(terminal), testing::ElementsAre("\u00e9fir--st"));
}

TEST_F(ChatTerminal, HistoryIsSealedUnderAKeyAndForgotten) {
  const auto history = folder.path() / ".local" / "state" / "fathom" / "history";
  const auto key = (folder.path() / "key").string();
  write_text(key, std::string(32, 'k'));
  std::filesystem::permissions(key, std::filesystem::perms::owner_read);
  std::vector<std::string> sealed = chat();
  sealed.insert(sealed.end(), {"--encryption-key", key});
  const auto talk = [&](const std::vector<std::string>& command, const std::string& line) {
    TerminalProgram terminal(command, folder.path());
    terminal.wait_for_prompt();
    terminal.say(line);
    terminal.type(key::kEnd);
    EXPECT_EQ(terminal.exit_code(), 0);
  };
  const auto raw = [&] { return read_text_file(history, 1 << 20); };
  talk(chat(), "plain canary");
  ASSERT_THAT(raw(), HasSubstr("canary"));
  talk(sealed, "sealed canary");
  EXPECT_THAT(raw(), testing::Not(HasSubstr("canary"))) << "nor what was there before";
  {
    TerminalProgram terminal(chat(), folder.path());
    terminal.wait_for("sealed under another --encryption-key");
    terminal.wait_for_prompt();
    terminal.say("without the key");
    terminal.type(key::kEnd);
    EXPECT_EQ(terminal.exit_code(), 0);
  }
  EXPECT_THAT(raw(), testing::Not(HasSubstr("without"))) << "what is sealed is left alone";
  {
    TerminalProgram terminal(sealed, folder.path());
    terminal.wait_for_prompt();
    terminal.type(std::string(key::kUp) + key::kUp);
    EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> plain canary"; }))
        << terminal.screen().text();
  }
}

TEST_F(ChatTerminal, TabCompletesACommand) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.type(std::string("/sy") + key::kTab + "be kind");
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> /system be kind"; }))
      << terminal.screen().text();
}

TEST_F(ChatTerminal, InterruptStopsTheAnswerNotTheProgram) {
  // What repeats itself is made ever likelier, in a context that takes minutes to fill. The same
  // draws each time: by others an answer may end.
  std::ifstream in(model / "config.json");
  auto config = nlohmann::json::parse(in);
  config["max_position_embeddings"] = 1'000'000;
  write_text(model / "config.json", config.dump());
  TerminalProgram terminal(
      chat({"--allow-loops", "--seed", "7", "--frequency-penalty", "-2", "--context", "1000000"}),
      folder.path());
  terminal.wait_for_prompt();
  terminal.type(std::string("hello") + key::kEnter);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().text().size() > 2000; }))
      << "the answer ended by itself: " << terminal.screen().text();
  terminal.type(key::kInterrupt);
  terminal.wait_for("[stopped]");
  terminal.wait_for_prompt();

  terminal.type("a line not sent");
  terminal.type(key::kInterrupt);
  terminal.wait_for("Ctrl-D or /exit leaves.");
  terminal.wait_for_prompt();
  EXPECT_THAT(questions(terminal), testing::ElementsAre("hello"));
  terminal.type(key::kEnd);
  EXPECT_EQ(terminal.exit_code(), 0);
}

TEST_F(ChatTerminal, SeveralLinesAreOneMessage) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  terminal.type(std::string("one \\") + key::kEnter);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "."; }));
  terminal.say("two");
  terminal.type(std::string("\"\"\"three") + key::kEnter);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "."; }));
  terminal.say("four\"\"\"");
  terminal.say(std::string(key::kPasteBegin) + "five\r/six\r" + key::kPasteEnd);
  EXPECT_THAT(questions(terminal), testing::ElementsAre("one \ntwo", "three\nfour", "five\n/six"));
}

TEST_F(ChatTerminal, AnotherWidthInMidLineLosesNothing) {
  TerminalProgram terminal(chat(), folder.path());
  terminal.wait_for_prompt();
  const std::string text = "a line that is longer than the narrow terminal will be wide";
  terminal.type(text);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> " + text; }));
  terminal.resize(24, 30);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().column() < 30; }));
  terminal.type(key::kLeft);
  terminal.type("!");
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "!e"; }))
      << terminal.screen().text();
  const std::string changed = "a line that is longer than the narrow terminal will be wid!e";
  terminal.resize(24, 100);
  EXPECT_TRUE(terminal.wait([&] { return terminal.screen().line() == "> " + changed; }))
      << terminal.screen().text();
  terminal.type(key::kEnter);
  terminal.wait_for_prompt();
  EXPECT_THAT(questions(terminal), testing::ElementsAre(changed));
}

class ThinkingTerminal : public ChatTerminal {
 protected:
  /// A template that opens the thinking, which the model's noise never closes.
  ThinkingTerminal() {
    nlohmann::ordered_json config{{"tokenizer_class", "GPT2Tokenizer"}, {"eos_token", "<|end|>"}};
    config["chat_template"] =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|><think>{% endif %}";
    write_text(model / "tokenizer_config.json", config.dump());
  }
};

TEST_F(ThinkingTerminal, ThinkingFoldsAwayAndCanBeReadAfterwards) {
  TerminalProgram terminal(chat({"-n", "300", "--allow-loops"}), folder.path());
  terminal.wait_for_prompt();
  terminal.say("hello");
  const std::string folded = terminal.screen().text();
  EXPECT_THAT(folded, HasSubstr("Thought for"));
  EXPECT_THAT(folded, Not(HasSubstr("Thinking...")));
  const std::size_t lines =
      static_cast<std::size_t>(std::count(folded.begin(), folded.end(), '\n'));
  EXPECT_LT(lines, 14U) << folded;
  terminal.say("/think");
  EXPECT_GT(terminal.screen().text().size(), folded.size() + 200) << terminal.screen().text();

  terminal.say("/think show");
  terminal.say("hello");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("Thinking..."));
  terminal.say("/clear");
  terminal.say("/think");
  EXPECT_THAT(terminal.screen().text(), HasSubstr("given without thinking"));
}

}  // namespace
}  // namespace fathom::test
