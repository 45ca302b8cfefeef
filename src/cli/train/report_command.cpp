// `fathom train report`: a page about runs and evaluations.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/terminal.h"
#include "cli/train/commands.h"
#include "train/report/run_report.h"

namespace fathom {
namespace {

struct ReportArguments {
  std::vector<std::string> runs, evaluations;
  std::filesystem::path output, plots;
  std::string title = "Training";
};

/// "name=path", or a path alone, which then names itself.
std::pair<std::string, std::filesystem::path> named(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals != std::string::npos) return {text.substr(0, equals), text.substr(equals + 1)};
  const std::filesystem::path path = text;
  return {(path.has_filename() ? path : path.parent_path()).filename().string(), path};
}

void write(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void report(const ReportArguments& arguments, Context& context) {
  require(!arguments.runs.empty() || !arguments.evaluations.empty(), ErrorCode::InvalidArgument,
          "there is nothing to report on: name a run's folder, or --evaluation");
  std::vector<train::NamedLog> runs;
  for (const std::string& text : arguments.runs) {
    const auto [name, path] = named(text);
    runs.push_back(train::read_run_log(name, path));
  }
  std::vector<train::NamedEvaluation> evaluations;
  for (const std::string& text : arguments.evaluations) {
    const auto [name, path] = named(text);
    evaluations.push_back(train::read_evaluation(name, path));
  }
  write(arguments.output, train::html_report(arguments.title, runs, evaluations));
  if (!arguments.plots.empty()) {
    std::filesystem::create_directories(arguments.plots);
    auto plots = train::plots_of_evaluations(evaluations);
    for (auto& plot : train::plots_of_runs(runs)) plots.push_back(std::move(plot));
    for (const auto& plot : plots) {
      write(arguments.plots / (plot.file + ".svg"), train::to_svg(plot.plot));
    }
    if (!evaluations.empty()) {
      write(arguments.plots / "evaluations.md", train::markdown_table(evaluations));
    }
  }
  if (context.json) {
    print_json({{"report", arguments.output.string()}});
  } else {
    if (!evaluations.empty()) fmt::print("{}", train::markdown_table(evaluations));
    fmt::print("{}\n", arguments.output.string());
  }
}

}  // namespace

void add_report_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("report", "A page with plots of runs and evaluations");
  auto arguments = std::make_shared<ReportArguments>();
  command->add_option("RUN", arguments->runs, "Runs' folders, each as it is or as NAME=FOLDER")
      ->type_name("RUN");
  command
      ->add_option("--evaluation", arguments->evaluations,
                   "Results of 'fathom train evaluate -o', each as it is or as NAME=FILE")
      ->type_name("FILE ...");
  command->add_option("-o,--output", arguments->output, "The page")->type_name("FILE")->required();
  command
      ->add_option("--plots", arguments->plots, "Write each plot as SVG, and the table, here too")
      ->type_name("FOLDER");
  command->add_option("--title", arguments->title, "Of the page")->capture_default_str();
  add_json_option(*command, context);
  command->callback([arguments, &context] { report(*arguments, context); });
}

}  // namespace fathom
