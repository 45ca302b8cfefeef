// Calls of tools, out of an answer's text as it comes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tool_format.h"

namespace fathom {

struct ToolPiece {
  enum class Kind {
    Text,       // of the answer, outside all calls
    Begin,      // of a call: `text` is its name
    Arguments,  // more of its JSON
    End         // the call is whole
  };
  Kind kind = Kind::Text;
  std::string text;
  bool operator==(const ToolPiece&) const = default;
};

/// Reads one answer. What is not written in the format is text, whole: nothing is dropped. White
/// space between a text and its first call belongs to neither.
class ToolParser {
 public:
  explicit ToolParser(ToolFormat format) : format_(std::move(format)) {}

  std::vector<ToolPiece> push(std::string_view text);
  /// At the end: what was held back.
  std::vector<ToolPiece> finish();

 private:
  enum class State { Text, Call, Name, Arguments, EndCall, Between, After };

  /// Goes on in what is held; false if more must come first.
  bool step(std::vector<ToolPiece>& out);
  bool step_text(std::vector<ToolPiece>& out);
  bool step_arguments(std::vector<ToolPiece>& out);
  /// Takes `text` off what is held and goes to `to`, or waits for it; something else makes all that
  /// was held since the last piece text again.
  bool expect(const std::string& text, State to, std::vector<ToolPiece>& out);
  void give_up(std::vector<ToolPiece>& out);
  void text(std::string words, std::vector<ToolPiece>& out);

  ToolFormat format_;
  State state_ = State::Text;
  std::string held_;
  std::string taken_;  // since the last piece: what give_up() gives back
  std::string space_;  // at the end of the text so far: a call may follow
  bool said_ = false;  // some text other than white space
  int depth_ = 0;      // of the arguments' JSON
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace fathom
