#include "train/corpus_rows.h"

namespace fathom::train {

std::vector<Row> CorpusRows::first(std::size_t rows) {
  PackOptions options = options_;
  options.middle.rate = 0;
  RowPacker packer(corpus_, tokenizer_, options);
  std::vector<Row> found;
  while (found.size() < rows && packer.cursor().epoch == 0) found.push_back(packer.next());
  return found;
}

nlohmann::ordered_json CorpusRows::place() const {
  const Cursor cursor = packer_.cursor();
  return {{"epoch", cursor.epoch}, {"document", cursor.document}, {"token", cursor.token}};
}

void CorpusRows::seek(const nlohmann::ordered_json& place) {
  packer_.seek({place.at("epoch").get<std::uint64_t>(), place.at("document").get<std::uint64_t>(),
                place.at("token").get<std::uint64_t>()});
}

nlohmann::ordered_json CorpusRows::identity() const {
  return {{"data", corpus_.fingerprint()},
          {"row_tokens", options_.row_tokens},
          {"separate_documents", options_.separate},
          {"fill_in_the_middle", options_.middle.rate},
          {"data_seed", options_.seed}};
}

}  // namespace fathom::train
