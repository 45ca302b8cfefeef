#include "engine/stop.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace fathom {

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    require(!stop.empty(), ErrorCode::InvalidArgument, "a stop string is empty");
    Pattern pattern;
    pattern.text = std::move(stop);
    pattern.failure.resize(pattern.text.size(), 0);
    for (std::size_t i = 1; i < pattern.text.size(); ++i) {
      std::size_t border = pattern.failure[i - 1];
      while (border > 0 && pattern.text[i] != pattern.text[border]) {
        border = pattern.failure[border - 1];
      }
      pattern.failure[i] = border + (pattern.text[i] == pattern.text[border] ? 1 : 0);
    }
    patterns_.push_back(std::move(pattern));
  }
}

void StopMatcher::advance(Pattern& pattern, char c) {
  while (pattern.matched > 0 && c != pattern.text[pattern.matched]) {
    pattern.matched = pattern.failure[pattern.matched - 1];
  }
  if (c == pattern.text[pattern.matched]) ++pattern.matched;
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  if (patterns_.empty()) return std::string(text);
  for (const char c : text) {
    held_ += c;
    const Pattern* complete = nullptr;
    for (Pattern& pattern : patterns_) {
      advance(pattern, c);
      if (pattern.matched == pattern.text.size() &&
          (complete == nullptr || pattern.text.size() > complete->text.size())) {
        complete = &pattern;
      }
    }
    if (complete != nullptr) {
      stopped_ = true;
      found_ = complete->text;
      held_.resize(held_.size() - found_.size());
      return std::exchange(held_, {});
    }
  }
  std::size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max(keep, pattern.matched);
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return certain;
}

std::string StopMatcher::finish() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return std::exchange(held_, {});
}

}  // namespace fathom
