// Public figures that a cost plan is compared with: accelerators, reported training runs, list
// prices. Facts with their sources; nothing is computed here.
#pragma once

#include <span>
#include <string_view>

namespace fathom {

struct GpuKind {
  std::string_view name;
  double bf16_flop_per_s;   // dense, accumulated in FP32
  double fp8_flop_per_s;    // dense; 0: none
  double memory_bytes;      //
  double bytes_per_s;       // of its memory
  double dollars_per_hour;  // a round rental price, to be replaced by yours
};
/// From the vendors' data sheets.
std::span<const GpuKind> gpu_kinds();
/// Throws Error(InvalidArgument), listing the names, for another word.
const GpuKind& find_gpu_kind(std::string_view name);

struct ReportedRun {
  std::string_view model;
  std::string_view gpu;
  double gpu_hours;
  std::string_view part;    // what the hours are of
  std::string_view source;  //
};
std::span<const ReportedRun> reported_runs();

struct ListPrice {
  std::string_view model;
  double input, output;  // dollars per million tokens
};
/// As of the first weeks of 2025.
std::span<const ListPrice> list_prices();

/// DeepSeek-V3's own account (arXiv 2412.19437, table 1 and 4.2; MFU: arXiv 2505.09343, table 4).
struct V3Report {
  double tokens = 14.8e12;
  double sequence = 4096;
  double mfu = 0.3894;  // of BF16's peak, with a causal mask's operations
  double pretraining_hours = 2664e3, extension_hours = 119e3, post_training_hours = 5e3;
  double dollars_per_hour = 2;
};

}  // namespace fathom
