#include "train/report/run_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "formats/test_files.h"
#include "train/evaluation.h"
#include "train/report/tensorboard.h"
#include "train/run_folder.h"

namespace fathom::train {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Plot, TicksAreRoundAndCoverTheRange) {
  EXPECT_EQ(round_ticks(0, 1), (std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}));
  for (const auto& [low, high] : {std::pair{0.0, 7.3}, {-3.0, 12345.0}, {1e-5, 3e-5}}) {
    const auto ticks = round_ticks(low, high);
    EXPECT_GE(ticks.size(), 3U);
    EXPECT_LE(ticks.size(), 8U);
    EXPECT_GE(ticks.front(), low - 1e-9);
    EXPECT_LE(ticks.back(), high * (1 + 1e-9));
  }
}

TEST(Plot, LeavesOutWhatCannotBeDrawn) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Plot plot{"a <b> & c", "x", "y", {{"one", {1, 2, 3}, {1, nan, 2}}, {"pointless", {1}, {nan}}},
            false,       {},  {},  false};
  const std::string svg = to_svg(plot);
  EXPECT_THAT(svg, HasSubstr("a &lt;b&gt; &amp; c"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg,
              Not(HasSubstr("pointless")));  // a line without points has no place in the legend
  plot.series.erase(plot.series.begin());
  EXPECT_EQ(to_svg(plot), "");
}

TEST(Plot, HigherIsHigher) {
  const std::string svg = to_svg({"t", "x", "y", {{"s", {0, 1}, {0, 1}}}, false, {}, {}, false});
  const std::size_t at = svg.find("points=\"");
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  ASSERT_EQ(std::sscanf(svg.c_str() + at, "points=\"%lf,%lf %lf,%lf\"", &x0, &y0, &x1, &y1), 4);
  EXPECT_LT(x0, x1);
  EXPECT_GT(y0, y1);  // SVG's y grows downwards
}

TEST(Plot, NamesOfManyLinesStandInRows) {
  Plot plot{"t", "k", "y", {}, true, {}, {}, false};
  for (int i = 0; i < 12; ++i) {
    plot.series.push_back({"a rather long name " + std::to_string(i), {1, 2, 64}, {0, 0.5, 1}});
  }
  const std::string svg = to_svg(plot);
  // None begins beyond the right edge.
  for (std::size_t at = svg.find("font-size=\"11\">"); at != std::string::npos;
       at = svg.find("font-size=\"11\">", at + 1)) {
    const std::size_t x = svg.rfind("x=\"", at);
    EXPECT_LT(std::stod(svg.substr(x + 3)), 560);
  }
  EXPECT_THAT(svg, HasSubstr(">32</text>"));  // every power of two is a tick
  EXPECT_THAT(svg, HasSubstr("stroke-dasharray"));
}

TEST(Report, TellsRunsTasksAndAnswers) {
  testing::ScratchFolder folder;
  const RunFolder run(folder.path() / "run");
  for (int step = 1; step <= 3; ++step) {
    run.log({{"step", step},
             {"reward", 0.1 * step},
             {"kl", 0},
             {"evaluation", {{"greedy", 0.2 * step}}},
             {"samples", {{{"reward", 1.0}, {"text", "<think>2</think>"}}}}});
  }
  const NamedLog log = read_run_log("GRPO", folder.path() / "run");
  ASSERT_EQ(log.lines.size(), 3U);
  const auto plots = plots_of_runs({log});
  std::vector<std::string> files;
  for (const auto& plot : plots) files.push_back(plot.file);
  // The divergence is zero throughout, so that there is nothing to see.
  EXPECT_THAT(files, ::testing::ElementsAre("evaluation-greedy", "reward"));
  const NamedEvaluation evaluation{"base",
                                   {{"greedy", 0.125},
                                    {"interval", {0.1, 0.15}},
                                    {"length", 3},
                                    {"thinks", 0},
                                    {"tries",
                                     {{{"k", 1}, {"pass", 0.1}, {"majority", 0.1}},
                                      {{"k", 2}, {"pass", 0.2}, {"majority", 0.1}}}}}};
  const std::string html = html_report("A & B", {log}, {evaluation});
  EXPECT_THAT(html, HasSubstr("<title>A &amp; B</title>"));
  EXPECT_THAT(html, HasSubstr("&lt;think&gt;2&lt;/think&gt;"));
  EXPECT_THAT(html, HasSubstr("<td>12.5 %</td>"));
  EXPECT_THAT(html, HasSubstr("pass@k"));
  EXPECT_THAT(html, Not(HasSubstr("src=")));  // nothing comes from elsewhere
  EXPECT_THAT(html, Not(HasSubstr("href=")));
  EXPECT_THAT(markdown_table({evaluation}), HasSubstr("| base | 12.5 % | 10.0-15.0 | 3.0 |"));
}

TEST(Report, NamesWhatIsNoLogAndNoResult) {
  testing::ScratchFolder folder;
  EXPECT_THROW(read_run_log("x", folder.path()), Error);
  std::ofstream(folder.path() / "log.jsonl") << "{\"step\":1}\n{\"loss\":2}\n";
  try {
    read_run_log("x", folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("line 2"));
  }
  std::ofstream(folder.path() / "e.json") << "{\"greedy\":1}";
  EXPECT_THROW(read_evaluation("x", folder.path() / "e.json"), Error);
}

TEST(TensorBoard, ChecksumIsCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);  // RFC 3720, B.4's polynomial; the usual check
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
}

/// Records of a file, their checksums held to.
std::vector<std::string> records_of(const std::string& file) {
  const auto masked = [](std::string_view data) {
    const std::uint32_t crc = crc32c(data);
    return (crc >> 15 | crc << 17) + 0xA282EAD8U;
  };
  const auto number = [](std::string_view bytes, auto value) {
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  };
  std::vector<std::string> records;
  for (std::string_view rest = file; !rest.empty();) {
    const auto size = number(rest, std::uint64_t{});
    EXPECT_EQ(number(rest.substr(8), std::uint32_t{}), masked(rest.substr(0, 8)));
    records.emplace_back(rest.substr(12, size));
    EXPECT_EQ(number(rest.substr(12 + size), std::uint32_t{}), masked(records.back()));
    rest = rest.substr(16 + size);
  }
  return records;
}

TEST(TensorBoard, RecordsHaveTheirNumbersByPath) {
  const auto records = records_of(
      tensorboard_record({{"step", 300}, {"loss", 1.5}, {"evaluation", {{"greedy", 0.25}}}}, 2.0));
  ASSERT_EQ(records.size(), 1U);
  // wall_time 2.0; step 300 as a varint; the summary with two values.
  const std::string expected = std::string("\x09\0\0\0\0\0\0\0\x40", 9) + "\x10\xAC\x02" +
                               "\x2A\x27" + "\x0A\x0B" + "\x0A\x04loss" +
                               std::string("\x15\0\0\xC0\x3F", 5) + "\x0A\x18" + "\x0A\x11" +
                               "evaluation/greedy" + std::string("\x15\0\0\x80\x3E", 5);
  EXPECT_EQ(records[0], expected);
}

TEST(TensorBoard, FollowsTheLogWhenARunGoesBack) {
  testing::ScratchFolder folder;
  const auto content = [&] {
    std::ifstream file(folder.path() / "run" / "events.out.tfevents.fathom", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const RunFolder run(folder.path() / "run", /*tensorboard=*/true);
  run.cut_log(0);
  for (int step = 1; step <= 4; ++step) run.log({{"step", step}, {"loss", 1.0}});
  EXPECT_EQ(records_of(content()).size(), 5U);
  run.cut_log(2);
  EXPECT_EQ(records_of(content()).size(), 3U);
}

TEST(Evaluation, PassAtKIsTheShareOfDraws) {
  EXPECT_DOUBLE_EQ(pass_at(1, 4, 1), 0.25);
  EXPECT_DOUBLE_EQ(pass_at(2, 4, 1), 0.5);
  EXPECT_DOUBLE_EQ(pass_at(4, 4, 1), 1);
  EXPECT_DOUBLE_EQ(pass_at(3, 5, 0), 0);
  EXPECT_NEAR(pass_at(2, 5, 2), 1 - 3.0 / 10, 1e-12);  // C(3,2) / C(5,2)
}

}  // namespace
}  // namespace fathom::train
