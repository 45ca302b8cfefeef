#include "cli/chat_session.h"

#include <fmt/format.h>

#include <chrono>
#include <random>
#include <utility>
#include <variant>

#include "base/atomic_file.h"
#include "base/file_map.h"
#include "base/memory.h"
#include "base/progress.h"
#include "cli/interrupt.h"

namespace fathom {
namespace {

constexpr const char* kFormat = "fathom-conversation-1";
constexpr std::size_t kMaxConversation = std::size_t{256} << 20;

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

bool is_message(const nlohmann::ordered_json& message) {
  return message.is_object() && message.contains("role") && message["role"].is_string() &&
         message.contains("content") && message["content"].is_string();
}

}  // namespace

ChatSession::ChatSession(Engine& engine, const ChatFormat* format, ChatSettings with)
    : settings(std::move(with)), engine_(engine), format_(format) {}

Turn ChatSession::ask(const std::string& text, AnswerPrinter& printer) {
  const nlohmann::ordered_json before = messages_;
  messages_.push_back({{"role", "user"}, {"content", text}});
  try {
    return answer(printer);
  } catch (...) {
    messages_ = before;
    throw;
  }
}

Turn ChatSession::retry(AnswerPrinter& printer) {
  const nlohmann::ordered_json before = messages_;
  drop_last("assistant");
  require(!messages_.empty() && messages_.back()["role"] == "user", ErrorCode::InvalidArgument,
          "nothing was asked yet");
  try {
    return answer(printer);
  } catch (...) {
    messages_ = before;
    throw;
  }
}

Request ChatSession::make_request(std::uint64_t seed) const {
  Request request;
  request.sampling = settings.sampling;
  request.sampling.seed = seed;
  request.max_tokens = settings.max_tokens;
  request.stop_strings = settings.stop;
  request.stop_repetition = settings.stop_loops;
  const auto ends = engine_.tokenizer().end_of_generation();
  request.stop_tokens.assign(ends.begin(), ends.end());
  if (format_ == nullptr) {
    // A base model knows no turns: it goes on with the last text.
    request.prompt = engine_.tokenizer().encode(messages_.back()["content"].get<std::string>());
    request.continues_text = true;
    return request;
  }
  ChatOptions options;
  options.think = settings.think;
  options.now = local_time();
  ChatPrompt prompt = format_->prompt(messages_, options);
  request.prompt = std::move(prompt.tokens);
  request.reasoning = std::move(prompt.reasoning);
  return request;
}

Turn ChatSession::answer(AnswerPrinter& printer) {
  Turn turn;
  turn.seed = settings.seed ? *settings.seed : random_seed();
  Stream stream = engine_.submit(make_request(turn.seed));
  const auto start = std::chrono::steady_clock::now();
  bool told = false;  // the person sees that something happens
  while (!stream.over()) {
    if (InterruptGuard::take()) stream.cancel();
    auto event = stream.next_for(std::chrono::milliseconds(30));
    if (!event) {
      if (!told && std::chrono::steady_clock::now() - start > std::chrono::milliseconds(400)) {
        printer.status("reading the prompt");
        told = true;
      }
      continue;
    }
    told = true;
    if (const auto* progress = std::get_if<PromptProgress>(&*event)) {
      printer.status(
          fmt::format("reading the prompt, {}%", progress->done * 100 / progress->total));
    } else if (auto* delta = std::get_if<Delta>(&*event)) {
      printer.print(delta->channel, delta->text);
      (delta->channel == Channel::Answer ? turn.answer : turn.reasoning) += delta->text;
      if (delta->token && settings.sampling.logprobs) turn.tokens.push_back(*delta->token);
    } else {
      turn.end = std::get<Finished>(std::move(*event));
    }
  }
  printer.finish();
  if (turn.end.error) throw Error(*turn.end.error);
  last_reasoning_ = turn.reasoning;
  // An answer that was stopped before its first word leaves no trace: the question can be asked
  // anew.
  if (turn.answer.empty() && turn.end.reason == FinishReason::Cancelled) {
    drop_last("user");
  } else {
    nlohmann::ordered_json message{{"role", "assistant"}, {"content", turn.answer}};
    if (!turn.reasoning.empty()) message["reasoning_content"] = turn.reasoning;
    messages_.push_back(std::move(message));
  }
  return turn;
}

void ChatSession::drop_last(const char* role) {
  if (!messages_.empty() && messages_.back()["role"] == role) messages_.erase(messages_.size() - 1);
}

void ChatSession::clear() {
  const bool has_system = !messages_.empty() && messages_[0]["role"] == "system";
  const std::string system = has_system ? messages_[0]["content"].get<std::string>() : "";
  messages_ = nlohmann::ordered_json::array();
  last_reasoning_.clear();
  set_system(system);
}

void ChatSession::set_system(const std::string& text) {
  if (!messages_.empty() && messages_[0]["role"] == "system") messages_.erase(0);
  if (!text.empty()) {
    // A named object: a braced list would be taken for two messages.
    const nlohmann::ordered_json message{{"role", "system"}, {"content", text}};
    messages_.insert(messages_.begin(), message);
  }
}

void ChatSession::save(const std::filesystem::path& path, const std::string& model) const {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["model"] = model;
  json["settings"] = settings.to_json();
  json["messages"] = messages_;
  const std::string text =
      json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void ChatSession::load(const std::filesystem::path& path) {
  const FileMap file(path);
  require(file.size() <= kMaxConversation, ErrorCode::ResourceLimit,
          "{}: {} is too large for a conversation", path.string(), format_bytes(file.size()));
  const auto bytes = file.bytes();
  const auto json = nlohmann::ordered_json::parse(
      reinterpret_cast<const char*>(bytes.data()),
      reinterpret_cast<const char*>(bytes.data()) + bytes.size(), nullptr, false);
  require(json.is_object() && json.value("format", "") == kFormat, ErrorCode::Corrupt,
          "{}: not a conversation saved by fathom ('format' is not '{}')", path.string(), kFormat);
  const auto messages = json.find("messages");
  require(messages != json.end() && messages->is_array(), ErrorCode::Corrupt,
          "{}: 'messages' is not a list", path.string());
  for (const auto& message : *messages) {
    require(is_message(message), ErrorCode::Corrupt,
            "{}: a message has no 'role' and 'content' of text", path.string());
  }
  if (json.contains("settings")) settings.from_json(json["settings"]);
  messages_ = *messages;
  last_reasoning_.clear();
}

bool fills_context(const Usage& usage, const Engine& engine) {
  return usage.prompt_tokens + usage.completion_tokens >= engine.context_tokens();
}

std::string describe_usage(const Usage& usage) {
  std::string cached;
  if (usage.cached_tokens > 0) cached = fmt::format(" ({} from the cache)", usage.cached_tokens);
  return fmt::format(
      "{} tokens read{} at {:.0f} tokens/s, first token after {:.2f} s, {} written at {:.1f} "
      "tokens/s, {} in memory",
      usage.prompt_tokens, cached, usage.prompt_rate(), usage.queue_seconds + usage.prompt_seconds,
      usage.completion_tokens, usage.generation_rate(), format_bytes(resident_memory().now));
}

}  // namespace fathom
