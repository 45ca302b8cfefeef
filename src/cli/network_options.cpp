#include "cli/network_options.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "store/files.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxTokenBytes = 4096;

/// The first of the variables that is set and not empty.
std::string first_of(const Environment& environment, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const auto value = environment(name); value && !value->empty()) return *value;
  }
  return {};
}

bool is_true(const std::string& text) {
  std::string upper = text;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

/// A token is one word; a trailing line break, as editors leave it, would end up in a header.
std::string cleaned_token(std::string text) {
  std::erase_if(text, [](unsigned char c) { return std::isspace(c) != 0 || c < 0x20; });
  return text;
}

std::string hub_token(const Environment& environment,
                      const std::function<void(const std::string&)>& notice) {
  if (is_true(first_of(environment, {"HF_HUB_DISABLE_IMPLICIT_TOKEN"}))) return {};
  std::string token = first_of(environment, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
  if (!token.empty()) return cleaned_token(std::move(token));
  fs::path file = first_of(environment, {"HF_TOKEN_PATH"});
  if (file.empty()) {
    fs::path home = first_of(environment, {"HF_HOME"});
    if (home.empty()) {
      fs::path cache = first_of(environment, {"XDG_CACHE_HOME"});
      if (cache.empty()) cache = fs::path(first_of(environment, {"HOME"})) / ".cache";
      home = cache / "huggingface";
    }
    file = home / "token";
  }
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return {};
  try {
    return cleaned_token(read_text(file, kMaxTokenBytes));
  } catch (const Error& error) {
    if (notice) notice(error.what());
    return {};
  }
}

}  // namespace

NetworkOptions read_network_options(const Environment& environment,
                                    const std::function<void(const std::string&)>& notice) {
  NetworkOptions options;
  const std::string all = first_of(environment, {"all_proxy", "ALL_PROXY"});
  // Not HTTP_PROXY in capitals: in a CGI program that is a header a client can set, so curl, too,
  // reads only the lower-case name.
  options.http_proxy = first_of(environment, {"http_proxy"});
  options.https_proxy = first_of(environment, {"https_proxy", "HTTPS_PROXY"});
  if (options.http_proxy.empty()) options.http_proxy = all;
  if (options.https_proxy.empty()) options.https_proxy = all;
  options.no_proxy = first_of(environment, {"no_proxy", "NO_PROXY"});
  options.ca_file =
      first_of(environment, {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"});

  if (const std::string endpoint = first_of(environment, {"HF_ENDPOINT"}); !endpoint.empty()) {
    options.hub.endpoint = endpoint;
  }
  options.hub.token = hub_token(environment, notice);
  options.hub.offline = is_true(first_of(environment, {"HF_HUB_OFFLINE"}));
  options.packages = read_pip_config(environment, notice);
  return options;
}

fs::path store_folder(const std::string& chosen, const Environment& environment) {
  if (!chosen.empty()) return chosen;
  if (const std::string own = first_of(environment, {"FATHOM_HOME"}); !own.empty()) return own;
  if (const std::string data = first_of(environment, {"XDG_DATA_HOME"}); data.starts_with('/')) {
    return fs::path(data) / "fathom";  // a relative one is to be ignored, says its specification
  }
  const std::string home = first_of(environment, {"HOME"});
  require(home.starts_with('/'), ErrorCode::InvalidArgument,
          "there is no home folder to keep models in; set FATHOM_HOME or give --store");
  return fs::path(home) / ".local/share/fathom";
}

}  // namespace fathom
