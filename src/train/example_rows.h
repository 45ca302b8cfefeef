// Rows of questions with their answers, of which only the answers are learned.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/chat.h"
#include "train/row_source.h"

namespace fathom::train {

/// A conversation, or a prompt and its answer, as tokens.
struct Example {
  std::vector<std::int64_t> tokens;
  std::vector<std::uint8_t> asked;  // 1: a token that the model is to write
};

struct ExampleOptions {
  std::string prompt_field = "prompt", answer_field = "answer";
  TokenId end{};                // after an answer, where no chat template writes the end
  std::size_t most_tokens = 0;  // longer examples are left out; 0: none is
};

struct ExampleReport {
  std::size_t read = 0, too_long = 0;
  std::size_t answers_left_out = 0;  // that the template rewrites once they are in the past
};

/// Of JSON lines: {"messages": [{"role", "content"}, ...]}, whose assistant turns are learned, or a
/// prompt and its answer in these fields. `chat`: the model's template, which is wanted for
/// messages and puts a prompt and its answer into a user's and an assistant's turn; null: plain
/// text. What a template rewrites later (a thought that it drops) is learned where it stands last.
/// Throws Error(NotFound | Io | Corrupt | InvalidArgument) naming the file and the line.
std::vector<Example> read_examples(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                   const ChatFormat* chat, const ExampleOptions& options,
                                   ExampleReport& report);

/// Each example once an epoch, in an order of its own; as many in a row as fit whole. None sees
/// another.
class ExampleRows final : public RowSource {
 public:
  /// Throws Error(InvalidArgument) if there is no example, or one is longer than a row.
  ExampleRows(std::vector<Example> examples, std::size_t row_tokens, std::size_t ahead,
              std::uint64_t seed);

  Row next() override;
  std::vector<Row> first(std::size_t rows) override;
  nlohmann::ordered_json place() const override { return {{"example", next_}}; }
  void seek(const nlohmann::ordered_json& place) override {
    next_ = place.at("example").get<std::uint64_t>();
  }
  nlohmann::ordered_json identity() const override;
  double tokens() const override { return tokens_; }

 private:
  Row row_from(std::uint64_t& next) const;

  std::vector<Example> examples_;
  std::size_t row_tokens_, ahead_;
  std::uint64_t seed_;
  std::uint64_t next_ = 0;  // dealt so far, all epochs together
  double tokens_ = 0;
};

}  // namespace fathom::train
