#include "cli/kept_words.h"

#include <cstdlib>

#include "cli/model_store.h"

namespace fathom {

CLI::Option* add_encryption_key_option(CLI::App& command, std::string& file) {
  return command
      .add_option(
          "--encryption-key", file,
          "A file with a secret (openssl rand -hex 32) under which what is kept of what was "
          "said is encrypted; FATHOM_ENCRYPTION_KEY names it too")
      ->type_name("FILE")
      ->envname("FATHOM_ENCRYPTION_KEY");
}

std::optional<SecretKey> read_encryption_key(const std::string& file) {
  return file.empty() ? std::nullopt : std::optional(SecretKey::from_file(file));
}

std::filesystem::path chat_history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && state[0] == '/') {
    return std::filesystem::path(state) / "fathom" / "history";
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr || home[0] != '/') return {};
  return std::filesystem::path(home) / ".local" / "state" / "fathom" / "history";
}

std::filesystem::path disk_cache_folder(const Context& context) {
  return open_store(context).root() / "context-cache";
}

}  // namespace fathom
