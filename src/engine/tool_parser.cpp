#include "engine/tool_parser.h"

#include <algorithm>
#include <utility>

namespace fathom {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::size_t kLongestName = 256;

}  // namespace

void ToolParser::text(std::string words, std::vector<ToolPiece>& out) {
  words = std::exchange(space_, {}) + words;
  const std::size_t last = words.find_last_not_of(kSpace);
  const std::size_t keep = last == std::string::npos ? 0 : last + 1;
  space_ = words.substr(keep);
  words.resize(keep);
  if (words.empty()) return;
  said_ = true;
  if (!out.empty() && out.back().kind == ToolPiece::Kind::Text) {
    out.back().text += words;
  } else {
    out.push_back({ToolPiece::Kind::Text, std::move(words)});
  }
}

std::vector<ToolPiece> ToolParser::push(std::string_view more) {
  std::vector<ToolPiece> out;
  held_ += more;
  while (!held_.empty() && step(out)) {
  }
  return out;
}

std::vector<ToolPiece> ToolParser::finish() {
  std::vector<ToolPiece> out;
  if (state_ == State::Text || state_ == State::Call || state_ == State::Name) {
    give_up(out);
  }
  if (state_ == State::Text && !space_.empty()) {
    out.push_back({ToolPiece::Kind::Text, std::exchange(space_, {})});
  }
  return out;
}

void ToolParser::give_up(std::vector<ToolPiece>& out) {
  const std::string words = std::exchange(taken_, {}) + std::exchange(held_, {});
  state_ = State::Text;
  // It is not looked at again for a beginning: that was none.
  if (!words.empty()) text(words, out);
}

bool ToolParser::expect(const std::string& wanted, State to, std::vector<ToolPiece>& out) {
  if (held_.size() < wanted.size() && wanted.starts_with(held_)) return false;
  if (!held_.starts_with(wanted)) {
    give_up(out);
    return false;
  }
  taken_ += wanted;
  held_.erase(0, wanted.size());
  state_ = to;
  return true;
}

bool ToolParser::step(std::vector<ToolPiece>& out) {
  switch (state_) {
    case State::Text:
      return step_text(out);
    case State::Call:
      return expect(format_.call, State::Name, out);
    case State::Name: {
      const std::size_t end = held_.find(format_.arguments);
      if (end == std::string::npos) {
        if (held_.size() > kLongestName + format_.arguments.size()) give_up(out);
        return false;
      }
      out.push_back({ToolPiece::Kind::Begin, held_.substr(0, end)});
      held_.erase(0, end + format_.arguments.size());
      taken_.clear();
      state_ = State::Arguments;
      depth_ = 0;
      in_string_ = escaped_ = false;
      return true;
    }
    case State::Arguments:
      return step_arguments(out);
    case State::EndCall:
      if (held_.size() < format_.end_call.size() && format_.end_call.starts_with(held_))
        return false;
      // Arguments are whole whatever follows them.
      if (held_.starts_with(format_.end_call)) held_.erase(0, format_.end_call.size());
      out.push_back({ToolPiece::Kind::End, {}});
      state_ = State::Between;
      return true;
    case State::Between: {
      const std::string next = format_.next + format_.call;
      const auto may_become = [&](const std::string& wanted) {
        return !wanted.empty() && held_.size() < wanted.size() && wanted.starts_with(held_);
      };
      if (!format_.one_call && held_.starts_with(next)) {
        taken_ = next;
        held_.erase(0, next.size());
        state_ = State::Name;
        return true;
      }
      if (!format_.end.empty() && held_.starts_with(format_.end)) {
        held_.erase(0, format_.end.size());
        state_ = State::After;
        return true;
      }
      if ((!format_.one_call && may_become(next)) || may_become(format_.end)) return false;
      state_ = State::After;
      return true;
    }
    case State::After:
      // A model may go on in words, though few do.
      if (held_.find_first_not_of(kSpace) == std::string::npos) return false;
      text(std::exchange(held_, {}), out);
      return false;
  }
  return false;
}

bool ToolParser::step_text(std::vector<ToolPiece>& out) {
  const std::string begin = format_.begin + format_.open;
  if (format_.only_at_start && said_) {
    text(std::exchange(held_, {}), out);
    return false;
  }
  const std::size_t found = held_.find(format_.begin);
  const bool at_start = held_.find_first_not_of(kSpace) == found;
  if (found != std::string::npos && (!format_.only_at_start || at_start)) {
    text(held_.substr(0, found), out);
    held_.erase(0, found);
    if (held_.size() < begin.size() && begin.starts_with(held_)) return false;
    if (!held_.starts_with(begin)) {
      text(held_.substr(0, format_.begin.size()), out);
      held_.erase(0, format_.begin.size());
      return true;
    }
    taken_ = std::exchange(space_, {}) + begin;
    held_.erase(0, begin.size());
    state_ = State::Call;
    return true;
  }
  // The end of what is held may be the beginning of a beginning.
  std::size_t keep = std::min(held_.size(), format_.begin.size() - 1);
  while (keep > 0 && !format_.begin.starts_with(held_.substr(held_.size() - keep))) --keep;
  text(held_.substr(0, held_.size() - keep), out);
  held_.erase(0, held_.size() - keep);
  return false;
}

bool ToolParser::step_arguments(std::vector<ToolPiece>& out) {
  std::size_t i = 0;
  bool whole = false;
  for (; i < held_.size() && !whole; ++i) {
    const char c = held_[i];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      whole = --depth_ <= 0;
    }
  }
  if (i > 0) out.push_back({ToolPiece::Kind::Arguments, held_.substr(0, i)});
  held_.erase(0, i);
  if (whole) state_ = State::EndCall;
  return whole;
}

}  // namespace fathom
