// Rows of plain text, out of files of tokens.
#pragma once

#include <filesystem>

#include "train/row_source.h"

namespace fathom::train {

class CorpusRows final : public RowSource {
 public:
  /// Throws as TokenCorpus and RowPacker do.
  CorpusRows(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
             const PackOptions& options)
      : tokenizer_(tokenizer),
        options_(options),
        corpus_(files),
        packer_(corpus_, tokenizer_, options_) {}

  Row next() override { return packer_.next(); }
  std::vector<Row> first(std::size_t rows) override;
  nlohmann::ordered_json place() const override;
  void seek(const nlohmann::ordered_json& place) override;
  nlohmann::ordered_json identity() const override;
  double tokens() const override { return static_cast<double>(corpus_.tokens()); }

 private:
  Tokenizer tokenizer_;
  PackOptions options_;
  TokenCorpus corpus_;
  RowPacker packer_;
};

}  // namespace fathom::train
