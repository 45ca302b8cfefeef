// The texts of one answer under the rules for output: its thinking, its words, and the arguments of
// each call, each a text of its own.
//
// Calls are told from words before the rules see them, so that a rule speaks of what a client gets,
// not of the form that the model writes it in.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tool_parser.h"
#include "server/filter.h"

namespace fathom::server {

class AnswerFilter {
 public:
  enum class Place { Thinking, Text, Call };
  struct Caught {
    std::shared_ptr<const FilterRule> rule;
    Place place{};
  };

  /// `rules` outlives it.
  explicit AnswerFilter(const Filter::Rules& rules) : rules_(rules) {}

  /// More of the text at that place; what became certain. After a match nothing does, anywhere.
  std::string push(Place place, std::string_view text);
  /// The text at that place has ended; what was held back of it. Another may follow there.
  std::string finish(Place place);
  /// What became certain of words and calls. `last`: no more follow.
  std::vector<ToolPiece> pass(const std::vector<ToolPiece>& pieces, bool last);

  const std::optional<Caught>& caught() const { return caught_; }

 private:
  /// Notes whether the text at that place was caught.
  std::string note(Place place, std::string certain);

  const Filter::Rules& rules_;
  std::array<std::optional<Screen>, 3> screens_;  // by place, once there is text
  std::optional<Caught> caught_;
};

}  // namespace fathom::server
