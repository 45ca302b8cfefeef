#include "cli/cost_tables.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"

namespace fathom {
namespace {

constexpr std::array kGpus{
    GpuKind{"h800", 989.4e12, 1978.9e12, 80e9, 3.35e12, 2.00},
    GpuKind{"h100", 989.4e12, 1978.9e12, 80e9, 3.35e12, 2.00},
    GpuKind{"h200", 989.4e12, 1978.9e12, 141e9, 4.8e12, 2.50},
    GpuKind{"b200", 2250e12, 4500e12, 180e9, 7.7e12, 4.00},
    GpuKind{"a100", 312e12, 0, 80e9, 2.039e12, 1.30},
    GpuKind{"l40s", 362e12, 733e12, 48e9, 0.864e12, 0.90},
    GpuKind{"rtx4090", 165.2e12, 330.3e12, 24e9, 1.008e12, 0.40},
    GpuKind{"mi300x", 1307.4e12, 2614.9e12, 192e9, 5.3e12, 2.00},
};

constexpr std::array kRuns{
    ReportedRun{"DeepSeek-V3", "h800", 2664e3, "pretraining, 14.8T tokens",
                "arXiv 2412.19437, table 1"},
    ReportedRun{"DeepSeek-V3", "h800", 119e3, "context extension", "arXiv 2412.19437, table 1"},
    ReportedRun{"DeepSeek-V3", "h800", 5e3, "post-training", "arXiv 2412.19437, table 1"},
    ReportedRun{"DeepSeek-R1", "h800", 101e3, "R1-Zero, on top of V3",
                "doi 10.1038/s41586-025-09422-z, supplement"},
    ReportedRun{"DeepSeek-R1", "h800", 5e3, "making SFT data",
                "doi 10.1038/s41586-025-09422-z, supplement"},
    ReportedRun{"DeepSeek-R1", "h800", 41e3, "R1, on top of V3",
                "doi 10.1038/s41586-025-09422-z, supplement"},
    ReportedRun{"DeepSeek-V2", "h800", 172.8e3 * 8.1,
                "pretraining, 8.1T tokens at 172.8K a trillion", "arXiv 2405.04434, 3.2.3"},
    ReportedRun{"Llama 3.1 405B", "h100", 30.84e6, "training", "Llama 3.1 model card"},
    ReportedRun{"Llama 3.1 70B", "h100", 7.0e6, "training", "Llama 3.1 model card"},
    ReportedRun{"Llama 3.1 8B", "h100", 1.46e6, "training", "Llama 3.1 model card"},
};

constexpr std::array kPrices{
    ListPrice{"DeepSeek-V3", 0.27, 1.10},
    ListPrice{"DeepSeek-R1", 0.55, 2.19},
    ListPrice{"GPT-4o", 2.50, 10.00},
    ListPrice{"OpenAI o1", 15.00, 60.00},
    ListPrice{"Claude 3.5 Sonnet", 3.00, 15.00},
};

}  // namespace

std::span<const GpuKind> gpu_kinds() { return kGpus; }

const GpuKind& find_gpu_kind(std::string_view name) {
  const auto found = std::ranges::find(kGpus, name, &GpuKind::name);
  if (found != kGpus.end()) return *found;
  std::string names;
  for (const GpuKind& kind : kGpus) names += std::string(kind.name) + ", ";
  fail(ErrorCode::InvalidArgument, "no GPU is called '{}'; known are {}and this (this machine)",
       name, names);
}

std::span<const ReportedRun> reported_runs() { return kRuns; }
std::span<const ListPrice> list_prices() { return kPrices; }

}  // namespace fathom
