// `fathom self-test`: what the program promises, shown on this machine.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/model_loader.h"
#include "cli/model_store.h"
#include "cli/privacy_test.h"
#include "formats/random_model.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

struct Options {
  bool privacy = false;
  bool allow_pull = false;
  std::string model;
};

/// Removed with everything in it.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "fathom-self-test-XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr, ErrorCode::Io, "{}: no folder can be made there",
            fs::temp_directory_path().string());
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// What a server does is the same with any weights; two layers are quick, even when traced.
fs::path make_small_model(const fs::path& folder) {
  RandomModelOptions options;
  options.type = "Q8_0";
  options.layers = 2;
  const fs::path file = folder / "random.gguf";
  make_random_gguf(find_model_shape("smollm2-135m"), file, options);
  return file;
}

void print_violations(const char* whose, const nlohmann::ordered_json& violations) {
  if (violations.empty()) return;
  fmt::print("\n{:<40}  {:<18}  {:<10}  {}\n", whose, "CALL", "BEFORE", "AFTER");
  for (const auto& violation : violations) {
    std::string after;
    for (const auto& result : violation.at("after")) {
      const auto word = result.get<std::string>();
      if (after.find(word) == std::string::npos) after += (after.empty() ? "" : ", ") + word;
    }
    fmt::print("{:<40}  {:<18}  {:<10}  {}\n", violation.at("name").get<std::string>(),
               violation.at("call").get<std::string>(), violation.value("before", std::string("-")),
               after);
  }
}

void print_report(const nlohmann::ordered_json& report, bool fetches) {
  for (const auto& check : report.at("checks")) {
    fmt::print("{}  {}\n      {}\n", check.at("ok") == true ? " ok " : "FAIL",
               check.at("name").get<std::string>(), check.at("detail").get<std::string>());
  }
  print_violations("DELIBERATE VIOLATION", report.at("violations"));
  print_violations("OF THE FETCHING PROCESS", report.at("violations_of_the_fetching_process"));
  fmt::print("\n{}\n", report.at("ok") == true
                           ? (fetches ? "Nothing leaves this machine but names of models."
                                      : "Nothing leaves this machine.")
                           : "This machine does not give all that the server promises.");
}

void self_test(const Options& options, Context& context) {
  require(options.privacy, ErrorCode::InvalidArgument, "what is to be tested? --privacy");
  const Scratch scratch;
  PrivacyTestOptions test;
  test.program = fs::read_symlink("/proc/self/exe");
  test.scratch = scratch.path();
  test.model = options.model.empty()
                   ? make_small_model(scratch.path())
                   : fs::absolute(find_model(options.model, /*pull=*/false, context));
  test.fetches = options.allow_pull;
  if (test.fetches) {
    StoreOptions store = store_options(context, (scratch.path() / "home").string());
    Store(std::move(store)).import(test.model, ImportMode::Link, "served");
  }
  const nlohmann::ordered_json report = run_privacy_test(test);
  if (context.json) {
    print_json(report);
  } else {
    print_report(report, test.fetches);
  }
  if (report.at("ok") != true) context.exit_code = ExitCode::Failure;
}

}  // namespace

void add_self_test_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "self-test", "Show on this machine that the server keeps what it promises");
  auto options = std::make_shared<Options>();
  command->add_flag("--privacy", options->privacy,
                    "A server is traced while it answers, and made to try what it must not");
  command->add_flag("--allow-pull", options->allow_pull,
                    "With the process that fetches models for users, which is watched too");
  command->add_option("MODEL", options->model, "Served meanwhile; a small random one if not given")
      ->type_name("");
  add_json_option(*command, context);
  command->footer("fathom self-test --privacy");
  command->callback([options, &context] { self_test(*options, context); });
}

}  // namespace fathom
