// Which part of a model's output is thinking and which is the answer.
//
// R1 and its kin think between <think> and </think>. Their templates may open the thinking in the
// prompt, so that the output begins inside it, and a model may skip it altogether. Where the
// vocabulary has the markers as tokens, only those tokens count: a model may well write about
// "</think>" in its answer. Where it has not, the text is searched, across token borders.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "engine/stop.h"

namespace fathom {

enum class Channel { Answer, Reasoning };

/// "answer", "reasoning".
const char* to_string(Channel channel);

struct ReasoningMarkers {
  std::optional<TokenId> open, close;  // both or neither; without them, the text decides
  std::string open_text = "<think>";
  std::string close_text = "</think>";
};

/// Whether what follows the prompt is thinking: its last marker, if any, is an open one.
bool prompt_ends_in_reasoning(const ReasoningMarkers& markers, std::span<const TokenId> prompt);
/// The same of a prompt's text, for a vocabulary without the marker tokens.
bool prompt_ends_in_reasoning(const ReasoningMarkers& markers, std::string_view prompt);

struct Segment {
  Channel channel = Channel::Answer;
  std::string text;  // never empty
};

/// Splits one answer. White space directly after a marker belongs to neither part.
class ReasoningParser {
 public:
  ReasoningParser(ReasoningMarkers markers, bool starts_inside);

  /// Whether the token is a marker: then its text is not to be decoded, and mark() is called.
  bool is_marker(TokenId id) const;
  void mark(TokenId id);
  /// Text of the tokens between markers.
  std::vector<Segment> push(std::string_view text);
  /// What was held back, at the end.
  std::vector<Segment> finish();

  Channel channel() const { return channel_; }

 private:
  void enter(Channel channel);
  void emit(std::string_view text, std::vector<Segment>& out);
  /// Without tokens: the output opens with <think>, or is still white space or a part of it.
  void look_for_opening(std::vector<Segment>& out);

  ReasoningMarkers markers_;
  Channel channel_;
  bool by_text_;
  bool trimming_ = false;   // white space is dropped until other text comes
  bool undecided_ = false;  // by text: the output may yet begin with <think>
  std::string start_;       // the output while undecided
  StopMatcher close_;       // by text, while thinking
};

}  // namespace fathom
