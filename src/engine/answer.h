// From chosen tokens to text for a reader: decoding, thinking told from answer, stop strings.
#pragma once

#include <string>
#include <vector>

#include "engine/reasoning.h"
#include "engine/request.h"
#include "engine/stop.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

/// One request's output. Not thread-safe.
class Answer {
 public:
  /// Throws Error(InvalidArgument) for an empty stop string.
  Answer(const Request& request, const Tokenizer& tokenizer);

  /// Takes the next token; returns the text that became certain.
  std::vector<Segment> push(TokenId id);
  /// The output ends without a stop: what was held back.
  std::vector<Segment> finish();

  /// A stop token or a stop string has come.
  bool stopped() const { return stopped_; }
  /// The stop string that was found; empty if none was.
  const std::string& stop_string() const { return stops_.found(); }
  /// Where the next token's text will go.
  Channel channel() const { return parser_ ? parser_->channel() : Channel::Answer; }

 private:
  /// Through the reasoning parser and the stop strings, into `out`.
  void route(const std::string& text, std::vector<Segment>& out);
  void filter(std::vector<Segment> segments, std::vector<Segment>& out);

  std::vector<TokenId> stop_tokens_;
  StreamDecoder decoder_;
  std::optional<ReasoningParser> parser_;
  StopMatcher stops_;
  bool stopped_ = false;
};

}  // namespace fathom
