// A page about runs: plots of what their logs say, tables of evaluations, answers to browse. One
// file that needs nothing else.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "train/report/plot.h"

namespace fathom::train {

/// A run's log, or an evaluation's result, and what to call it.
struct NamedLog {
  std::string name;
  std::vector<nlohmann::json> lines;
};
struct NamedEvaluation {
  std::string name;
  nlohmann::json result;  // of `fathom train evaluate --json`
};

/// The lines of run/log.jsonl. Throws Error(NotFound | Corrupt), naming the line.
NamedLog read_run_log(const std::string& name, const std::filesystem::path& run);
/// Throws Error(NotFound | Corrupt).
NamedEvaluation read_evaluation(const std::string& name, const std::filesystem::path& file);

struct NamedPlot {
  std::string file;  // what a file with it would be called, without an ending
  Plot plot;
};
/// Of everything that two lines or more of a log say, one plot for all runs that say it.
std::vector<NamedPlot> plots_of_runs(const std::vector<NamedLog>& runs);
/// Right answers over tries, and over tokens of thought.
std::vector<NamedPlot> plots_of_evaluations(const std::vector<NamedEvaluation>& evaluations);

std::string html_report(const std::string& title, const std::vector<NamedLog>& runs,
                        const std::vector<NamedEvaluation>& evaluations);
/// The evaluations' table for a document in Markdown.
std::string markdown_table(const std::vector<NamedEvaluation>& evaluations);

}  // namespace fathom::train
