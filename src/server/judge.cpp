#include "server/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace fathom::server {
namespace {

constexpr int kTop = 256;  // tokens whose probabilities are looked at

std::string filled(std::string_view question, std::string_view asked, std::string_view text) {
  std::string out;
  while (true) {
    const std::size_t brace = question.find('{');
    out += question.substr(0, brace);
    if (brace == std::string_view::npos) return out;
    question.remove_prefix(brace);
    // One pass: a text that holds "{asked}" is a text.
    if (question.starts_with("{text}")) {
      out += text;
      question.remove_prefix(6);
    } else if (question.starts_with("{asked}")) {
      out += asked;
      question.remove_prefix(7);
    } else {
      out += '{';
      question.remove_prefix(1);
    }
  }
}

/// Whether a model that writes this piece first has begun to write the word.
bool begins(std::string_view piece, std::string_view word) {
  piece.remove_prefix(std::min(piece.find_first_not_of(' '), piece.size()));
  return !piece.empty() && word.starts_with(piece);
}

Json message(const char* role, std::string_view text) {
  return {{"role", role}, {"content", text}};
}

}  // namespace

Judge::Judge(JudgeRule rule, std::shared_ptr<const ServedModel> model)
    : rule_(std::move(rule)), model_(std::move(model)) {
  require(model_->chat != nullptr, ErrorCode::InvalidArgument,
          "the judge '{}' wants a model that can be asked, but '{}' has no chat template",
          rule_.rule->name, model_->name);
  grammar_ =
      fmt::format("root ::= {} | {}", Json(rule_.flag_word).dump(), Json(rule_.pass_word).dump());
  OutputForm form{OutputForm::Kind::Gbnf, {}, grammar_, "flag_word"};
  model_->grammars->masks(*model_->engine, form);
}

Ticket Judge::ask(std::string_view asked, std::string_view text, std::uint64_t scope,
                  EventSink sink) const {
  Json messages = Json::array();
  if (!rule_.question.empty()) {
    messages.push_back(message("user", filled(rule_.question, asked, text)));
  } else if (asked.empty()) {
    messages.push_back(message("user", text));
  } else {
    messages.push_back(message("user", asked));
    messages.push_back(message("assistant", text));
  }
  ChatOptions chat;
  chat.now = local_time();
  if (model_->chat->can_switch_thinking()) chat.think = false;
  const ChatPrompt prompt = model_->chat->prompt(messages, chat);
  Request request;
  request.prompt = prompt.tokens;
  request.sampling.temperature = 0;
  request.sampling.logprobs = kTop;
  request.max_tokens = 32;  // it needs one, and those that close a thought
  request.reasoning = prompt.reasoning;
  request.max_thinking_tokens = 0;
  const OutputForm form{OutputForm::Kind::Gbnf, {}, grammar_, "flag_word"};
  request.constraint = Constraint{model_->grammars->masks(*model_->engine, form), {}, {}, false};
  request.cache_scope = scope;
  request.account = scope;
  return model_->engine->submit(std::move(request), std::move(sink));
}

std::optional<double> Judge::verdict(const Event& event) const {
  const auto* delta = std::get_if<Delta>(&event);
  if (delta == nullptr || !delta->token || delta->channel != Channel::Answer) return std::nullopt;
  double flag = 0;
  double pass = 0;
  const Tokenizer& tokenizer = model_->engine->tokenizer();
  const auto count = [&](TokenId id, float logprob) {
    const std::string_view piece = tokenizer.piece(id);
    const double probability = std::exp(static_cast<double>(logprob));
    if (begins(piece, rule_.flag_word)) flag += probability;
    if (begins(piece, rule_.pass_word)) pass += probability;
  };
  for (const TokenLogprob& each : delta->token->top) count(each.id, each.logprob);
  // Among the most probable may be neither; of what it may write it has chosen one.
  if (flag + pass <= 0) count(delta->token->id, 0);
  if (flag + pass <= 0) return std::nullopt;
  return flag / (flag + pass);
}

}  // namespace fathom::server
