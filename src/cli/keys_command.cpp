// `fathom keys` and `fathom usage`: who may use the server, and what was used.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/books_file.h"
#include "cli/commands.h"
#include "cli/network_options.h"
#include "server/books.h"
#include "server/prices.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string day(std::int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::localtime_r(&time, &parts);
  return fmt::format("{:%Y-%m-%d}", parts);
}

/// Books that must be there: reading usage begins none.
server::Books open_books(const std::string& chosen) {
  const std::filesystem::path file = books_path(chosen);
  require(std::filesystem::exists(file), ErrorCode::NotFound,
          "{}: there are no keys yet ('fathom keys create NAME' makes one)", file.string());
  return server::Books(file);
}

struct KeysOptions {
  std::string action, books, name;
  std::int64_t requests = 0;
  std::int64_t tokens = 0;
  double spend = -1;
};

void create(const KeysOptions& options, const Context& context) {
  server::KeyLimits limits;
  if (options.requests > 0) limits.requests_per_minute = options.requests;
  if (options.tokens > 0) limits.tokens_per_day = options.tokens;
  if (options.spend >= 0) limits.spend_nano = std::llround(options.spend * 1e9);
  server::Books books(books_path(options.books));
  const std::string key = books.create_key(options.name, limits);
  if (context.json) return print_json({{"name", options.name}, {"key", key}});
  fmt::print("{}\n", key);
  print_note(context,
             fmt::format("the key of '{}': it is kept only as a digest, and not shown again",
                         options.name));
}

std::string limits_text(const server::KeyLimits& limits) {
  std::string text;
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (limits.requests_per_minute) add(fmt::format("{} requests/min", *limits.requests_per_minute));
  if (limits.tokens_per_day) add(fmt::format("{} tokens/day", *limits.tokens_per_day));
  if (limits.spend_nano) add(fmt::format("${:.2f} in all", server::dollars(*limits.spend_nano)));
  return text.empty() ? "none" : text;
}

void list(const std::string& file, const Context& context) {
  const std::vector<server::Key> keys = open_books(file).keys();
  if (context.json) {
    Json all = Json::array();
    for (const server::Key& key : keys) {
      const auto number = [](const std::optional<std::int64_t>& x) {
        return x ? Json(*x) : Json();
      };
      all.push_back({{"name", key.name},
                     {"beginning", key.beginning},
                     {"created", key.created},
                     {"revoked", key.revoked == 0 ? Json() : Json(key.revoked)},
                     {"requests_per_minute", number(key.limits.requests_per_minute)},
                     {"tokens_per_day", number(key.limits.tokens_per_day)},
                     {"spend", key.limits.spend_nano ? Json(server::dollars(*key.limits.spend_nano))
                                                     : Json()},
                     {"spent", server::dollars(key.spent_nano)}});
    }
    return print_json({{"keys", std::move(all)}});
  }
  fmt::print("{:<20}  {:<13}  {:<10}  {:>10}  {}\n", "NAME", "KEY", "MADE", "SPENT", "LIMITS");
  for (const server::Key& key : keys) {
    fmt::print("{:<20}  {:<13}  {:<10}  {:>10}  {}{}\n", key.name, key.beginning + "..",
               day(key.created), fmt::format("${:.4f}", server::dollars(key.spent_nano)),
               limits_text(key.limits),
               key.revoked == 0 ? "" : fmt::format(" (revoked {})", day(key.revoked)));
  }
}

struct UsageOptions {
  std::string books, key;
  int days = 30;
};

void usage(const UsageOptions& options, const Context& context) {
  const std::int64_t since = seconds_now() - std::int64_t{options.days} * 24 * 60 * 60;
  const server::Books books = open_books(options.books);
  if (!options.key.empty()) {
    const auto keys = books.keys();
    require(std::ranges::any_of(keys, [&](const auto& key) { return key.name == options.key; }),
            ErrorCode::NotFound, "no key is called '{}'", options.key);
  }
  const std::vector<server::UsageLine> lines = books.usage(since, options.key);
  server::UsageLine total;
  for (const server::UsageLine& line : lines) {
    total.requests += line.requests;
    total.cache_hit += line.cache_hit;
    total.cache_miss += line.cache_miss;
    total.completion += line.completion;
    total.cost_nano += line.cost_nano;
  }
  if (context.json) {
    const auto json = [](const server::UsageLine& line) {
      return Json{{"key", line.key.empty() ? Json() : Json(line.key)},
                  {"model", line.model},
                  {"requests", line.requests},
                  {"prompt_cache_hit_tokens", line.cache_hit},
                  {"prompt_cache_miss_tokens", line.cache_miss},
                  {"completion_tokens", line.completion},
                  {"cost", server::dollars(line.cost_nano)}};
    };
    Json all = Json::array();
    for (const server::UsageLine& line : lines) all.push_back(json(line));
    Json sum = json(total);
    sum.erase("key");
    sum.erase("model");
    return print_json({{"since", since}, {"usage", std::move(all)}, {"total", std::move(sum)}});
  }
  const auto row = [](const server::UsageLine& line, const std::string& key,
                      const std::string& model) {
    fmt::print("{:<20}  {:<24}  {:>9}  {:>12}  {:>12}  {:>12}  {:>12}\n", key, model, line.requests,
               line.cache_hit, line.cache_miss, line.completion,
               fmt::format("${:.6f}", server::dollars(line.cost_nano)));
  };
  fmt::print("{:<20}  {:<24}  {:>9}  {:>12}  {:>12}  {:>12}  {:>12}\n", "KEY", "MODEL", "REQUESTS",
             "CACHE HIT", "CACHE MISS", "OUTPUT", "COST");
  for (const server::UsageLine& line : lines) {
    row(line, line.key.empty() ? "(no key)" : line.key, line.model);
  }
  if (lines.size() != 1) row(total, "total", "");
}

}  // namespace

CLI::Option* add_books_option(CLI::App& command, std::string& file) {
  return command
      .add_option("--books", file,
                  "The file of keys and usage; books/books.sqlite in the store if not given")
      ->type_name("FILE");
}

std::filesystem::path books_path(const std::string& chosen) {
  if (!chosen.empty()) return chosen;
  return store_folder({}, process_environment()) / "books" / "books.sqlite";
}

void add_keys_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("keys", "Make, list and revoke the server's keys");
  auto options = std::make_shared<KeysOptions>();
  command
      ->add_option("ACTION", options->action, "Make a key and show it once, list all, or end one")
      ->required()
      ->check(CLI::IsMember({"create", "list", "revoke"}));
  command->add_option("NAME", options->name, "Whose key it is");
  const char* group = "create";
  command
      ->add_option("--requests-per-minute", options->requests,
                   "Requests that may begin in a minute")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->group(group);
  command
      ->add_option("--tokens-per-day", options->tokens, "Tokens of prompts and answers in 24 hours")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->group(group);
  command
      ->add_option("--spend", options->spend, "Dollars that it may spend in all (serve --prices)")
      ->type_name("USD")
      ->check(CLI::Range(0.0, 1e9))
      ->group(group);
  add_books_option(*command, options->books);
  add_json_option(*command, context);
  command->footer("fathom keys create alice --requests-per-minute 60 --spend 5");
  command->callback([options, &context] {
    if (options->action == "list") return list(options->books, context);
    if (options->name.empty()) {
      throw CLI::RequiredError("NAME, the key that is to be " +
                               std::string(options->action == "create" ? "made" : "ended"));
    }
    if (options->action == "create") return create(*options, context);
    open_books(options->books).revoke_key(options->name);
    if (context.json) print_json({{"revoked", options->name}});
    print_note(context, fmt::format("the key of '{}' is no longer good", options->name));
  });
}

void add_usage_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("usage", "Show what the server's keys used, and its cost");
  auto options = std::make_shared<UsageOptions>();
  command->add_option("--days", options->days, "Of how many days")
      ->type_name("N")
      ->check(CLI::Range(1, 36500))
      ->capture_default_str();
  command->add_option("--key", options->key, "Of one key, by its name")->type_name("NAME");
  add_books_option(*command, options->books);
  add_json_option(*command, context);
  command->callback([options, &context] { usage(*options, context); });
}

}  // namespace fathom
