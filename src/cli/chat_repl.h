// The conversation at the terminal: a line is read, an answer printed, until Ctrl-D.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/secret_key.h"
#include "cli/chat_session.h"

namespace fathom {

struct ReplOptions {
  std::string model;  // as the person named it
  std::uint64_t parameters = 0;
  std::filesystem::path history_file;    // empty: no history is kept
  std::optional<SecretKey> history_key;  // under which it is sealed
};

/// Talks until the person leaves. Errors of single turns are printed, not thrown.
void run_repl(ChatSession& session, const Engine& engine, const ChatFormat* format,
              const ReplOptions& options);

/// How answers look on this terminal.
PrinterOptions printer_options(ThinkingView view);

}  // namespace fathom
