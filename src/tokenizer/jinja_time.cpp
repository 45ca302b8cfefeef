// strftime_now: the time that the caller passes, in strftime's words, always in English.
#include <array>
#include <cstdio>

#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {
namespace {

struct Time {
  int year, month, day, hour, minute, second;
};

Time parse_time(Runtime& runtime, const std::string& s) {
  Time t{};
  int length = 0;
  const int fields = std::sscanf(s.c_str(), "%4d-%2d-%2d%*1[ T]%2d:%2d:%2d%n", &t.year, &t.month,
                                 &t.day, &t.hour, &t.minute, &t.second, &length);
  const bool in_range = t.year >= 1 && t.month >= 1 && t.month <= 12 && t.day >= 1 && t.day <= 31 &&
                        t.hour >= 0 && t.hour <= 23 && t.minute >= 0 && t.minute <= 59 &&
                        t.second >= 0 && t.second <= 60;
  if (fields != 6 || static_cast<size_t>(length) != s.size() || !in_range) {
    runtime.error("the input 'now' is '{}', expected 'YYYY-MM-DD HH:MM:SS'", s);
  }
  return t;
}

/// 1 to 366.
int day_of_year(const Time& t) {
  constexpr int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  const bool leap = (t.year % 4 == 0 && t.year % 100 != 0) || t.year % 400 == 0;
  return before[t.month - 1] + t.day + (leap && t.month > 2 ? 1 : 0);
}

/// 0 is Sunday.
int weekday(const Time& t) {
  const int y = t.year - 1;
  return (y + y / 4 - y / 100 + y / 400 + day_of_year(t)) % 7;
}

}  // namespace

std::string format_time(Runtime& runtime, const std::string& format, const Value& now) {
  if (!now.is_string()) {
    runtime.error("strftime_now needs the input 'now' (YYYY-MM-DD HH:MM:SS), which is absent");
  }
  const Time t = parse_time(runtime, now.string());
  static constexpr std::array<const char*, 12> months = {
      "January", "February", "March",     "April",   "May",      "June",
      "July",    "August",   "September", "October", "November", "December"};
  static constexpr std::array<const char*, 7> days = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                      "Thursday", "Friday", "Saturday"};
  const std::string month = months[static_cast<size_t>(t.month - 1)];
  const std::string day = days[static_cast<size_t>(weekday(t))];
  const int hour12 = t.hour % 12 == 0 ? 12 : t.hour % 12;
  std::string out;
  for (size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%' || at + 1 >= format.size()) {
      out += format[at];
      continue;
    }
    // "%-d" is glibc's way to drop the leading zero.
    const bool bare = format[at + 1] == '-' && at + 2 < format.size();
    const char letter = format[at += bare ? 2 : 1];
    const auto number = [&](int value, int width) {
      out += bare ? fmt::format("{}", value) : fmt::format("{:0{}}", value, width);
    };
    switch (letter) {
      case 'Y':
        out += fmt::format("{}", t.year);
        break;
      case 'y':
        number(t.year % 100, 2);
        break;
      case 'm':
        number(t.month, 2);
        break;
      case 'd':
        number(t.day, 2);
        break;
      case 'e':
        out += bare ? fmt::format("{}", t.day) : fmt::format("{:2}", t.day);
        break;
      case 'H':
        number(t.hour, 2);
        break;
      case 'I':
        number(hour12, 2);
        break;
      case 'M':
        number(t.minute, 2);
        break;
      case 'S':
        number(t.second, 2);
        break;
      case 'j':
        number(day_of_year(t), 3);
        break;
      case 'B':
        out += month;
        break;
      case 'b':
      case 'h':
        out += month.substr(0, 3);
        break;
      case 'A':
        out += day;
        break;
      case 'a':
        out += day.substr(0, 3);
        break;
      case 'w':
        number(weekday(t), 1);
        break;
      case 'u':
        number(weekday(t) == 0 ? 7 : weekday(t), 1);
        break;
      case 'p':
        out += t.hour < 12 ? "AM" : "PM";
        break;
      case 'F':
        out += fmt::format("{}-{:02}-{:02}", t.year, t.month, t.day);
        break;
      case 'D':
        out += fmt::format("{:02}/{:02}/{:02}", t.month, t.day, t.year % 100);
        break;
      case 'T':
        out += fmt::format("{:02}:{:02}:{:02}", t.hour, t.minute, t.second);
        break;
      case 'R':
        out += fmt::format("{:02}:{:02}", t.hour, t.minute);
        break;
      case '%':
        out += '%';
        break;
      default:
        fail(ErrorCode::Unsupported, "chat template: strftime_now does not know '%{}'", letter);
    }
  }
  return out;
}

}  // namespace fathom::jinja
