// Line plots as SVG, for reports that need no network and for documents.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace fathom::train {

struct Series {
  std::string name;
  std::vector<double> x, y;  // of equal length; points that are not finite are left out
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false;               // powers of two at the ticks
  std::optional<double> low, high;  // of y; else what the points need
  bool smooth = false;              // a thick running mean over the thin points
};

/// 640 x 360 units, with its own background. Empty if there is no point to show.
std::string to_svg(const Plot& plot);

/// Numbers at or within both ends that people like to read, five or so.
std::vector<double> round_ticks(double low, double high);

}  // namespace fathom::train
