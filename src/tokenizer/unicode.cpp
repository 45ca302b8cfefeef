// Implements unicode.h.
#include "tokenizer/unicode.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

namespace fathom::unicode {
namespace {

struct ClassRun {
  char32_t first;
  std::uint16_t bits;
};
struct Decomposition {
  char32_t code_point, first, second;
  bool composes;
};
struct CombiningRange {
  char32_t first, last;
  std::uint8_t combining_class;
};
#include "tokenizer/unicode_tables.inc"

// DeepSeek-LLM's letters: cased letters of the bicameral scripts, spelled out in its regex.
constexpr Range kDeepSeekLetters[] = {
    {0x0041, 0x005A},   {0x0061, 0x007A},   {0x00B5, 0x00B5},   {0x00C0, 0x00D6},
    {0x00D8, 0x00F6},   {0x00F8, 0x01BA},   {0x01BC, 0x01BF},   {0x01C4, 0x0293},
    {0x0295, 0x02AF},   {0x0370, 0x0373},   {0x0376, 0x0376},   {0x0377, 0x0377},
    {0x037B, 0x037D},   {0x037F, 0x037F},   {0x0386, 0x0386},   {0x0388, 0x038A},
    {0x038C, 0x038C},   {0x038E, 0x03A1},   {0x03A3, 0x03F5},   {0x03F7, 0x0481},
    {0x048A, 0x052F},   {0x0531, 0x0556},   {0x10A0, 0x10C5},   {0x13A0, 0x13F5},
    {0x13F8, 0x13FD},   {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},
    {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},   {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},
    {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},   {0x1F59, 0x1F59},
    {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},
    {0x1FD0, 0x1FD3},   {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},
    {0x1FF6, 0x1FFC},   {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210A, 0x2113},
    {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},   {0x2126, 0x2126},
    {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},
    {0x2184, 0x2184},   {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},
    {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},   {0xA640, 0xA66D},   {0xA680, 0xA69B},
    {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},   {0xAB70, 0xABBF},
    {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2},
    {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};
constexpr Range kDeepSeekPunctuations[] = {{'!', '/'},       {':', '~'},       {0xFF01, 0xFF0F},
                                           {0xFF1A, 0xFF5E}, {0x2018, 0x201F}, {0x3000, 0x3002}};
constexpr Range kDeepSeekCjks[] = {{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}};
constexpr Range kDeepSeekV3Cjks[] = {{0x4E00, 0x9FA5}, {0x3040, 0x30FF}};
constexpr Range kAsciiPunctuations[] = {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}};
constexpr Range kAsciiLetters[] = {{'A', 'Z'}, {'a', 'z'}};
constexpr Range kNewlines[] = {{'\n', '\n'}, {'\r', '\r'}};

constexpr char32_t kReplacement = 0xFFFD;

// Hangul syllables compose by arithmetic (Unicode 16, section 3.12).
constexpr char32_t kHangulS = 0xAC00, kHangulL = 0x1100, kHangulV = 0x1161, kHangulT = 0x11A7;
constexpr char32_t kHangulLCount = 19, kHangulVCount = 21, kHangulTCount = 28;
constexpr char32_t kHangulSCount = kHangulLCount * kHangulVCount * kHangulTCount;

struct NormalForms {
  std::unordered_map<char32_t, std::pair<char32_t, char32_t>> decompose;
  std::unordered_map<std::uint64_t, char32_t> compose;
  std::unordered_map<char32_t, std::uint8_t> combining_class;

  static std::uint64_t pair(char32_t a, char32_t b) { return std::uint64_t{a} << 32 | b; }

  NormalForms() {
    for (const Decomposition& d : kDecompositions) {
      decompose.emplace(d.code_point, std::pair(d.first, d.second));
      if (d.composes) compose.emplace(pair(d.first, d.second), d.code_point);
    }
    for (const CombiningRange& r : kCombiningRanges) {
      for (char32_t c = r.first; c <= r.last; ++c) combining_class.emplace(c, r.combining_class);
    }
  }
};

const NormalForms& normal_forms() {
  static const NormalForms forms;
  return forms;
}

struct Mark {
  char32_t code_point;
  std::uint8_t combining_class;
  std::uint32_t order;  // among the decomposed characters: keeps the sorting stable
};

void decompose_into(char32_t c, std::vector<Mark>& out) {
  const auto put = [&out](char32_t part, std::uint8_t combining_class) {
    out.push_back({part, combining_class, static_cast<std::uint32_t>(out.size())});
  };
  const NormalForms& forms = normal_forms();
  if (c >= kHangulS && c < kHangulS + kHangulSCount) {
    const char32_t s = c - kHangulS;
    put(kHangulL + s / (kHangulVCount * kHangulTCount), 0);
    put(kHangulV + s / kHangulTCount % kHangulVCount, 0);
    if (s % kHangulTCount != 0) put(kHangulT + s % kHangulTCount, 0);
    return;
  }
  const auto found = forms.decompose.find(c);
  if (found != forms.decompose.end()) {
    decompose_into(found->second.first, out);  // the table's own depth bounds this: at most 4
    if (found->second.second != 0) decompose_into(found->second.second, out);
    return;
  }
  const auto ccc = forms.combining_class.find(c);
  put(c, ccc == forms.combining_class.end() ? std::uint8_t{0} : ccc->second);
}

/// The character that `a` and `b` make, or 0.
char32_t composed(char32_t a, char32_t b) {
  if (a >= kHangulL && a < kHangulL + kHangulLCount && b >= kHangulV &&
      b < kHangulV + kHangulVCount) {
    return kHangulS + ((a - kHangulL) * kHangulVCount + (b - kHangulV)) * kHangulTCount;
  }
  if (a >= kHangulS && a < kHangulS + kHangulSCount && (a - kHangulS) % kHangulTCount == 0 &&
      b > kHangulT && b < kHangulT + kHangulTCount) {
    return a + (b - kHangulT);
  }
  const auto& compose = normal_forms().compose;
  const auto found = compose.find(NormalForms::pair(a, b));
  return found == compose.end() ? 0 : found->second;
}

/// UAX #15: marks sorted by class between starters, then each joined to the last starter unless a
/// mark of the same or a higher class stands between ("blocked").
void compose_into(std::vector<Mark>& marks, std::string& out) {
  for (std::size_t i = 0; i < marks.size();) {
    if (marks[i].combining_class == 0) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < marks.size() && marks[end].combining_class != 0) ++end;
    std::sort(marks.begin() + static_cast<std::ptrdiff_t>(i),
              marks.begin() + static_cast<std::ptrdiff_t>(end), [](const Mark& a, const Mark& b) {
                return std::tie(a.combining_class, a.order) < std::tie(b.combining_class, b.order);
              });
    i = end;
  }
  constexpr std::size_t kNoStarter = static_cast<std::size_t>(-1);
  std::size_t starter = kNoStarter;
  std::size_t kept = 0;            // marks[0, kept) is the result so far
  int last_class = -1;             // of what was kept after the starter; -1: nothing
  for (const Mark mark : marks) {  // a copy: its place may be written
    const bool blocked = last_class >= mark.combining_class;
    if (starter != kNoStarter && !blocked) {
      if (const char32_t joined = composed(marks[starter].code_point, mark.code_point)) {
        marks[starter].code_point = joined;
        continue;
      }
    }
    if (mark.combining_class == 0) {
      starter = kept;
      last_class = -1;
    } else {
      last_class = mark.combining_class;
    }
    marks[kept++] = mark;
  }
  for (std::size_t i = 0; i < kept; ++i) append(out, marks[i].code_point);
  marks.clear();
}

}  // namespace

ClassTable::ClassTable() {
  std::vector<std::uint16_t> flat(0x110000);
  for (std::size_t run = 0; run < std::size(kClassRuns); ++run) {
    const char32_t end = run + 1 < std::size(kClassRuns) ? kClassRuns[run + 1].first : 0x110000;
    std::fill(flat.begin() + kClassRuns[run].first, flat.begin() + end, kClassRuns[run].bits);
  }
  const auto mark = [&flat](const auto& ranges, std::uint16_t bit) {
    for (const Range& range : ranges) {
      for (char32_t c = range.first; c <= range.last; ++c) flat[c] |= bit;
    }
  };
  mark(kNewlines, kNewline);
  mark(kDeepSeekLetters, kDeepSeekLetter);
  mark(kDeepSeekPunctuations, kDeepSeekPunctuation);
  mark(kDeepSeekCjks, kDeepSeekCjk);
  mark(kDeepSeekV3Cjks, kDeepSeekV3Cjk);
  mark(kAsciiPunctuations, kAsciiPunctuation);
  mark(kAsciiLetters, kAsciiLetter);

  std::map<std::array<std::uint16_t, 256>, std::uint16_t> seen;
  for (std::size_t block = 0; block < index_.size(); ++block) {
    std::array<std::uint16_t, 256> content;
    std::copy_n(flat.begin() + static_cast<std::ptrdiff_t>(block * 256), 256, content.begin());
    const auto [where, added] = seen.emplace(content, static_cast<std::uint16_t>(blocks_.size()));
    if (added) blocks_.push_back(content);
    index_[block] = where->second;
  }
}

const ClassTable& classes() {
  static const ClassTable table;
  return table;
}

Char decode(const char* p, const char* end) {
  if (p == end) return {0, 0, true};
  const auto byte = [p](std::size_t i) { return static_cast<unsigned char>(p[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  // The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  std::uint32_t length;
  char32_t c;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    c = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    c = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    c = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {kReplacement, 1, false};
  }
  const auto available = static_cast<std::size_t>(end - p);
  for (std::uint32_t i = 1; i < length; ++i) {
    if (i >= available || byte(i) < low || byte(i) > high) return {kReplacement, i, false};
    c = c << 6 | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {c, length, true};
}

void append(std::string& out, char32_t c) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool is_surely_nfc(std::string_view text) {
  const ClassTable& table = classes();
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p != end;) {
    // Everything below U+0300 is settled, and so is every lead byte below 0xCC.
    if (static_cast<unsigned char>(*p) < 0xCC) {
      ++p;
      continue;
    }
    const Char c = decode(p, end);
    if (table[c.code_point] & kNfcUnsettled) return false;
    p += c.length;
  }
  return true;
}

std::string nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> marks;
  const ClassTable& table = classes();
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p != end;) {
    const Char c = decode(p, end);
    if (c.well_formed) {
      // Nothing before a settled character can change with what follows it.
      if (!(table[c.code_point] & kNfcUnsettled)) compose_into(marks, out);
      decompose_into(c.code_point, marks);
    } else {
      compose_into(marks, out);
      out.append(p, c.length);
    }
    p += c.length;
  }
  compose_into(marks, out);
  return out;
}

}  // namespace fathom::unicode
