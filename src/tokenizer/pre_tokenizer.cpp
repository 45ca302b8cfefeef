// Implements pre_tokenizer.h: the scanners.
//
// A tokenizer.json gives a sequence of splits, each cutting the pieces of the one before; text that
// an expression does not match stays as a piece too ("Isolated"). A stage here is one such split:
// it calls `sink` for each piece, and the sink of one stage is the next stage. What an expression
// sees as the end of the text is the end of its piece, which `\s+(?!\S)` notices.
#include "tokenizer/pre_tokenizer.h"

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace fathom {
namespace {

using unicode::kAsciiLetter;
using unicode::kAsciiPunctuation;
using unicode::kDeepSeekCjk;
using unicode::kDeepSeekLetter;
using unicode::kDeepSeekPunctuation;
using unicode::kDeepSeekV3Cjk;
using unicode::kDigit;
using unicode::kLetter;
using unicode::kMark;
using unicode::kNewline;
using unicode::kNumber;
using unicode::kPunctuation;
using unicode::kSpace;
using unicode::kSymbol;

/// A character's class and length; at the end both are 0.
struct Seen {
  std::uint32_t bits;
  std::uint32_t length;
  bool is(std::uint32_t mask) const { return (bits & mask) != 0; }
};

class Scanner {
 public:
  explicit Scanner(std::string_view text)
      : end_(text.data() + text.size()), table_(unicode::classes()), ascii_(table_.ascii()) {}

  const char* end() const { return end_; }

  Seen at(const char* p) const {
    if (p == end_) return {0, 0};
    const auto byte = static_cast<unsigned char>(*p);
    if (byte < 0x80) return {ascii_[byte], 1};
    const unicode::Char c = unicode::decode(p, end_);
    return {table_[c.code_point], c.length};
  }
  /// Past the characters from `p` on that have a bit of `mask`.
  const char* run(const char* p, std::uint32_t mask) const {
    for (;;) {
      while (p != end_ && static_cast<unsigned char>(*p) < 0x80) {
        if (!(ascii_[static_cast<unsigned char>(*p)] & mask)) return p;
        ++p;
      }
      const Seen c = at(p);
      if (!c.is(mask)) return p;
      p += c.length;
    }
  }
  /// Past the characters from `p` on that have no bit of `mask`.
  const char* run_without(const char* p, std::uint32_t mask) const {
    for (;;) {
      const Seen c = at(p);
      if (c.length == 0 || c.is(mask)) return p;
      p += c.length;
    }
  }
  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)` (or as written, in lower case only): its length at `p`, 0 if it
  /// is not there. Case folding makes U+017F, the long s, an s too.
  std::size_t contraction(const char* p, bool any_case) const {
    if (end_ - p < 2 || *p != '\'') return 0;
    const auto letter = [&](std::ptrdiff_t i) {
      if (end_ - p <= i) return '\0';
      return any_case && p[i] >= 'A' && p[i] <= 'Z' ? static_cast<char>(p[i] | 0x20) : p[i];
    };
    switch (letter(1)) {
      case 's':
      case 't':
      case 'm':
      case 'd':
        return 2;
      case 'r':
      case 'v':
        return letter(2) == 'e' ? 3 : 0;
      case 'l':
        return letter(2) == 'l' ? 3 : 0;
      case '\xC5':
        return any_case && letter(2) == '\xBF' ? 3 : 0;
      default:
        return 0;
    }
  }
  /// `\s+(?!\S)|\s+` at `p`, where white space is: all of it at the end of the text, else all but
  /// the last character, which goes with the word that follows, unless it is the only one.
  const char* spaces(const char* p) const {
    const char* last = p;
    const char* q = p;
    for (Seen c = at(q); c.is(kSpace); c = at(q)) {
      last = q;
      q += c.length;
    }
    return q == end_ || last == p ? q : last;
  }
  /// `\s*[\r\n]+|\s+(?!\S)|\s+` at `p`: up to the last line break of the white space, if any.
  const char* spaces_by_lines(const char* p) const {
    const char* after_newline = nullptr;
    const char* last = p;
    const char* q = p;
    for (Seen c = at(q); c.is(kSpace); c = at(q)) {
      last = q;
      q += c.length;
      if (c.is(kNewline)) after_newline = q;
    }
    if (after_newline) return after_newline;
    return q == end_ || last == p ? q : last;
  }

 private:
  const char* end_;
  const unicode::ClassTable& table_;
  const std::uint16_t* ascii_;
};

std::string_view between(const char* begin, const char* end) {
  return {begin, static_cast<std::size_t>(end - begin)};
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
template <typename Sink>
void gpt2(std::string_view text, Sink&& sink) {
  const Scanner scan(text);
  for (const char* p = text.data(); p != scan.end();) {
    const char* q;
    if (const std::size_t n = scan.contraction(p, false)) {
      q = p + n;
    } else {
      const char* start = p;
      Seen c = scan.at(p);
      if (*p == ' ') {
        const Seen next = scan.at(p + 1);
        if (next.length != 0 && !next.is(kSpace)) {
          ++start;
          c = next;
        }
      }
      if (c.is(kLetter)) {
        q = scan.run(start + c.length, kLetter);
      } else if (c.is(kNumber)) {
        q = scan.run(start + c.length, kNumber);
      } else if (c.is(kSpace)) {
        q = scan.spaces(p);
      } else {
        q = scan.run_without(start + c.length, kSpace | kLetter | kNumber);
      }
    }
    sink(between(p, q));
    p = q;
  }
}

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+        with \p{N} for \p{N}{1,3} where `digits` is 1 (Qwen2)
template <int digits, typename Sink>
void llama3(std::string_view text, Sink&& sink) {
  const Scanner scan(text);
  for (const char* p = text.data(); p != scan.end();) {
    const char* q;
    const Seen c = scan.at(p);
    if (c.is(kLetter)) {
      q = scan.run(p + c.length, kLetter);
    } else if (c.is(kNumber)) {
      q = p + c.length;
      for (int i = 1; i < digits; ++i) {
        const Seen next = scan.at(q);
        if (!next.is(kNumber)) break;
        q += next.length;
      }
    } else if (const std::size_t n = scan.contraction(p, true)) {
      q = p + n;
    } else {
      const Seen next = scan.at(p + c.length);
      if (next.is(kLetter) && !c.is(kNewline)) {
        q = scan.run(p + c.length + next.length, kLetter);
      } else {
        constexpr std::uint32_t kNotOther = kSpace | kLetter | kNumber;
        const bool leads = *p == ' ' && next.length != 0 && !next.is(kNotOther);
        if (c.is(kSpace) && !leads) {
          q = scan.spaces_by_lines(p);
        } else {
          q = scan.run(scan.run_without(p + c.length, kNotOther), kNewline);
        }
      }
    }
    sink(between(p, q));
    p = q;
  }
}

/// Isolates matches and hands on the text between them. match(p) is the end of the match that
/// starts at `p`, or nullptr.
template <typename Match, typename Sink>
void isolate(const Scanner& scan, std::string_view text, Match&& match, Sink&& sink) {
  const char* gap = text.data();
  for (const char* p = gap; p != scan.end();) {
    const char* const q = match(p);
    if (q == nullptr) {
      p += scan.at(p).length;
      continue;
    }
    if (gap != p) sink(between(gap, p));
    sink(between(p, q));
    gap = p = q;
  }
  if (gap != scan.end()) sink(between(gap, scan.end()));
}

/// [mask]{1,most}
template <typename Sink>
void isolate_runs(std::string_view text, std::uint32_t mask, int most, Sink&& sink) {
  const Scanner scan(text);
  const auto match = [&](const char* p) -> const char* {
    const char* const start = p;
    for (int i = 0; i < most; ++i) {
      const Seen c = scan.at(p);
      if (!c.is(mask)) break;
      p += c.length;
    }
    return p == start ? nullptr : p;
  };
  isolate(scan, text, match, sink);
}

/// \s?[mask]+
template <typename Sink>
void isolate_with_space(std::string_view text, std::uint32_t mask, Sink&& sink) {
  const Scanner scan(text);
  const auto match = [&](const char* p) -> const char* {
    Seen c = scan.at(p);
    if (c.is(kSpace) && !c.is(mask)) {
      p += c.length;
      c = scan.at(p);
    }
    return c.is(mask) ? scan.run(p, mask) : nullptr;
  };
  isolate(scan, text, match, sink);
}

constexpr int kAnyNumber = 0x7FFFFFFF;

/// \s+$, in a piece that holds no line break but as its only character.
template <typename Sink>
void isolate_trailing_space(std::string_view text, Sink&& sink) {
  const Scanner scan(text);
  const char* trailing = text.data();
  for (const char* p = text.data(); p != scan.end();) {
    const Seen c = scan.at(p);
    p += c.length;
    if (!c.is(kSpace)) trailing = p;
  }
  if (trailing != text.data()) sink(between(text.data(), trailing));
  if (trailing != scan.end()) sink(between(trailing, scan.end()));
}

/// [\r\n]  \s?[A-Za-zµÀ-Ö...]+  \s?[!-/:-~！-／：-～‘-‟　-。]+  \s+$
/// [一-龥ࠀ-一가-퟿]+ Digits
template <typename Sink>
void deepseek_llm(std::string_view text, Sink&& sink) {
  isolate_runs(text, kNewline, 1, [&](std::string_view line) {
    isolate_with_space(line, kDeepSeekLetter, [&](std::string_view word) {
      isolate_with_space(word, kDeepSeekPunctuation, [&](std::string_view part) {
        isolate_trailing_space(part, [&](std::string_view body) {
          isolate_runs(body, kDeepSeekCjk, kAnyNumber,
                       [&](std::string_view piece) { isolate_runs(piece, kDigit, 1, sink); });
        });
      });
    });
  });
}

/// [\r\n]  \s?\p{L}+  \s?\p{P}+  [一-龥ࠀ-一가-퟿]+  Digits
template <typename Sink>
void deepseek_coder(std::string_view text, Sink&& sink) {
  isolate_runs(text, kNewline, 1, [&](std::string_view line) {
    isolate_with_space(line, kLetter, [&](std::string_view word) {
      isolate_with_space(word, kPunctuation, [&](std::string_view part) {
        isolate_runs(part, kDeepSeekCjk, kAnyNumber,
                     [&](std::string_view piece) { isolate_runs(piece, kDigit, 1, sink); });
      });
    });
  });
}

/// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
///  ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
template <typename Sink>
void deepseek_v3_words(std::string_view text, Sink&& sink) {
  const Scanner scan(text);
  const auto match = [&](const char* p) -> const char* {
    const Seen c = scan.at(p);
    if (c.is(kLetter | kMark)) return scan.run(p + c.length, kLetter | kMark);
    const Seen next = scan.at(p + c.length);
    if (c.is(kAsciiPunctuation) && next.is(kAsciiLetter)) {
      return scan.run(p + c.length + next.length, kAsciiLetter);
    }
    if (!c.is(kNewline | kPunctuation | kSymbol) && next.is(kLetter | kMark)) {
      return scan.run(p + c.length + next.length, kLetter | kMark);
    }
    if (c.is(kPunctuation | kSymbol) || (*p == ' ' && next.is(kPunctuation | kSymbol))) {
      return scan.run(scan.run(p + c.length, kPunctuation | kSymbol), kNewline);
    }
    return c.is(kSpace) ? scan.spaces_by_lines(p) : nullptr;
  };
  isolate(scan, text, match, sink);
}

/// \p{N}{1,3}  [一-龥぀-ゟ゠-ヿ]+  and the above
template <typename Sink>
void deepseek_v3(std::string_view text, Sink&& sink) {
  isolate_runs(text, kNumber, 3, [&](std::string_view part) {
    isolate_runs(part, kDeepSeekV3Cjk, kAnyNumber,
                 [&](std::string_view piece) { deepseek_v3_words(piece, sink); });
  });
}

}  // namespace

void split_words(PreTokenizer kind, std::string_view text,
                 FunctionRef<void(std::string_view)> word) {
  switch (kind) {
    case PreTokenizer::None:
      if (!text.empty()) word(text);
      return;
    case PreTokenizer::Gpt2:
      return gpt2(text, word);
    case PreTokenizer::SmolLm:
      return isolate_runs(text, kDigit, 1, [&](std::string_view part) { gpt2(part, word); });
    case PreTokenizer::Llama3:
      return llama3<3>(text, word);
    case PreTokenizer::Qwen2:
      return llama3<1>(text, word);
    case PreTokenizer::DeepSeekLlm:
      return deepseek_llm(text, word);
    case PreTokenizer::DeepSeekCoder:
      return deepseek_coder(text, word);
    case PreTokenizer::DeepSeekV3:
      return deepseek_v3(text, word);
  }
}

const char* to_string(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::None:
      return "none";
    case PreTokenizer::Gpt2:
      return "gpt-2";
    case PreTokenizer::SmolLm:
      return "smollm";
    case PreTokenizer::Llama3:
      return "llama-bpe";
    case PreTokenizer::Qwen2:
      return "qwen2";
    case PreTokenizer::DeepSeekLlm:
      return "deepseek-llm";
    case PreTokenizer::DeepSeekCoder:
      return "deepseek-coder";
    case PreTokenizer::DeepSeekV3:
      return "deepseek-v3";
  }
  return "unknown";
}

PreTokenizer pre_tokenizer_from_gguf(std::string_view name, std::string_view origin) {
  struct Name {
    std::string_view name;
    PreTokenizer kind;
  };
  static constexpr Name kNames[] = {
      {"gpt-2", PreTokenizer::Gpt2},
      {"smollm", PreTokenizer::SmolLm},
      {"llama-bpe", PreTokenizer::Llama3},
      {"llama3", PreTokenizer::Llama3},
      {"llama-v3", PreTokenizer::Llama3},
      {"qwen2", PreTokenizer::Qwen2},
      {"deepseek-r1-qwen", PreTokenizer::Qwen2},
      {"deepseek-llm", PreTokenizer::DeepSeekLlm},
      {"deepseek-coder", PreTokenizer::DeepSeekCoder},
      {"deepseek-v3", PreTokenizer::DeepSeekV3},
  };
  for (const Name& known : kNames) {
    if (known.name == name) return known.kind;
  }
  fail(ErrorCode::Unsupported,
       "{}: tokenizer.ggml.pre is '{}', a pre-tokenizer that Fathom does not implement; with "
       "another "
       "one the model would read plausible but wrong tokens",
       origin, name);
}

}  // namespace fathom
