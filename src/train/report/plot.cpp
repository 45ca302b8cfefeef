#include "train/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "tokenizer/jinja_text.h"

namespace fathom::train {
namespace {

constexpr double kWidth = 640, kHeight = 360;
constexpr double kLeft = 64, kRight = 16, kBottom = 48;
constexpr double kTitle = 34, kLegendRow = 17;
constexpr std::size_t kMostPoints = 400;  // of a line: more are averaged
// Told apart by most who see few colours (Okabe and Ito 2008).
constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                 "#e69f00", "#56b4e9", "#000000", "#8c6d1f"};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void widen() {
    if (low == high) {
      const double by = low == 0 ? 1 : std::abs(low) * 0.1;
      low -= by;
      high += by;
    }
  }
};

/// What can be drawn, thinned by means of neighbours.
Series drawable(const Series& series, bool log_x) {
  Series clean{series.name, {}, {}};
  for (std::size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
    const double x = series.x[i];
    if (!std::isfinite(x) || !std::isfinite(series.y[i]) || (log_x && x <= 0)) continue;
    clean.x.push_back(log_x ? std::log2(x) : x);
    clean.y.push_back(series.y[i]);
  }
  if (clean.x.size() <= kMostPoints) return clean;
  Series thin{series.name, {}, {}};
  const std::size_t n = clean.x.size();
  for (std::size_t part = 0; part < kMostPoints; ++part) {
    const std::size_t from = n * part / kMostPoints, to = n * (part + 1) / kMostPoints;
    double x = 0, y = 0;
    for (std::size_t i = from; i < to; ++i) {
      x += clean.x[i];
      y += clean.y[i];
    }
    thin.x.push_back(x / static_cast<double>(to - from));
    thin.y.push_back(y / static_cast<double>(to - from));
  }
  return thin;
}

/// Means over a twentieth of the line on both sides.
std::vector<double> smoothed(const std::vector<double>& y) {
  const auto reach = static_cast<std::ptrdiff_t>(y.size() / 20);
  std::vector<double> out;
  for (std::ptrdiff_t i = 0; i < std::ssize(y); ++i) {
    const std::ptrdiff_t near = std::min({reach, i, std::ssize(y) - 1 - i});
    double sum = 0;
    for (std::ptrdiff_t j = i - near; j <= i + near; ++j) sum += y[static_cast<std::size_t>(j)];
    out.push_back(sum / static_cast<double>(2 * near + 1));
  }
  return out;
}

std::string number(double value) {
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size >= 1e6 || size < 1e-3) return fmt::format("{:.3g}", value);
  return fmt::format("{:.4g}", value);
}

/// Where each line's name stands, in as many rows as they need.
struct Legend {
  std::vector<std::pair<double, double>> places;  // x, y
  double bottom = kTitle;
};

Legend legend_of(const std::vector<Series>& lines) {
  Legend legend;
  if (lines.size() < 2) return legend;
  double x = kLeft;
  legend.bottom += kLegendRow;
  for (const Series& line : lines) {
    const double width = 30 + 6.4 * static_cast<double>(line.name.size());
    if (x > kLeft && x + width > kWidth) {
      x = kLeft;
      legend.bottom += kLegendRow;
    }
    legend.places.emplace_back(x, legend.bottom - 9);
    x += width;
  }
  return legend;
}

}  // namespace

std::vector<double> round_ticks(double low, double high) {
  const double rough = (high - low) / 5;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) {
    ticks.push_back(i * step);
  }
  return ticks;
}

std::string to_svg(const Plot& plot) {
  std::vector<Series> lines;
  Range across, along;
  for (const Series& series : plot.series) {
    Series line = drawable(series, plot.log_x);
    if (line.x.empty()) continue;
    for (const double x : line.x) across.take(x);
    for (const double y : line.y) along.take(y);
    lines.push_back(std::move(line));
  }
  if (lines.empty()) return "";
  if (plot.low) along.low = *plot.low;
  if (plot.high) along.high = *plot.high;
  across.widen();
  along.widen();
  if (!plot.low && along.low > 0 && along.low < 0.4 * along.high) along.low = 0;
  const Legend legend = legend_of(lines);
  const double top = legend.bottom + 6, height = kHeight + legend.bottom - kTitle;
  const auto px = [&](double x) {
    return kLeft + (x - across.low) / (across.high - across.low) * (kWidth - kLeft - kRight);
  };
  const auto py = [&](double y) {
    const double share = (y - along.low) / (along.high - along.low);
    return height - kBottom - std::clamp(share, -0.02, 1.02) * (height - top - kBottom);
  };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n"
      "<text x=\"{2}\" y=\"22\" font-size=\"15\" font-weight=\"600\">{3}</text>\n",
      kWidth, height, kLeft, jinja::text::escape(plot.title));
  for (const double tick : round_ticks(along.low, along.high)) {
    svg += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e4e4e4\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\" fill=\"#444\">{}</text>\n",
        kLeft, kWidth - kRight, py(tick), py(tick), kLeft - 8, py(tick) + 4, number(tick));
  }
  std::vector<double> ticks = round_ticks(across.low, across.high);
  if (plot.log_x) {
    ticks.clear();
    for (double power = std::ceil(across.low); power <= across.high; ++power) {
      ticks.push_back(power);
    }
  }
  for (const double tick : ticks) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#888\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\" fill=\"#444\">{4}</text>\n",
        px(tick), height - kBottom, height - kBottom + 5, height - kBottom + 18,
        number(plot.log_x ? std::exp2(tick) : tick));
  }
  svg += fmt::format(
      "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\" stroke=\"#888\"/>\n"
      "<text x=\"{3}\" y=\"{4}\" text-anchor=\"middle\" fill=\"#444\">{5}</text>\n"
      "<text transform=\"translate(14 {6}) rotate(-90)\" text-anchor=\"middle\" "
      "fill=\"#444\">{7}</text>\n",
      kLeft, kWidth - kRight, height - kBottom, (kLeft + kWidth - kRight) / 2, height - 10,
      jinja::text::escape(plot.x_label), (top + height - kBottom) / 2,
      jinja::text::escape(plot.y_label));
  const auto path = [&](const std::vector<double>& x, const std::vector<double>& y,
                        const std::string& style) {
    std::string points;
    for (std::size_t i = 0; i < x.size(); ++i) {
      points += fmt::format("{}{:.1f},{:.1f}", i > 0 ? " " : "", px(x[i]), py(y[i]));
    }
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" {} stroke-linejoin=\"round\"/>\n",
                       points, style);
  };
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Series& line = lines[i];
    const char* colour = kColours[i % kColours.size()];
    // Where colours come round again, dashes tell lines apart.
    const std::string stroke = fmt::format("stroke=\"{}\"{}", colour,
                                           i < kColours.size() ? "" : " stroke-dasharray=\"6 4\"");
    const bool smooth = plot.smooth && line.x.size() > 40;
    path(line.x, line.y, stroke + (smooth ? " stroke-opacity=\"0.3\"" : " stroke-width=\"2\""));
    if (smooth) path(line.x, smoothed(line.y), stroke + " stroke-width=\"2\"");
    if (line.x.size() <= 16) {
      for (std::size_t p = 0; p < line.x.size(); ++p) {
        svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n",
                           px(line.x[p]), py(line.y[p]), colour);
      }
    }
    if (legend.places.empty()) continue;
    const auto [x, y] = legend.places[i];
    svg += fmt::format(
        "<line x1=\"{:.0f}\" x2=\"{:.0f}\" y1=\"{}\" y2=\"{}\" {} stroke-width=\"3\"/>"
        "<text x=\"{:.0f}\" y=\"{}\" font-size=\"11\">{}</text>\n",
        x, x + 16, y, y, stroke, x + 20, y + 4, jinja::text::escape(line.name));
  }
  return svg + "</svg>\n";
}

}  // namespace fathom::train
