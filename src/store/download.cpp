#include "store/download.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/sha256.h"
#include "store/git_hash.h"
#include "store/url.h"

namespace fathom {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
constexpr std::size_t kMaxStateBytes = 64 * 1024;

/// What is known of the bytes in the partial file.
struct PartialState {
  std::string validator;  // a strong ETag, as the data's own server gave it; empty: cannot resume
  std::optional<std::uint64_t> total;
};

fs::path state_path(const fs::path& target) { return target.string() + ".json"; }

/// What makes two files the same: their digest if known, wherever they come from; else the address.
json identity(const RemoteFile& remote) {
  if (!remote.sha256.empty()) return {{"sha256", remote.sha256}};
  if (!remote.git_id.empty()) return {{"git_id", remote.git_id}};
  return {{"url", redacted_url(remote.url)}};
}

void save_state(const fs::path& target, const RemoteFile& remote, const PartialState& state) {
  AtomicFile file(state_path(target));
  json document = {{"of", identity(remote)}, {"etag", state.validator}};
  if (state.total) document["total"] = *state.total;
  file.write(document.dump(1));
  file.commit();
}

/// The state if the partial file belongs to `remote` as it is now, else nothing.
std::optional<PartialState> load_state(const fs::path& target, const RemoteFile& remote) {
  if (!fs::exists(target) || !fs::exists(state_path(target))) return std::nullopt;
  const json document = json::parse(read_text(state_path(target), kMaxStateBytes), nullptr, false);
  if (!document.is_object() || document.value("of", json()) != identity(remote)) {
    return std::nullopt;
  }
  PartialState state;
  if (const auto etag = document.find("etag"); etag != document.end() && etag->is_string()) {
    state.validator = etag->get<std::string>();
  }
  if (const auto total = document.find("total");
      total != document.end() && total->is_number_unsigned()) {
    state.total = total->get<std::uint64_t>();
  }
  return state;
}

void discard(const fs::path& target) {
  std::error_code ignored;
  fs::remove(target, ignored);
  fs::remove(state_path(target), ignored);
}

struct ContentRange {
  std::uint64_t first = 0;
  std::optional<std::uint64_t> total;
};

/// "bytes 100-199/1000" (RFC 9110, section 14.4).
std::optional<ContentRange> parse_content_range(const std::string& text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  ContentRange range;
  const char* at = text.data() + kUnit.size();
  const char* end = text.data() + text.size();
  auto result = std::from_chars(at, end, range.first);
  const auto slash = text.find('/');
  if (result.ec != std::errc() || result.ptr == end || *result.ptr != '-' ||
      slash == std::string::npos) {
    return std::nullopt;
  }
  std::uint64_t total = 0;
  result = std::from_chars(text.data() + slash + 1, end, total);
  if (result.ec == std::errc() && result.ptr == end) range.total = total;
  return range;
}

/// One file's transfer, over as many requests as it takes.
class Transfer {
 public:
  Transfer(HttpClient& http, const RemoteFile& remote, const fs::path& target,
           const StoreOptions& options)
      : http_(http),
        remote_(remote),
        target_(target),
        options_(options),
        progress_(options.progress, "downloading " + remote.label, remote.size.value_or(0)) {}

  HashedFile run() {
    prepare();
    int attempt = 0;
    while (!complete()) {
      const std::uint64_t before = writer_->size();
      try {
        one_request();
      } catch (const TransientError& error) {
        if (writer_->size() > before) attempt = 0;
        if (attempt >= error.retries(http_.options())) {
          fail(ErrorCode::Network, "{} (gave up after {} tries; the same command resumes it)",
               error.what(), attempt + 1);
        }
        if (options_.notice) {
          options_.notice(
              fmt::format("{}; going on from {}", error.what(), format_bytes(writer_->size())));
        }
        back_off(http_.options(), attempt++, error.retry_after(), options_.cancelled);
      }
    }
    return finish();
  }

  /// The bytes came in more than one piece.
  bool resumed() const { return resumed_; }
  /// Nothing has arrived that a later attempt could go on from.
  bool nothing_kept() const { return !writer_ || writer_->size() == 0; }

 private:
  void prepare() {
    const auto state = load_state(target_, remote_);
    if (!state) discard(target_);
    state_ = state.value_or(PartialState{});
    hash_ = std::make_unique<Sha256>();
    std::uint64_t present = 0;
    if (state) {
      read_in_pieces(target_, options_.cancelled, [&](std::span<const std::byte> bytes) {
        hash_->update(bytes);
        present += bytes.size();
      });
    }
    writer_ = std::make_unique<FileWriter>(target_, FileWriter::Mode::Append);
    require(writer_->size() == present, ErrorCode::Io, "{}: changed while it was being read",
            target_.string());
    resumed_ = present > 0;
    if (remote_.size && present > *remote_.size) restart();
    progress_.resume_at(writer_->size());
  }

  /// Forgets the bytes that are there.
  void restart() {
    writer_->truncate();
    hash_ = std::make_unique<Sha256>();
    state_ = {};
    resumed_ = false;
    progress_.resume_at(0);
  }

  std::optional<std::uint64_t> expected_size() const {
    return remote_.size ? remote_.size : state_.total;
  }

  /// A size that an earlier attempt heard of is not enough: the file may have changed since.
  bool complete() const { return done_ || (remote_.size && writer_->size() == *remote_.size); }

  void one_request() {
    HttpRequest request;
    request.url = remote_.url;
    request.bearer_token = remote_.bearer_token;
    request.headers.emplace_back("Accept-Encoding", "identity");
    if (writer_->size() > 0 && state_.validator.empty() && remote_.sha256.empty()) {
      restart();  // nothing says that the rest would belong to these bytes
    }
    const std::uint64_t start = writer_->size();
    if (start > 0) {
      request.headers.emplace_back("Range", fmt::format("bytes={}-", start));
      if (!state_.validator.empty()) request.headers.emplace_back("If-Range", state_.validator);
    }
    bool take_body = false;
    BodySink sink;
    sink.begin = [&](const HttpResponse& response) { take_body = begin_body(response, start); };
    sink.data = [&](std::span<const std::byte> bytes) {
      if (take_body) receive(bytes);
    };
    const HttpResponse response = http_.request(request, sink);
    throw_if_transient(response);
    if (response.status == 416 && start > 0) {
      // The file there is shorter than what we have, so it is another file.
      restart();
      return;
    }
    if (response.status >= 300) fail_for_status(response, remote_.label);
    const auto expected = expected_size();
    if (expected && writer_->size() < *expected) {
      throw TransientError(fmt::format("{}: the connection closed after {} of {} bytes",
                                       redacted_url(remote_.url), writer_->size(), *expected),
                           std::chrono::milliseconds{0});
    }
    done_ = true;
  }

  /// Looks at status and headers; true when the body is the file's bytes from the current size on.
  bool begin_body(const HttpResponse& response, std::uint64_t start) {
    if (response.status != 200 && response.status != 206) return false;
    PartialState next;
    const std::string& etag = response.header("etag");
    // Only a strong ETag promises equal bytes (RFC 9110, section 8.8.1).
    if (!etag.starts_with("W/")) next.validator = etag;
    if (response.status == 206) {
      const auto range = parse_content_range(response.header("content-range"));
      require(start > 0 && range && range->first == start, ErrorCode::Network,
              "{}: asked for bytes from {}, the server sent the range '{}'",
              redacted_url(response.url), start, response.header("content-range"));
      next.total = range->total;
      resumed_ = true;
      if (next.validator.empty()) next.validator = state_.validator;
    } else {
      if (start > 0) {
        if (options_.notice) {
          options_.notice(
              fmt::format("{}: the server does not resume it, or the file changed; starting again",
                          remote_.label));
        }
        restart();
      }
      next.total = response.content_length();
    }
    if (next.total && remote_.size && *next.total != *remote_.size) {
      discard(target_);
      fail(ErrorCode::Corrupt,
           "{}: expected {} bytes, the server has {}; the file was changed or cut short there",
           remote_.label, *remote_.size, *next.total);
    }
    if (next.total) {
      require_space(target_.parent_path(), *next.total - std::min(writer_->size(), *next.total),
                    remote_.label);
    }
    state_ = next;
    save_state(target_, remote_, state_);
    if (next.total) progress_.set_total(*next.total);
    return true;
  }

  void receive(std::span<const std::byte> bytes) {
    if (const auto expected = expected_size();
        expected && bytes.size() > *expected - std::min(writer_->size(), *expected)) {
      discard(target_);
      fail(ErrorCode::Corrupt, "{}: the server sends more than the expected {} bytes",
           remote_.label, *expected);
    }
    writer_->write(bytes);
    hash_->update(bytes);
    progress_.advance(bytes.size());
  }

  HashedFile finish() {
    HashedFile result;
    result.size = writer_->size();
    writer_->finish();
    result.sha256 = hash_->hex_digest();
    if (!remote_.sha256.empty() && result.sha256 != remote_.sha256) {
      discard(target_);
      fail(ErrorCode::Corrupt, "{}: SHA-256 is {}, expected {}; the download is damaged or forged",
           remote_.label, result.sha256, remote_.sha256);
    }
    if (!remote_.git_id.empty() && git_blob_id(target_) != remote_.git_id) {
      discard(target_);
      fail(ErrorCode::Corrupt,
           "{}: its content is not the one with git id {}; the download is damaged", remote_.label,
           remote_.git_id);
    }
    progress_.finish();
    return result;
  }

  HttpClient& http_;
  const RemoteFile& remote_;
  const fs::path& target_;
  const StoreOptions& options_;
  Progress progress_;
  PartialState state_;
  std::unique_ptr<FileWriter> writer_;
  std::unique_ptr<Sha256> hash_;
  bool resumed_ = false;
  bool done_ = false;
};

}  // namespace

HashedFile download(HttpClient& http, const RemoteFile& remote, const fs::path& target,
                    const StoreOptions& options) {
  bool resumed = false;
  try {
    Transfer transfer(http, remote, target, options);
    try {
      return transfer.run();
    } catch (const Error&) {
      resumed = transfer.resumed();
      if (transfer.nothing_kept()) discard(target);
      throw;
    }
  } catch (const Error& error) {
    // Half of one file and half of another, or a bad disk: once more from the start settles it.
    if (error.code() != ErrorCode::Corrupt || !resumed) throw;
    if (options.notice) options.notice(fmt::format("{}; downloading it anew", error.what()));
  }
  return Transfer(http, remote, target, options).run();
}

void fail_for_status(const HttpResponse& response, const std::string& what) {
  const std::string url = redacted_url(response.url);
  switch (response.status) {
    case 401:
      fail(ErrorCode::Network,
           "{}: {} answers 401 (not signed in); a token may be missing or wrong", what, url);
    case 403:
      fail(ErrorCode::Network, "{}: {} answers 403 (no permission)", what, url);
    case 404:
    case 410:
      fail(ErrorCode::NotFound, "{}: {} answers {} (not found)", what, url, response.status);
    default:
      fail(ErrorCode::Network, "{}: {} answers {}", what, url, response.status);
  }
}

}  // namespace fathom
