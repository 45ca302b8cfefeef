#include "engine/answer.h"

#include <algorithm>
#include <utility>

namespace fathom {

Answer::Answer(const Request& request, const Tokenizer& tokenizer)
    : stop_tokens_(request.stop_tokens),
      decoder_(tokenizer, /*skip_special=*/!request.show_control_tokens, request.continues_text),
      stops_(request.stop_strings) {
  if (request.reasoning) {
    parser_.emplace(request.reasoning->markers, request.reasoning->starts_inside);
  }
}

std::vector<Segment> Answer::push(TokenId id) {
  std::vector<Segment> out;
  if (std::find(stop_tokens_.begin(), stop_tokens_.end(), id) != stop_tokens_.end()) {
    out = finish();
    stopped_ = true;
  } else if (parser_ && parser_->is_marker(id)) {
    route(decoder_.finish(), out);
    parser_->mark(id);
  } else {
    route(decoder_.push(id), out);
  }
  return out;
}

std::vector<Segment> Answer::finish() {
  std::vector<Segment> out;
  route(decoder_.finish(), out);
  if (parser_) filter(parser_->finish(), out);
  if (!stopped_) {
    std::string rest = stops_.finish();
    if (!rest.empty()) out.push_back({Channel::Answer, std::move(rest)});
  }
  return out;
}

void Answer::route(const std::string& text, std::vector<Segment>& out) {
  if (text.empty()) return;
  if (parser_) {
    filter(parser_->push(text), out);
  } else {
    filter({{Channel::Answer, text}}, out);
  }
}

void Answer::filter(std::vector<Segment> segments, std::vector<Segment>& out) {
  for (Segment& segment : segments) {
    if (stopped_) return;
    if (segment.channel == Channel::Answer) {
      segment.text = stops_.push(segment.text);
      stopped_ = stops_.stopped();
    }
    if (!segment.text.empty()) out.push_back(std::move(segment));
  }
}

}  // namespace fathom
