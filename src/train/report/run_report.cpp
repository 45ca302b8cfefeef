#include "train/report/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/json_guard.h"
#include "tokenizer/jinja_text.h"

namespace fathom::train {
namespace {

using nlohmann::json;

/// What logs say, in the order of a page. A path's parts lie within each other.
struct Measure {
  const char *path, *title, *unit;
};
constexpr Measure kMeasures[] = {
    {"loss", "Loss", "nats a token"},
    {"evaluation", "Loss on held-out data", "nats a token"},
    {"divergence", "Divergence from the teacher", "nats a token"},
    {"further", "Loss of multi-token prediction", "nats a token"},
    {"evaluation.greedy", "Greedy answers that are right", "share of held-out tasks"},
    {"evaluation.pass_at_1", "Sampled answers that are right", "share, temperature 1"},
    {"evaluation.pass_at_k", "Tasks with a right answer among k (pass@k)", "share"},
    {"evaluation.maj_at_k", "Majority of k answers is right (maj@k)", "share"},
    {"evaluation.length", "Length of greedy answers", "tokens"},
    {"evaluation.thinks", "Greedy answers with a thought", "share"},
    {"reward", "Reward", "mean of a step's answers"},
    {"equal_groups", "Groups whose answers all got the same", "share: they teach nothing"},
    {"length", "Length of sampled answers", "tokens, mean"},
    {"longest", "Longest sampled answer", "tokens"},
    {"truncated", "Answers cut off at the limit", "share"},
    {"entropy", "Entropy of the policy", "nats a token"},
    {"kl", "Divergence from the reference", "nats a token (k3)"},
    {"clipped_low", "Ratios clipped below", "share of tokens"},
    {"clipped_high", "Ratios clipped above", "share of tokens"},
    {"gap", "Engine's and trainer's log-probabilities", "mean difference, nats"},
    {"gradient_norm", "Gradient", "norm"},
    {"rate", "Learning rate", ""},
    {"balance", "Sequence-wise balance loss", "1: experts are used alike"},
    {"largest_load", "Most used expert", "times the mean"},
    {"flop_per_s", "Speed", "FLOP/s"},
    {"sampling_seconds", "Time to sample a step's answers", "s"},
    {"training_seconds", "Time to learn from them", "s"},
};

const json* find(const json& line, std::string_view path) {
  const json* at = &line;
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    const auto found = at->is_object() ? at->find(path.substr(0, dot)) : at->end();
    if (!at->is_object() || found == at->end()) return nullptr;
    at = &*found;
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return at->is_number() ? at : nullptr;
}

Series series_of(const NamedLog& run, std::string_view path) {
  Series series{run.name, {}, {}};
  for (const json& line : run.lines) {
    const json* value = find(line, path);
    if (value == nullptr) continue;
    series.x.push_back(line.at("step").get<double>());
    series.y.push_back(value->get<double>());
  }
  return series;
}

bool says_something(const Series& series) {
  return series.x.size() > 1 &&
         !std::ranges::all_of(series.y, [](double value) { return value == 0; });
}

std::string percent(const json& share) {
  return fmt::format("{:.1f} %", 100 * share.get<double>());
}

/// The rows of the evaluations' table, the first with the columns' names.
std::vector<std::vector<std::string>> table_of(const std::vector<NamedEvaluation>& evaluations) {
  std::vector<std::vector<std::string>> rows{
      {"", "greedy", "95 %", "tokens", "think", "pass@1", "pass@k", "maj@k", "k"}};
  for (const NamedEvaluation& e : evaluations) {
    const json& r = e.result;
    std::vector<std::string> row{
        e.name, percent(r.at("greedy")),
        fmt::format("{:.1f}-{:.1f}", 100 * r.at("interval").at(0).get<double>(),
                    100 * r.at("interval").at(1).get<double>()),
        fmt::format("{:.1f}", r.at("length").get<double>()), percent(r.at("thinks"))};
    const json tries = r.value("tries", json::array());
    if (tries.empty()) {
      row.insert(row.end(), 4, "");
    } else {
      row.push_back(percent(tries.front().at("pass")));
      row.push_back(percent(tries.back().at("pass")));
      row.push_back(percent(tries.back().at("majority")));
      row.push_back(tries.back().at("k").dump());
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string html_table(const std::vector<std::vector<std::string>>& rows) {
  std::string html = "<table>\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    html += "<tr>";
    for (const std::string& cell : rows[i]) {
      html += fmt::format("<{0}>{1}</{0}>", i == 0 ? "th" : "td", jinja::text::escape(cell));
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

/// Answers by step: those of a few steps of each run, folded up.
std::string html_samples(const NamedLog& run) {
  std::vector<const json*> with;
  for (const json& line : run.lines) {
    if (line.contains("samples") && !line["samples"].empty()) with.push_back(&line);
  }
  if (with.empty()) return "";
  constexpr std::size_t kMost = 24;
  std::string html = fmt::format("<h3>{}</h3>\n", jinja::text::escape(run.name));
  const std::size_t shown = std::min(kMost, with.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const json& line = *with[shown == 1 ? 0 : i * (with.size() - 1) / (shown - 1)];
    html += fmt::format("<details><summary>step {}</summary>\n", line.at("step").dump());
    for (const json& sample : line["samples"]) {
      const bool rewarded = sample.is_object();
      const std::string text = rewarded             ? sample.value("text", "")
                               : sample.is_string() ? sample.get<std::string>()
                                                    : "";
      html += fmt::format("<pre>{}{}</pre>\n",
                          rewarded ? fmt::format("<b>{}</b>  ", sample.value("reward", 0.0)) : "",
                          jinja::text::escape(text));
    }
    html += "</details>\n";
  }
  return html;
}

constexpr std::string_view kStyle = R"(
body{font:16px/1.5 system-ui,sans-serif;max-width:1360px;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fafafa}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}h3{font-size:1rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(420px,100%),1fr));gap:1rem}
.plots svg{width:100%;height:auto;border:1px solid #ddd;border-radius:8px}
.wide{overflow-x:auto}
table{border-collapse:collapse;background:#fff}th,td{padding:.3rem .7rem;border:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#fff;border:1px solid #ddd;border-radius:6px;padding:.5rem .7rem;margin:.4rem 0}
summary{cursor:pointer}
)";

}  // namespace

NamedLog read_run_log(const std::string& name, const std::filesystem::path& run) {
  const auto path = run / "log.jsonl";
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), ErrorCode::NotFound, "{} cannot be opened: is {} a run's folder?",
          path.string(), run.string());
  NamedLog log{name, {}};
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    guard_json(line, {}, path);
    json parsed = json::parse(line, nullptr, /*allow_exceptions=*/false);
    require(parsed.is_object() && parsed.contains("step") && parsed["step"].is_number(),
            ErrorCode::Corrupt, "{}, line {}: expected a JSON object with a step", path.string(),
            number);
    log.lines.push_back(std::move(parsed));
  }
  return log;
}

NamedEvaluation read_evaluation(const std::string& name, const std::filesystem::path& file) {
  constexpr std::size_t kMost = 16u << 20;
  const std::string text = read_text_file(file, kMost);
  guard_json(text, {}, file);
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto number = [&](const char* key) {
    return parsed.contains(key) && parsed[key].is_number();
  };
  require(parsed.is_object() && number("greedy") && number("length") && number("thinks") &&
              parsed.contains("interval") && parsed["interval"].size() == 2,
          ErrorCode::Corrupt, "{} is no result of 'fathom train evaluate'", file.string());
  return {name, std::move(parsed)};
}

std::vector<NamedPlot> plots_of_runs(const std::vector<NamedLog>& runs) {
  std::vector<NamedPlot> plots;
  for (const Measure& measure : kMeasures) {
    NamedPlot named;
    named.file = measure.path;
    std::ranges::replace(named.file, '.', '-');
    named.plot.title = measure.title;
    named.plot.x_label = "step";
    named.plot.y_label = measure.unit;
    named.plot.smooth = true;
    for (const NamedLog& run : runs) {
      Series series = series_of(run, measure.path);
      if (says_something(series)) named.plot.series.push_back(std::move(series));
    }
    if (!named.plot.series.empty()) plots.push_back(std::move(named));
  }
  return plots;
}

std::vector<NamedPlot> plots_of_evaluations(const std::vector<NamedEvaluation>& evaluations) {
  struct Curve {
    const char *file, *title, *list, *x, *y, *x_label;
    bool log;
  };
  constexpr Curve kCurves[] = {
      {"pass", "A right answer among k (pass@k)", "tries", "k", "pass", "k", true},
      {"majority", "The majority of k is right (maj@k)", "tries", "k", "majority", "k", true},
      {"budget", "Right with a thought of so many tokens", "budgets", "tokens", "right",
       "most tokens of a thought", false},
  };
  std::vector<NamedPlot> plots;
  for (const Curve& curve : kCurves) {
    NamedPlot named{curve.file,
                    {curve.title, curve.x_label, "share of tasks", {}, curve.log, 0.0, 1.0, false}};
    for (const NamedEvaluation& e : evaluations) {
      Series series{e.name, {}, {}};
      for (const json& point : e.result.value(curve.list, json::array())) {
        const json *x = find(point, curve.x), *y = find(point, curve.y);
        if (x == nullptr || y == nullptr) continue;
        series.x.push_back(x->get<double>());
        series.y.push_back(y->get<double>());
      }
      if (series.x.size() > 1) named.plot.series.push_back(std::move(series));
    }
    if (!named.plot.series.empty()) plots.push_back(std::move(named));
  }
  return plots;
}

std::string html_report(const std::string& title, const std::vector<NamedLog>& runs,
                        const std::vector<NamedEvaluation>& evaluations) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n"
      "<style>{1}</style>\n<h1>{0}</h1>\n",
      jinja::text::escape(title), kStyle);
  const auto add_plots = [&](const std::vector<NamedPlot>& plots) {
    if (plots.empty()) return;
    html += "<div class=\"plots\">\n";
    for (const NamedPlot& named : plots) html += to_svg(named.plot);
    html += "</div>\n";
  };
  if (!evaluations.empty()) {
    html += "<h2>Answers to held-out tasks</h2>\n<div class=\"wide\">" +
            html_table(table_of(evaluations)) + "</div>\n";
    add_plots(plots_of_evaluations(evaluations));
  }
  // Runs that measure the same share their plots: those of rewards, and those of losses.
  std::vector<NamedLog> rewarded, plain;
  for (const NamedLog& run : runs) {
    const bool has_reward =
        std::ranges::any_of(run.lines, [](const json& line) { return line.contains("reward"); });
    (has_reward ? rewarded : plain).push_back(run);
  }
  const std::pair<const char*, const std::vector<NamedLog>*> groups[] = {
      {"Reinforcement learning", &rewarded}, {"Training on texts and answers", &plain}};
  for (const auto& [heading, group] : groups) {
    if (group->empty()) continue;
    html += fmt::format("<h2>{}</h2>\n", heading);
    add_plots(plots_of_runs(*group));
  }
  std::string samples;
  for (const NamedLog& run : runs) samples += html_samples(run);
  if (!samples.empty()) html += "<h2>Answers on the way</h2>\n" + samples;
  return html + "</html>\n";
}

std::string markdown_table(const std::vector<NamedEvaluation>& evaluations) {
  const auto rows = table_of(evaluations);
  std::string text;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += "|";
    for (const std::string& cell : rows[i]) text += " " + cell + " |";
    text += "\n";
    if (i > 0) continue;
    text += "|---|";
    for (std::size_t c = 1; c < rows[i].size(); ++c) text += "---:|";
    text += "\n";
  }
  return text;
}

}  // namespace fathom::train
