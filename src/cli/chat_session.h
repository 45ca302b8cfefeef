// A conversation with a model: what was said, and asking for the next answer.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/answer_printer.h"
#include "cli/chat_settings.h"
#include "engine/chat.h"
#include "engine/engine.h"

namespace fathom {

/// One answer, as it turned out.
struct Turn {
  std::string answer;
  std::string reasoning;
  std::vector<SampledToken> tokens;  // with settings.sampling.logprobs only
  std::uint64_t seed = 0;
  Finished end;
};

class ChatSession {
 public:
  /// format: nullptr for a base model, which continues the text it is given. Both must outlive the
  /// session.
  ChatSession(Engine& engine, const ChatFormat* format, ChatSettings settings);

  ChatSettings settings;

  /// Says `text` and prints the answer as it comes. Ctrl-C (see InterruptGuard) ends it early; what
  /// was said so far stays in the conversation. Throws Error when there is no answer; the
  /// conversation is then as before.
  Turn ask(const std::string& text, AnswerPrinter& printer);
  /// Asks the last question again, forgetting its answer. Error(InvalidArgument) if there is none.
  Turn retry(AnswerPrinter& printer);

  /// Forgets everything but the system message.
  void clear();
  void set_system(const std::string& text);  // "" takes it away
  const nlohmann::ordered_json& messages() const { return messages_; }
  const std::string& last_reasoning() const { return last_reasoning_; }

  /// The conversation and its settings as a JSON file. Throws Error(Io).
  void save(const std::filesystem::path& path, const std::string& model) const;
  /// Throws Error(NotFound | Corrupt); the conversation is then as before.
  void load(const std::filesystem::path& path);

 private:
  Turn answer(AnswerPrinter& printer);
  Request make_request(std::uint64_t seed) const;
  void drop_last(const char* role);

  Engine& engine_;
  const ChatFormat* format_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  std::string last_reasoning_;
};

/// Whether the prompt and its answer took all of the context.
bool fills_context(const Usage& usage, const Engine& engine);

/// "24 tokens read at 310 tokens/s, first token after 0.08 s, 120 written at 96 tokens/s, 210 MiB"
std::string describe_usage(const Usage& usage);

}  // namespace fathom
