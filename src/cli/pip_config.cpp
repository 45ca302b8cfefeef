#include "cli/pip_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "store/files.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxConfBytes = 1024 * 1024;

/// The settings that matter here; a PIP_ variable of any other name is none of our business.
constexpr std::array kNames{
    "index-url", "extra-index-url", "find-links", "trusted-host", "no-index",        "pre",
    "cert",      "client-cert",     "proxy",      "timeout",      "default-timeout", "retries"};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) {
    text.remove_suffix(1);
  }
  return text;
}

/// "--Index_URL" -> "index-url", as pip does.
std::string normalised(std::string_view name) {
  if (name.starts_with("--")) name.remove_prefix(2);
  std::string out(name);
  for (char& c : out) {
    c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> out(1);
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      out.back() += c;
    } else if (!out.back().empty()) {
      out.emplace_back();
    }
  }
  if (out.back().empty()) out.pop_back();
  return out;
}

bool truth(const std::string& name, const std::string& value) {
  const std::string word = normalised(value);
  for (const char* yes : {"1", "true", "yes", "on", "y", "t"}) {
    if (word == yes) return true;
  }
  for (const char* no : {"0", "false", "no", "off", "n", "f"}) {
    if (word == no) return false;
  }
  fail(ErrorCode::InvalidArgument, "pip's setting {} = '{}' is neither true nor false", name,
       value);
}

double number(const std::string& name, const std::string& value) {
  double result = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  require(error == std::errc() && end == value.data() + value.size() && result >= 0 && result < 1e6,
          ErrorCode::InvalidArgument, "pip's setting {} = '{}' is not a number", name, value);
  return result;
}

fs::path home(const Environment& environment) { return environment("HOME").value_or(""); }

std::string expanded(const std::string& path, const Environment& environment) {
  return path.starts_with("~/") ? (home(environment) / path.substr(2)).string() : path;
}

void apply(PackageIndexOptions& options, const std::string& name, const std::string& value,
           const Environment& environment) {
  if (name == "index-url") {
    options.index_url = value;
  } else if (name == "extra-index-url") {
    options.extra_index_urls = words(value);
  } else if (name == "find-links") {
    options.find_links = words(value);
    for (std::string& link : options.find_links) link = expanded(link, environment);
  } else if (name == "trusted-host") {
    options.trusted_hosts = words(value);
  } else if (name == "no-index") {
    options.no_index = truth(name, value);
  } else if (name == "pre") {
    options.pre_releases = truth(name, value);
  } else if (name == "cert") {
    options.ca_file = expanded(value, environment);
  } else if (name == "client-cert") {
    options.client_cert = expanded(value, environment);
  } else if (name == "proxy") {
    options.proxy = value;
  } else if (name == "timeout" || name == "default-timeout") {
    options.timeout = std::chrono::milliseconds(static_cast<long long>(number(name, value) * 1000));
  } else if (name == "retries") {
    options.retries = static_cast<int>(number(name, value));
  }
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  };
}

std::map<std::string, PipSection> parse_pip_conf(
    std::string_view text, const std::function<void(const std::string&)>& problem) {
  std::map<std::string, PipSection> sections;
  PipSection* section = nullptr;
  std::string* value = nullptr;  // that an indented line goes on with
  for (int line_number = 1; !text.empty(); ++line_number) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view raw = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view line = trimmed(raw);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (std::isspace(static_cast<unsigned char>(raw.front())) != 0 && value != nullptr) {
      *value += (value->empty() ? "" : "\n") + std::string(line);
      continue;
    }
    value = nullptr;
    if (line.front() == '[' && line.find(']') != std::string_view::npos) {
      section = &sections[std::string(line.substr(1, line.find(']') - 1))];
      continue;
    }
    const auto separator = line.find_first_of("=:");
    if (section == nullptr || separator == std::string_view::npos || separator == 0) {
      if (problem) problem(fmt::format("line {} is no setting of pip", line_number));
      continue;
    }
    value = &(*section)[normalised(trimmed(line.substr(0, separator)))];
    *value = trimmed(line.substr(separator + 1));
  }
  return sections;
}

std::vector<fs::path> pip_conf_files(const Environment& environment) {
  const auto own = environment("PIP_CONFIG_FILE");
  if (own == "/dev/null") return {};  // pip's way to say: no configuration at all
  std::vector<fs::path> files;
  std::string folders = environment("XDG_CONFIG_DIRS").value_or("");
  if (folders.empty()) folders = "/etc/xdg";
  for (std::size_t begin = 0; begin <= folders.size();) {
    const auto end = std::min(folders.find(':', begin), folders.size());
    if (end > begin) files.push_back(fs::path(folders.substr(begin, end - begin)) / "pip/pip.conf");
    begin = end + 1;
  }
  files.emplace_back("/etc/pip.conf");
  std::error_code ignored;
  if (!own || !fs::exists(*own, ignored)) {
    files.push_back(home(environment) / ".pip/pip.conf");
    const auto config = environment("XDG_CONFIG_HOME");
    files.push_back(
        (config && !config->empty() ? fs::path(*config) : home(environment) / ".config") /
        "pip/pip.conf");
  }
  if (const auto prefix = environment("VIRTUAL_ENV"); prefix && !prefix->empty()) {
    files.push_back(fs::path(*prefix) / "pip.conf");
  }
  if (own && !own->empty()) files.emplace_back(*own);
  return files;
}

PackageIndexOptions read_pip_config(const Environment& environment,
                                    const std::function<void(const std::string&)>& problem) {
  std::map<std::string, PipSection> merged;
  for (const fs::path& file : pip_conf_files(environment)) {
    std::error_code ignored;
    if (!fs::is_regular_file(file, ignored)) continue;
    const auto tell = [&](const std::string& text) {
      if (problem) problem(file.string() + ": " + text);
    };
    try {
      for (auto& [name, section] : parse_pip_conf(read_text(file, kMaxConfBytes), tell)) {
        for (auto& [key, value] : section) merged[name][key] = std::move(value);
      }
    } catch (const Error& error) {
      if (problem) problem(error.what());  // pip also goes on without a file it may not read
    }
  }
  PackageIndexOptions options;
  for (const char* section : {"global", "install", "download"}) {
    for (const auto& [name, value] : merged[section]) {
      if (!value.empty()) apply(options, name, value, environment);
    }
  }
  for (const char* name : kNames) {
    std::string variable = std::string("PIP_") + name;
    for (char& c : variable) {
      c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    const auto value = environment(variable);
    if (value && !value->empty()) apply(options, name, *value, environment);
  }
  return options;
}

}  // namespace fathom
