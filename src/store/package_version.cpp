// PEP 440: [N!]N(.N)*[{a|b|rc}N][.postN][.devN][+local]
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <string>

#include "store/package_index.h"

namespace fathom {
namespace {

constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max();

/// Reads a version from the left.
class Scanner {
 public:
  explicit Scanner(std::string text) : text_(std::move(text)), rest_(text_) {}

  bool done() const { return rest_.empty(); }
  bool take(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void skip_separator() {
    if (!rest_.empty() && (rest_[0] == '.' || rest_[0] == '-' || rest_[0] == '_')) {
      rest_.remove_prefix(1);
    }
  }
  bool at_digit() const { return !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; }
  std::optional<std::int64_t> number() {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (!at_digit() || error != std::errc()) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }
  /// The number after a pre-, post- or dev-release word; none means 0.
  std::optional<std::int64_t> optional_number() {
    if (rest_.size() > 1 && !at_digit() && rest_[1] >= '0' && rest_[1] <= '9') skip_separator();
    return at_digit() ? number() : 0;
  }
  std::string_view rest() const { return rest_; }
  void reset(std::string_view rest) { rest_ = rest; }

 private:
  std::string text_;
  std::string_view rest_;
};

}  // namespace

std::optional<PackageVersion> PackageVersion::parse(std::string_view text) {
  if (text.size() > 200) return std::nullopt;
  std::string lowered(text.substr(0, text.find('+')));  // a local part orders last; not needed here
  for (char& c : lowered) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  Scanner scanner(lowered);
  scanner.take("v");

  std::int64_t epoch = 0;
  auto first = scanner.number();
  if (!first) return std::nullopt;
  if (scanner.take("!")) {
    epoch = *first;
    first = scanner.number();
    if (!first) return std::nullopt;
  }
  std::vector<std::int64_t> release{*first};
  while (scanner.rest().size() > 1 && scanner.rest()[0] == '.' && scanner.rest()[1] >= '0' &&
         scanner.rest()[1] <= '9') {
    scanner.take(".");
    const auto number = scanner.number();
    if (!number) return std::nullopt;
    release.push_back(*number);
  }
  while (release.size() > 1 && release.back() == 0) release.pop_back();  // 1.0 == 1

  // The longer spellings stand first, so that "alpha" is not read as "a" with a remainder.
  static constexpr std::array<std::pair<std::string_view, int>, 8> kPre{{{"alpha", 0},
                                                                         {"beta", 1},
                                                                         {"preview", 2},
                                                                         {"pre", 2},
                                                                         {"rc", 2},
                                                                         {"a", 0},
                                                                         {"b", 1},
                                                                         {"c", 2}}};
  std::int64_t pre_kind = -1;
  std::int64_t pre_number = 0;
  std::int64_t post = -1;
  std::int64_t dev = kLast;
  const auto saved = scanner.rest();
  scanner.skip_separator();
  bool matched = false;
  for (const auto& [word, kind] : kPre) {
    if (!scanner.take(word)) continue;
    const auto number = scanner.optional_number();
    if (!number) return std::nullopt;
    pre_kind = kind;
    pre_number = *number;
    matched = true;
    break;
  }
  if (!matched) scanner.reset(saved);

  const auto before_post = scanner.rest();
  const bool dashed = scanner.take("-") && scanner.at_digit();  // "1.0-1" is 1.0.post1
  if (dashed) {
    const auto number = scanner.number();
    if (!number) return std::nullopt;
    post = *number;
  } else {
    scanner.reset(before_post);
    scanner.skip_separator();
    if (scanner.take("post") || scanner.take("rev") || scanner.take("r")) {
      const auto number = scanner.optional_number();
      if (!number) return std::nullopt;
      post = *number;
    } else {
      scanner.reset(before_post);
    }
  }
  const auto before_dev = scanner.rest();
  scanner.skip_separator();
  if (scanner.take("dev")) {
    const auto number = scanner.optional_number();
    if (!number) return std::nullopt;
    dev = *number;
  } else {
    scanner.reset(before_dev);
  }
  if (!scanner.done()) return std::nullopt;

  // As packaging orders them: 1.dev0 < 1a0 < 1 < 1.post0; a development release before its own.
  if (pre_kind < 0) pre_kind = post < 0 && dev != kLast ? -2 : 3;
  PackageVersion version;
  version.pre_release_ = pre_kind != 3 || dev != kLast;
  version.key_.push_back(epoch);
  version.key_.insert(version.key_.end(), release.begin(), release.end());
  // Closes the release, so that 1 < 1.1: every further release number is greater than -1.
  version.key_.push_back(-1);
  version.key_.insert(version.key_.end(), {pre_kind, pre_number, post, dev});
  return version;
}

bool PackageVersion::is_pre_release() const { return pre_release_; }

}  // namespace fathom
