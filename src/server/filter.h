// An operator's rules for what may be asked and answered: off unless a file of them is given.
//
// A rule never changes a text. What goes in and matches is refused; an answer ends where a match
// begins; and both say by which rule. Who asks (filter_input.h, answer_filter.h) has its own file.
// A judge is a rule that a second model decides (judge.h, judged.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/text_pattern.h"
#include "server/json_escapes.h"

namespace fathom::server {

struct FilterRule {
  std::string name;    // letters, digits, '_', '-', '.': it stands in metrics and messages
  std::string reason;  // what those are told whom it stops; may be empty
  std::shared_ptr<const grammar::TextPattern> pattern;  // null: a judge's
};

/// What a judge is asked, and how its answer is read.
struct JudgeRule {
  std::shared_ptr<const FilterRule> rule;
  std::string model;  // a name in the store, or a path
  /// What it is told, with {text} where the text stands, and {asked} where what an answer replies
  /// to does. Empty: it gets the bare texts, as models do that were made to judge.
  std::string question;
  std::string flag_word = "Yes";  // how it begins to answer what is to be stopped,
  std::string pass_word = "No";   // and what is not
  double threshold = 0.5;         // of the first one's probability against the other's
  bool input = true, output = true;
  std::size_t every = 200;  // bytes of a stream that are looked at together
};

/// Any number of threads may use it.
class Filter {
 public:
  using Rules = std::vector<std::shared_ptr<const FilterRule>>;

  /// {"rules": [{"name", "pattern", "applies_to": ["input", "output"], "ignore_case": false,
  /// "reason": ""}], "judges": [{"name", "model", "question", "flag_word", "pass_word",
  /// "threshold", "applies_to", "every", "reason"}]}; name, pattern and model must be there. Throws
  /// Error(InvalidArgument, ...) naming `origin`, the rule, and the member.
  static Filter parse(std::string_view json, const std::string& origin);

  const Rules& input() const { return input_; }
  const Rules& output() const { return output_; }
  const std::vector<JudgeRule>& judges() const { return judges_; }

 private:
  Rules input_, output_;
  std::vector<JudgeRule> judges_;
};

struct RuleSearch {
  std::shared_ptr<const FilterRule> rule;
  grammar::TextSearch search;
};

/// One text, as it comes, under some rules. Gives back what no match can hold any more: all that
/// stands before the earliest match that may still be completed. Of all rules the first match to
/// end counts; of those that end together the one that begins first; of those the first rule's.
/// Works on bytes: how the text is cut makes no difference. Not thread-safe.
class Screen {
 public:
  enum class Form {
    Plain,
    JsonText  // what strings mean is searched, not how they are written: \u00fc is a character
  };
  explicit Screen(const Filter::Rules& rules, Form form = Form::Plain);

  /// More of the text; what became certain. After a match nothing does: what stands before it has
  /// been given back by then.
  std::string push(std::string_view text);
  /// The text has ended: what was held back, up to a match that only its end completes.
  std::string finish();

  /// The rule that matched; null if none has.
  const std::shared_ptr<const FilterRule>& caught() const { return caught_; }

 private:
  /// Takes a byte of what the text means, whose text begins at `at`.
  void step(std::uint8_t byte, std::uint64_t at);
  /// A match: is it the one that counts?
  void offer(const RuleSearch& search, const grammar::TextSearch::Match& match);
  /// What is held of the text up to there.
  std::string give(std::uint64_t end);

  const Form form_;
  std::vector<RuleSearch> searches_;
  std::shared_ptr<const FilterRule> caught_;
  grammar::TextSearch::Match match_;  // once caught
  std::string held_;
  std::uint64_t given_ = 0;  // of the text: where what is held begins,
  std::uint64_t taken_ = 0;  // and where it ends
  JsonEscapes escapes_;
  std::vector<JsonEscapes::Meant> meant_;  // room for push()
};

/// Whole texts under some rules, one after the other. Not thread-safe.
class Finder {
 public:
  explicit Finder(const Filter::Rules& rules);
  /// The first of the rules that matches anywhere in the text; null if none does.
  std::shared_ptr<const FilterRule> find(std::string_view text);

 private:
  std::vector<RuleSearch> searches_;
};

}  // namespace fathom::server
