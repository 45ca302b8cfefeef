#include "store/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <exception>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/version.h"
#include "store/url.h"

namespace fathom {
namespace {

using std::chrono::milliseconds;
constexpr std::size_t kMaxHeaderBytes = 64 * 1024;
constexpr milliseconds kMaxBackoff{30'000};
constexpr milliseconds kMaxRetryAfter{120'000};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) {
    text.remove_suffix(1);
  }
  return text;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// One transfer's state, as seen from libcurl's C callbacks. Exceptions must not cross C frames, so
/// they are kept here and rethrown afterwards.
struct Transfer {
  CURL* curl = nullptr;
  HttpResponse response;
  std::size_t header_bytes = 0;
  const BodySink* sink = nullptr;
  bool begun = false;
  const std::atomic<bool>* cancelled = nullptr;
  std::exception_ptr error;

  void begin() {
    if (begun) return;
    begun = true;
    if (sink->begin && !is_redirect(response.status)) sink->begin(response);
  }
};

template <typename F>
std::size_t guarded(Transfer& transfer, std::size_t bytes, F&& body) {
  try {
    body();
    return bytes;
  } catch (...) {
    transfer.error = std::current_exception();
    return bytes == 0 ? 1 : 0;  // anything but `bytes` makes libcurl stop
  }
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, size * count);
  return guarded(transfer, line.size(), [&] {
    transfer.header_bytes += line.size();
    require(transfer.header_bytes <= kMaxHeaderBytes, ErrorCode::ResourceLimit,
            "{}: the server sent more than {} bytes of headers",
            redacted_url(transfer.response.url), kMaxHeaderBytes);
    if (line.starts_with("HTTP/")) {  // an informational answer (1xx) may precede the real one
      transfer.response.headers.clear();
      return;
    }
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    transfer.response.headers[name] = trimmed(line.substr(colon + 1));
  });
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t bytes = size * count;
  return guarded(transfer, bytes, [&] {
    long status = 0;
    curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
    transfer.response.status = static_cast<int>(status);
    transfer.begin();
    if (transfer.sink->data && !is_redirect(transfer.response.status)) {
      transfer.sink->data({reinterpret_cast<const std::byte*>(data), bytes});
    }
  });
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& transfer = *static_cast<Transfer*>(user);
  return transfer.cancelled != nullptr && transfer.cancelled->load() ? 1 : 0;
}

/// Seconds, as Retry-After most often is; its date form is answered with our own back-off.
milliseconds parse_retry_after(const std::string& text) {
  long long seconds = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return milliseconds{0};
  }
  return milliseconds{std::clamp<long long>(seconds, 0, kMaxRetryAfter.count() / 1000) * 1000};
}

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
      return true;
    default:
      return false;
  }
}

/// False when not even a connection came about.
bool was_reached(CURLcode code) {
  return code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_RESOLVE_PROXY &&
         code != CURLE_COULDNT_CONNECT;
}

void global_init() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

}  // namespace

struct HttpClient::Impl {
  CURL* curl = nullptr;
  char error[CURL_ERROR_SIZE] = {};
};

const std::string& HttpResponse::header(const std::string& lower_case_name) const {
  static const std::string none;
  const auto it = headers.find(lower_case_name);
  return it == headers.end() ? none : it->second;
}

std::optional<std::uint64_t> HttpResponse::content_length() const {
  const std::string& text = header("content-length");
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

void throw_if_cancelled(const std::atomic<bool>* cancelled) {
  require(cancelled == nullptr || !cancelled->load(), ErrorCode::Cancelled, "stopped");
}

HttpClient::HttpClient(const NetworkOptions& options, const std::atomic<bool>* cancelled,
                       HttpTrust trust)
    : options_(options),
      trust_(std::move(trust)),
      cancelled_(cancelled),
      impl_(std::make_unique<Impl>()) {
  global_init();
  impl_->curl = curl_easy_init();
  require(impl_->curl != nullptr, ErrorCode::Internal, "libcurl cannot be initialised");
}

HttpClient::~HttpClient() { curl_easy_cleanup(impl_->curl); }

bool HttpClient::is_trusted(const std::string& url) const {
  const Url parsed = parse_url(url);
  return std::any_of(trust_.trusted_hosts.begin(), trust_.trusted_hosts.end(),
                     [&](const std::string& host) {
                       return host == parsed.host || host == parsed.host + ":" + parsed.port;
                     });
}

void HttpClient::check_allowed(const std::string& url, const std::string* from) const {
  const Url to = parse_url(url);
  require(to.scheme != "file", ErrorCode::Network, "{}: a server may not redirect to a file",
          redacted_url(from != nullptr ? *from : url));
  const bool local = is_loopback(to);
  require(to.scheme == "https" || local || options_.allow_insecure_http || is_trusted(url),
          ErrorCode::Network,
          "{}: refusing plain http to another machine, where anyone on the way could change the "
          "model (--insecure allows it)",
          redacted_url(url));
  if (from == nullptr) return;
  const Url origin = parse_url(*from);
  require(origin.scheme != "https" || to.scheme == "https", ErrorCode::Network,
          "{}: refusing its redirect from https to plain http ({})", redacted_url(*from),
          redacted_url(url));
  // A server elsewhere has no business reading services of this machine through us.
  require(!local || is_loopback(origin), ErrorCode::Network,
          "{}: refusing its redirect to this machine ({})", redacted_url(*from), redacted_url(url));
}

HttpResponse HttpClient::request(const HttpRequest& request, const BodySink& sink) {
  const Url first = parse_url(request.url);
  std::string url = request.url;
  check_allowed(url, nullptr);
  for (int hop = 0;; ++hop) {
    throw_if_cancelled(cancelled_);
    CURL* curl = impl_->curl;
    curl_easy_reset(curl);  // forgets options, keeps connections
    Transfer transfer;
    transfer.curl = curl;
    transfer.sink = &sink;
    transfer.cancelled = cancelled_;
    transfer.response.url = url;
    const Url target = parse_url(url);

    curl_slist* list = nullptr;
    const auto add = [&](const std::string& line) { list = curl_slist_append(list, line.c_str()); };
    for (const auto& [name, value] : request.headers) add(name + ": " + value);
    if (!request.bearer_token.empty() && same_origin(first, target)) {
      add("Authorization: Bearer " + request.bearer_token);
    }
    const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> owned(list,
                                                                            curl_slist_free_all);
    const bool trusted = is_trusted(url);
    const auto& ca_file = trust_.ca_file.empty() ? options_.ca_file : trust_.ca_file;
    const std::string& proxy =
        !trust_.proxy.empty()
            ? trust_.proxy
            : (target.scheme == "https" ? options_.https_proxy : options_.http_proxy);
    const auto timeout = static_cast<long>(options_.timeout.count());

    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOBODY, request.head ? 1L : 0L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, owned.get());
    curl_easy_setopt(curl, CURLOPT_USERAGENT, (std::string("fathom/") + kVersion).c_str());
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, impl_->error);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, timeout);
    // A transfer may take days, but not stall.
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, std::max(1L, timeout / 1000));
    // Set even when empty: libcurl would otherwise take proxies from the environment by itself.
    curl_easy_setopt(curl, CURLOPT_PROXY, proxy.c_str());
    curl_easy_setopt(curl, CURLOPT_NOPROXY, options_.no_proxy.c_str());
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, trusted ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, trusted ? 0L : 2L);
    if (!ca_file.empty()) {
      const bool folder = std::filesystem::is_directory(ca_file);
      curl_easy_setopt(curl, folder ? CURLOPT_CAPATH : CURLOPT_CAINFO, ca_file.c_str());
    }
    if (!trust_.client_cert.empty()) {
      curl_easy_setopt(curl, CURLOPT_SSLCERT, trust_.client_cert.c_str());
    }
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);

    impl_->error[0] = '\0';
    const CURLcode code = curl_easy_perform(curl);
    if (transfer.error) std::rethrow_exception(transfer.error);
    if (code != CURLE_OK) {
      throw_if_cancelled(cancelled_);
      const char* reason = impl_->error[0] != '\0' ? impl_->error : curl_easy_strerror(code);
      const std::string message = fmt::format("{}: {}", redacted_url(url), reason);
      if (code == CURLE_PEER_FAILED_VERIFICATION) {
        fail(ErrorCode::Network,
             "{}; nothing was fetched. If a proxy of your own stands between, name the file with "
             "its "
             "certificate in SSL_CERT_FILE",
             message);
      }
      if (is_transient(code)) throw TransientError(message, milliseconds{0}, was_reached(code));
      fail(ErrorCode::Network, "{}", message);
    }
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    transfer.response.status = static_cast<int>(status);

    const std::string location = transfer.response.header("location");
    if (!is_redirect(transfer.response.status) || location.empty()) {
      transfer.begin();  // an empty body
      return transfer.response;
    }
    const std::string next = resolve_url(url, location);
    if (!request.leave_origin && !same_origin(target, parse_url(next))) return transfer.response;
    require(hop < options_.max_redirects, ErrorCode::Network, "{}: more than {} redirects",
            redacted_url(request.url), options_.max_redirects);
    check_allowed(next, &url);
    url = next;
  }
}

void throw_if_transient(const HttpResponse& response) {
  const int status = response.status;
  if (status != 408 && status != 429 && (status < 500 || status > 599)) return;
  throw TransientError(fmt::format("{}: the server answered {}{}", redacted_url(response.url),
                                   status, status == 429 ? " (too many requests)" : ""),
                       parse_retry_after(response.header("retry-after")));
}

void back_off(const NetworkOptions& options, int attempt, milliseconds retry_after,
              const std::atomic<bool>* cancelled) {
  const auto doubled = options.first_backoff * (1LL << std::min(attempt, 20));
  const auto wait =
      std::max<milliseconds>(retry_after, std::min<milliseconds>(doubled, kMaxBackoff));
  const auto until = std::chrono::steady_clock::now() + wait;
  while (std::chrono::steady_clock::now() < until) {
    throw_if_cancelled(cancelled);
    std::this_thread::sleep_for(std::min<milliseconds>(wait, milliseconds{50}));
  }
}

std::pair<HttpResponse, std::string> HttpClient::fetch(
    const HttpRequest& request, std::size_t limit,
    const std::function<void(const std::string&)>& notice) {
  for (int attempt = 0;; ++attempt) {
    try {
      std::string body;
      BodySink sink;
      sink.begin = [&](const HttpResponse& response) {
        const auto length = response.content_length();
        require(request.head || !length || *length <= limit, ErrorCode::ResourceLimit,
                "{}: answers with {} bytes where at most {} are expected",
                redacted_url(request.url), *length, limit);
      };
      sink.data = [&](std::span<const std::byte> bytes) {
        require(body.size() + bytes.size() <= limit, ErrorCode::ResourceLimit,
                "{}: answers with more than the {} bytes that are expected",
                redacted_url(request.url), limit);
        body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      };
      HttpResponse response = this->request(request, sink);
      throw_if_transient(response);
      return {std::move(response), std::move(body)};
    } catch (const TransientError& error) {
      if (attempt >= error.retries(options_)) throw;
      if (notice) notice(fmt::format("{}; trying again", error.what()));
      back_off(options_, attempt, error.retry_after(), cancelled_);
    }
  }
}

}  // namespace fathom
