#include "engine/reasoning.h"

#include <utility>

namespace fathom {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

}  // namespace

const char* to_string(Channel channel) {
  return channel == Channel::Answer ? "answer" : "reasoning";
}

bool prompt_ends_in_reasoning(const ReasoningMarkers& markers, std::span<const TokenId> prompt) {
  for (auto it = prompt.rbegin(); it != prompt.rend(); ++it) {
    if (markers.open && *it == *markers.open) return true;
    if (markers.close && *it == *markers.close) return false;
  }
  return false;
}

bool prompt_ends_in_reasoning(const ReasoningMarkers& markers, std::string_view prompt) {
  const std::size_t open = prompt.rfind(markers.open_text);
  const std::size_t close = prompt.rfind(markers.close_text);
  return open != std::string_view::npos && (close == std::string_view::npos || close < open);
}

ReasoningParser::ReasoningParser(ReasoningMarkers markers, bool starts_inside)
    : markers_(std::move(markers)),
      channel_(starts_inside ? Channel::Reasoning : Channel::Answer),
      by_text_(!markers_.open || !markers_.close),
      trimming_(starts_inside),
      undecided_(by_text_ && !starts_inside),
      close_({markers_.close_text}) {}

bool ReasoningParser::is_marker(TokenId id) const {
  return !by_text_ && (id == *markers_.open || id == *markers_.close);
}

void ReasoningParser::mark(TokenId id) {
  enter(id == *markers_.open ? Channel::Reasoning : Channel::Answer);
}

void ReasoningParser::enter(Channel channel) {
  channel_ = channel;
  trimming_ = true;
}

void ReasoningParser::emit(std::string_view text, std::vector<Segment>& out) {
  if (trimming_) {
    const std::size_t first = text.find_first_not_of(kSpace);
    if (first == std::string_view::npos) return;
    text.remove_prefix(first);
    trimming_ = false;
  }
  if (!text.empty()) out.push_back({channel_, std::string(text)});
}

void ReasoningParser::look_for_opening(std::vector<Segment>& out) {
  const std::size_t first = start_.find_first_not_of(kSpace);
  if (first == std::string::npos) return;
  const std::string_view text = std::string_view(start_).substr(first);
  const std::string_view open = markers_.open_text;
  if (text.size() < open.size() && open.starts_with(text)) return;
  undecided_ = false;
  const std::string start = std::exchange(start_, {});
  if (std::string_view(start).substr(first).starts_with(open)) {
    enter(Channel::Reasoning);
    for (Segment& segment : push(std::string_view(start).substr(first + open.size()))) {
      out.push_back(std::move(segment));
    }
  } else {
    emit(start, out);
  }
}

std::vector<Segment> ReasoningParser::push(std::string_view text) {
  std::vector<Segment> out;
  if (undecided_) {
    start_ += text;
    look_for_opening(out);
  } else if (by_text_ && channel_ == Channel::Reasoning) {
    // Byte by byte, as the matcher drops what follows the marker in the same text.
    std::size_t used = 0;
    std::string thinking;
    while (used < text.size() && !close_.stopped()) thinking += close_.push(text.substr(used++, 1));
    emit(thinking, out);
    if (close_.stopped()) {
      enter(Channel::Answer);
      emit(text.substr(used), out);
    }
  } else {
    emit(text, out);
  }
  return out;
}

std::vector<Segment> ReasoningParser::finish() {
  std::vector<Segment> out;
  if (undecided_) {
    undecided_ = false;
    emit(std::exchange(start_, {}), out);
  } else if (by_text_ && channel_ == Channel::Reasoning) {
    emit(close_.finish(), out);
  }
  return out;
}

}  // namespace fathom
