// `fathom forget`: deletes what was said.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/books_file.h"
#include "cli/commands.h"
#include "cli/kept_words.h"
#include "engine/context_store.h"
#include "server/books.h"

namespace fathom {
namespace {

struct Options {
  std::string key, books, encryption_key;
};

/// A name may have had several keys, one after the other.
std::size_t forget_pages_of(const std::string& name, const Options& options,
                            const Context& context) {
  const std::filesystem::path file = books_path(options.books);
  require(std::filesystem::exists(file), ErrorCode::NotFound, "{}: there are no keys",
          file.string());
  const std::optional<SecretKey> secret = read_encryption_key(options.encryption_key);
  bool known = false;
  std::size_t pages = 0;
  for (const server::Key& key : server::Books(file).keys()) {
    if (key.name != name) continue;
    known = true;
    pages += forget_pages(disk_cache_folder(context), key.cache_scope, secret);
  }
  require(known, ErrorCode::NotFound, "no key is called '{}'", name);
  return pages;
}

void forget(const Options& options, const Context& context) {
  std::size_t pages = 0;
  bool history = false;
  if (!options.key.empty()) {
    pages = forget_pages_of(options.key, options, context);
  } else {
    pages = forget_pages(disk_cache_folder(context));
    const std::filesystem::path file = chat_history_file();
    std::error_code failed;
    if (!file.empty()) history = std::filesystem::remove(file, failed);
    require(!failed, ErrorCode::Io, "{}: cannot be deleted: {}", file.string(), failed.message());
  }
  if (context.json) return print_json({{"pages", pages}, {"history", history}});
  print_note(context, fmt::format("{} pages of the context cache{} deleted", pages,
                                  history ? " and the chat history" : ""));
}

}  // namespace

void add_forget_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "forget", "Delete what is kept of what was said: the context cache on disk, chats' history");
  auto options = std::make_shared<Options>();
  command
      ->add_option("--key", options->key,
                   "Only what the requests of this key left in the context cache")
      ->type_name("NAME");
  add_books_option(*command, options->books);
  add_encryption_key_option(*command, options->encryption_key);
  add_json_option(*command, context);
  command->footer(
      "fathom forget\n"
      "fathom forget --key alice");
  command->callback([options, &context] { forget(*options, context); });
}

}  // namespace fathom
