// Methods of strings that cut them into pieces.
#include <algorithm>

#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_text.h"

namespace fathom::jinja {
namespace {

/// The parts of a text, whose array may be far larger than the text.
class Parts {
 public:
  explicit Parts(Runtime& runtime) : runtime_(runtime) {}
  void add(std::string_view part) {
    runtime_.charge(1);
    runtime_.allocate(2 * sizeof(part));  // the array doubles
    parts_.push_back(part);
  }
  std::vector<std::string_view> take() { return std::move(parts_); }

 private:
  Runtime& runtime_;
  std::vector<std::string_view> parts_;
};

/// split() on white space; `limit` words are cut off before the rest stays whole.
std::vector<std::string_view> split_space(Runtime& runtime, std::string_view s, Int limit,
                                          bool from_right) {
  Parts words(runtime);
  size_t begin = 0;
  bool inside = false;
  for (size_t at = 0; at < s.size();) {
    const text::CodePoint c = text::decode(s, at);
    const bool space = text::is_space(c.value);
    if (space && inside) words.add(s.substr(begin, at - begin));
    if (!space && !inside) begin = at;
    inside = !space;
    at += c.size;
  }
  if (inside) words.add(s.substr(begin));
  std::vector<std::string_view> parts = words.take();
  if (limit < 0 || limit >= static_cast<Int>(parts.size())) return parts;

  // The rest keeps the white space inside it, and on the side that was not cut.
  const auto cut = static_cast<size_t>(limit);
  if (from_right) {
    const std::string_view last = parts[parts.size() - cut - 1];
    const std::string_view rest =
        s.substr(0, static_cast<size_t>(last.data() + last.size() - s.data()));
    parts.erase(parts.begin(), parts.end() - static_cast<ptrdiff_t>(cut + 1));
    parts.front() = rest;
  } else {
    const std::string_view rest = s.substr(static_cast<size_t>(parts[cut].data() - s.data()));
    parts.resize(cut + 1);
    parts.back() = rest;
  }
  return parts;
}

std::vector<std::string_view> split_on(Runtime& runtime, std::string_view s,
                                       const std::string& separator, Int limit, bool from_right) {
  Parts parts(runtime);
  if (!from_right) {
    size_t begin = 0;
    for (size_t at = text::find(s, separator); at != std::string_view::npos && limit-- != 0;
         at = text::find(s, separator, begin)) {
      parts.add(s.substr(begin, at - begin));
      begin = at + separator.size();
    }
    parts.add(s.substr(begin));
    return parts.take();
  }
  // Hits from the right do not overlap each other either, so a mirrored search is needed.
  runtime.allocate(s.size());
  const std::string mirrored(s.rbegin(), s.rend());
  const std::string needle(separator.rbegin(), separator.rend());
  size_t end = s.size();  // of what is not cut off yet
  for (size_t at = text::find(mirrored, needle); at != std::string::npos && limit-- != 0;
       at = text::find(mirrored, needle, s.size() - end)) {
    const size_t begin = s.size() - at;
    parts.add(s.substr(begin, end - begin));
    end = begin - needle.size();
  }
  parts.add(s.substr(0, end));
  std::vector<std::string_view> result = parts.take();
  std::reverse(result.begin(), result.end());
  return result;
}

Value as_list(Runtime& runtime, const Value& self, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(like(runtime, self, part));
  return runtime.list(std::move(items));
}

Value split_from(Runtime& runtime, const Value& self, Args& args, bool from_right) {
  const Bound bound(runtime, "split", args, {"sep", "maxsplit"});
  const Int limit = bound.integer(1, -1);
  if (!bound.has(0) || bound[0].is_none()) {
    return as_list(runtime, self, split_space(runtime, self.string(), limit, from_right));
  }
  if (bound.string(0).empty()) runtime.error("empty separator");
  return as_list(runtime, self,
                 split_on(runtime, self.string(), bound.string(0), limit, from_right));
}
Value split(Runtime& runtime, const Value& self, Args& args) {
  return split_from(runtime, self, args, false);
}
Value rsplit(Runtime& runtime, const Value& self, Args& args) {
  return split_from(runtime, self, args, true);
}

Value split_lines(Runtime& runtime, const Value& self, Args& args) {
  const Bound bound(runtime, "splitlines", args, {"keepends"});
  const std::string_view s = self.string();
  Parts parts(runtime);
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const text::CodePoint c = text::decode(s, at);
    size_t next = at + c.size;
    if (text::is_line_break(c.value)) {
      if (c.value == '\r' && next < s.size() && s[next] == '\n') ++next;
      parts.add(s.substr(begin, (bound.flag(0, false) ? next : at) - begin));
      begin = next;
    }
    at = next;
  }
  if (begin < s.size()) parts.add(s.substr(begin));
  return as_list(runtime, self, parts.take());
}

Value partition_at(Runtime& runtime, const Value& self, Args& args, bool last) {
  const Bound bound(runtime, "partition", args, {"sep"}, 1);
  const std::string& separator = bound.string(0);
  const std::string_view s = self.string();
  if (separator.empty()) runtime.error("empty separator");
  const std::vector<std::string_view> parts = split_on(runtime, s, separator, 1, last);
  std::vector<Value> three;
  if (parts.size() == 2) {
    three = {like(runtime, self, parts[0]), like(runtime, self, separator),
             like(runtime, self, parts[1])};
  } else if (last) {
    three = {like(runtime, self, ""), like(runtime, self, ""), self};
  } else {
    three = {self, like(runtime, self, ""), like(runtime, self, "")};
  }
  return runtime.tuple(std::move(three));
}
Value partition(Runtime& runtime, const Value& self, Args& args) {
  return partition_at(runtime, self, args, false);
}
Value rpartition(Runtime& runtime, const Value& self, Args& args) {
  return partition_at(runtime, self, args, true);
}

constexpr Method methods[] = {
    {"partition", partition}, {"rpartition", rpartition},  {"rsplit", rsplit},
    {"split", split},         {"splitlines", split_lines},
};

}  // namespace

std::span<const Method> split_methods() { return methods; }

}  // namespace fathom::jinja
