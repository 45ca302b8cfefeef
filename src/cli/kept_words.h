// What commands keep of what was said, and under which key: the history of chats at the terminal,
// and the pages of the server's context cache.
#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <optional>
#include <string>

#include "base/secret_key.h"
#include "cli/context.h"

namespace fathom {

/// Adds --encryption-key.
CLI::Option* add_encryption_key_option(CLI::App& command, std::string& file);

/// The key in the file; none if no file was named. Throws as SecretKey::from_file().
std::optional<SecretKey> read_encryption_key(const std::string& file);

/// Lines that were typed in chats. Empty if the environment names no place for it.
std::filesystem::path chat_history_file();

/// The server's pages, in the store.
std::filesystem::path disk_cache_folder(const Context& context);

}  // namespace fathom
