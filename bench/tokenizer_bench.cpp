// Tokenizing: bytes a second on one thread, and the time to load a vocabulary.
//
//   tokenizer_bench [--text FILE]... [--gguf FILE]... [google-benchmark's options]
//
// bench/tokenizer_oracle.py times Hugging Face `tokenizers` on the same text, and
// bench/compare_tokenizers.py runs both. Without --text, it is the valid strings of
// tests/golden/tokenizers, a line each; --gguf adds the vocabulary of a file.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/file_map.h"
#include "engine/tokenizer_loader.h"
#include "tokenizer/unicode.h"

namespace fathom {
namespace {

const std::filesystem::path kSource = FATHOM_SOURCE_DIR;

std::string read(const std::filesystem::path& path) {
  const FileMap file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.size()};
}

std::string golden_text() {
  const std::string file = read(kSource / "tests/golden/tokenizers/strings.bin");
  std::string text;
  for (std::size_t at = 0; at < file.size();) {
    std::uint16_t size;
    std::memcpy(&size, file.data() + at, sizeof size);
    const std::string string = file.substr(at + sizeof size, size);
    if (to_valid_utf8(string) == string) text += string + "\n";
    at += sizeof size + size;
  }
  return text;
}

/// Whole lines, at least 4 KiB together: the size of a prompt.
std::vector<std::string> prompts(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', std::min(begin + 4096, text.size()));
    end = end == std::string::npos ? text.size() : end + 1;
    out.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

Tokenizer load(const std::string& name) {
  if (name.ends_with(".gguf")) return load_tokenizer(*open_checkpoint(name));
  const auto assets = kSource / ".cache/assets";
  if (name == "smollm2") {
    return load_tokenizer(*open_checkpoint(assets / "SmolLM2-135M-Instruct.Q4_1.gguf"));
  }
  const auto folder = assets / "tokenizers" / name;
  return Tokenizer::from_json(read(folder / "tokenizer.json"),
                              read(folder / "tokenizer_config.json"));
}

void register_all(const std::string& label, const std::string& text,
                  const std::vector<std::string>& vocabularies) {
  const auto chunks = std::make_shared<std::vector<std::string>>(prompts(text));
  for (const std::string& vocabulary : vocabularies) {
    const auto tokenizer = std::make_shared<Tokenizer>(load(vocabulary));
    const std::string name = std::filesystem::path(vocabulary).stem();
    benchmark::RegisterBenchmark(("encode/" + name + "/" + label).c_str(), [=](benchmark::State&
                                                                                   state) {
      std::size_t tokens = 0;
      for (auto _ : state) {
        tokens = 0;
        for (const std::string& chunk : *chunks) {
          tokens += tokenizer->encode(chunk, {.add_special = false}).size();
        }
      }
      state.SetBytesProcessed(state.iterations() * text.size());
      state.counters["tokens"] = static_cast<double>(tokens);
    })->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace fathom

int main(int argc, char** argv) {
  std::vector<std::string> texts;
  std::vector<std::string> vocabularies{"deepseek_v3", "llama3", "qwen3", "llama2", "smollm2"};
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--text") == 0 && i + 1 < argc) {
      texts.emplace_back(argv[++i]);
    } else if (std::strcmp(argv[i], "--gguf") == 0 && i + 1 < argc) {
      vocabularies.emplace_back(argv[++i]);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  if (texts.empty()) {
    fathom::register_all("golden", fathom::golden_text(), vocabularies);
  }
  for (const std::string& path : texts) {
    fathom::register_all(std::filesystem::path(path).filename().string(), fathom::read(path),
                         vocabularies);
  }
  for (const std::string& name : vocabularies) {
    benchmark::RegisterBenchmark(("load/" + std::filesystem::path(name).stem().string()).c_str(),
                                 [=](benchmark::State& state) {
                                   for (auto _ : state)
                                     benchmark::DoNotOptimize(fathom::load(name));
                                 })
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
