#include "engine/exact_answer.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace fathom {
namespace {

std::string cleaned(std::string text) {
  std::erase(text, ',');
  const auto outside = [](char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0 || c == '$' || c == '.' || c == '*';
  };
  while (!text.empty() && outside(text.back())) text.pop_back();
  while (!text.empty() && outside(text.front())) text.erase(0, 1);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool is_number(const std::string& text) {
  if (text.empty()) return false;
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return *end == '\0';
}

std::string last_number(const std::string& text) {
  std::string number;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) {
      return at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0;
    };
    if (!digit(i)) continue;
    std::size_t end = i;
    while (digit(end) || ((text[end] == ',' || text[end] == '.') && digit(end + 1))) ++end;
    // A minus belongs to the number unless it stands between two words ("top-10").
    const bool minus = i > 0 && text[i - 1] == '-' &&
                       (i == 1 || std::isalnum(static_cast<unsigned char>(text[i - 2])) == 0);
    number.assign(text, minus ? i - 1 : i, minus ? end - i + 1 : end - i);
    i = end;
  }
  return number;
}

}  // namespace

std::string exact_answer(const std::string& text, bool expect_number) {
  std::string part = text;
  if (const std::size_t mark = text.rfind("####"); mark != std::string::npos) {
    part = text.substr(mark + 4);
    part = part.substr(0, part.find('\n'));
  } else if (const std::size_t box = text.rfind("\\boxed{"); box != std::string::npos) {
    part = text.substr(box + 7);
    part = part.substr(0, part.find('}'));
  } else if (!expect_number) {
    return cleaned(part);
  }
  return cleaned(expect_number ? last_number(part) : part);
}

bool same_answer(const std::string& expected, const std::string& output) {
  const std::string wanted = exact_answer(expected, false);
  const bool number = is_number(wanted);
  const std::string got = exact_answer(output, number);
  if (!number) return got == wanted;
  return is_number(got) && std::stod(got) == std::stod(wanted);
}

Interval wilson_interval(std::size_t right, std::size_t total) {
  if (total == 0) return {};
  constexpr double z = 1.959964;
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(right) / n;
  const double middle = p + z * z / (2 * n);
  const double spread = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  const double scale = 1 + z * z / n;
  return {std::max(0.0, (middle - spread) / scale), std::min(1.0, (middle + spread) / scale)};
}

}  // namespace fathom
