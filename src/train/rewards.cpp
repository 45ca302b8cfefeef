#include "train/rewards.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>

#include "base/error.h"
#include "engine/exact_answer.h"
#include "grammar/text_pattern.h"
#include "tokenizer/unicode.h"
#include "train/program_reward.h"
#include "train/random.h"

namespace fathom::train {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

struct Script {
  std::string_view name;
  std::array<unicode::Range, 5> ranges;  // unused ones are empty
};
constexpr Script kScripts[] = {
    {"latin", {{{'A', 'Z'}, {'a', 'z'}, {0xC0, 0x24F}, {0x1E00, 0x1EFF}, {1, 0}}}},
    {"han", {{{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0xF900, 0xFAFF}, {0x20000, 0x323AF}, {1, 0}}}},
    {"cyrillic", {{{0x400, 0x52F}, {0x1C80, 0x1C8F}, {0x2DE0, 0x2DFF}, {1, 0}, {1, 0}}}},
    {"greek", {{{0x370, 0x3FF}, {0x1F00, 0x1FFF}, {1, 0}, {1, 0}, {1, 0}}}},
    {"arabic", {{{0x600, 0x6FF}, {0x750, 0x77F}, {0x8A0, 0x8FF}, {0xFB50, 0xFDFF}, {1, 0}}}},
    {"hebrew", {{{0x590, 0x5FF}, {1, 0}, {1, 0}, {1, 0}, {1, 0}}}},
    {"devanagari", {{{0x900, 0x97F}, {0xA8E0, 0xA8FF}, {1, 0}, {1, 0}, {1, 0}}}},
    {"hangul", {{{0xAC00, 0xD7AF}, {0x1100, 0x11FF}, {0x3130, 0x318F}, {1, 0}, {1, 0}}}},
    {"kana", {{{0x3040, 0x30FF}, {0x31F0, 0x31FF}, {0xFF66, 0xFF9F}, {1, 0}, {1, 0}}}},
    {"thai", {{{0xE00, 0xE7F}, {1, 0}, {1, 0}, {1, 0}, {1, 0}}}},
};

const Script& find_script(const std::string& name) {
  const auto found = std::ranges::find(kScripts, name, &Script::name);
  if (found != std::end(kScripts)) return *found;
  std::string names;
  for (const Script& script : kScripts)
    names += (names.empty() ? "" : ", ") + std::string(script.name);
  fail(ErrorCode::InvalidArgument, "no script is called '{}'; there are {}", name, names);
}

double share_of_script(const Script& script, std::string_view text) {
  std::size_t letters = 0, own = 0;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const unicode::Char c = unicode::decode(p, end);
    if (c.length == 0) break;
    p += c.length;
    if ((unicode::classes()[c.code_point] & unicode::kLetter) == 0) continue;
    ++letters;
    own += std::ranges::any_of(script.ranges, [&](const unicode::Range& range) {
      return c.code_point >= range.first && c.code_point <= range.last;
    });
  }
  return letters == 0 ? 1 : static_cast<double>(own) / static_cast<double>(letters);
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

bool has_text(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") != std::string_view::npos;
}

}  // namespace

bool is_right(const std::string& expected, const std::string& text, bool finished) {
  if (!finished) return false;
  const std::size_t close = text.rfind(kClose);
  if (close == std::string::npos) {
    return text.find(kOpen) == std::string::npos && same_answer(expected, text);
  }
  return same_answer(expected, text.substr(close + kClose.size()));
}

Reward exact_reward(double weight) {
  return {"exact", weight, [](const Attempt& attempt) {
            return is_right(attempt.expected, attempt.text, attempt.finished) ? 1.0 : 0.0;
          }};
}

Reward pattern_reward(const std::string& pattern, double weight) {
  const auto whole =
      std::make_shared<const grammar::TextPattern>("^(?:" + pattern + ")$", /*ignore_case=*/false);
  return {"pattern", weight, [whole](const Attempt& attempt) {
            grammar::TextSearch search(whole);
            std::uint64_t at = 0;
            for (const char c : attempt.text) {
              if (search.step(static_cast<std::uint8_t>(c), at++)) return 0.0;
            }
            return search.finish() ? 1.0 : 0.0;
          }};
}

Reward format_reward(double weight) {
  return {"format", weight, [](const Attempt& attempt) {
            const std::string_view text = attempt.text;
            const std::size_t open = text.find(kOpen), close = text.find(kClose);
            const bool right =
                count(text, kOpen) == 1 && count(text, kClose) == 1 && open < close &&
                !has_text(text.substr(0, open)) &&
                has_text(text.substr(open + kOpen.size(), close - open - kOpen.size())) &&
                has_text(text.substr(close + kClose.size()));
            return right ? 1.0 : 0.0;
          }};
}

Reward language_reward(const std::string& script, double weight) {
  const Script& wanted = find_script(script);
  return {"language", weight, [&wanted](const Attempt& attempt) {
            std::string text = attempt.text;
            if (const std::size_t box = text.rfind("\\boxed{"); box != std::string::npos) {
              text.resize(box);
            }
            return share_of_script(wanted, text);
          }};
}

Reward random_reward(std::uint64_t seed, double weight) {
  return {"random", weight, [seed](const Attempt& attempt) {
            return static_cast<double>(Draws(seed, {0x5EED, attempt.number}).below(2));
          }};
}

Reward parse_reward(std::string_view text, std::uint64_t seed, const ProgramOptions& programs) {
  double weight = 1;
  std::string_view rest = text;
  // A pattern may hold stars: only a number at the end is a weight.
  if (const std::size_t star = text.rfind('*'); star != std::string_view::npos) {
    const std::string_view number = text.substr(star + 1);
    double value = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (error == std::errc() && end == number.data() + number.size() && std::isfinite(value)) {
      weight = value;
      rest = text.substr(0, star);
    }
  }
  const std::size_t equals = rest.find('=');
  const std::string_view name = rest.substr(0, equals);
  const std::string argument(equals == std::string_view::npos ? "" : rest.substr(equals + 1));
  if (equals == std::string_view::npos) {
    if (name == "exact") return exact_reward(weight);
    if (name == "format") return format_reward(weight);
    if (name == "random") return random_reward(seed, weight);
  } else {
    if (name == "pattern") return pattern_reward(argument, weight);
    if (name == "language") return language_reward(argument, weight);
    if (name == "program") return program_reward(argument, programs, weight);
  }
  fail(ErrorCode::InvalidArgument,
       "'{}' is no reward; there are exact, format, random, pattern=REGEX, language=SCRIPT, "
       "program=PATH, each with *WEIGHT after it",
       text);
}

}  // namespace fathom::train
