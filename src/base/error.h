// The one exception type of Fathom, with a code a program can act on.
//
// A message says file, object, expected, found and the likely cause, in one sentence a person can
// act on: "model.gguf: tensor 'blk.3.ffn_down.weight' ends at byte 8123904, but the file has
// 8000000 bytes; the download is probably incomplete".
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace fathom {

enum class ErrorCode {
  InvalidArgument,  // the caller asked for something that cannot be
  NotFound,         // a file, tensor, model or name does not exist
  Io,               // the operating system refused a read or a write
  Corrupt,          // a file contradicts itself or its format
  Unsupported,      // well-formed, but Fathom does not implement it
  ResourceLimit,    // over a stated limit (memory, depth, steps, context)
  Network,          // a server could not be reached or answered wrongly
  Cancelled,        // the user or a deadline stopped it
  Internal,         // a bug in Fathom
};

/// The code's name as printed in `--json` output, e.g. "corrupt".
constexpr const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::InvalidArgument:
      return "invalid_argument";
    case ErrorCode::NotFound:
      return "not_found";
    case ErrorCode::Io:
      return "io";
    case ErrorCode::Corrupt:
      return "corrupt";
    case ErrorCode::Unsupported:
      return "unsupported";
    case ErrorCode::ResourceLimit:
      return "resource_limit";
    case ErrorCode::Network:
      return "network";
    case ErrorCode::Cancelled:
      return "cancelled";
    case ErrorCode::Internal:
      return "internal";
  }
  return "internal";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// Throws Error with a formatted message: `fail(ErrorCode::Corrupt, "{}: no tensors", path)`.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// fail() unless `condition` holds.
template <typename... Args>
void require(bool condition, ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(code, format, std::forward<Args>(args)...);
}

}  // namespace fathom
