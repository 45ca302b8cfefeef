#include "train/row_packer.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "train/random.h"

namespace fathom::train {
namespace {

enum Purpose : std::uint64_t { kOrder = 1, kMiddle = 2 };

/// The nearest beginning of a character at or before `at`.
std::size_t character_start(const std::string& text, std::size_t at) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

RowPacker::RowPacker(const TokenCorpus& corpus, const Tokenizer& tokenizer, PackOptions options)
    : corpus_(corpus), tokenizer_(tokenizer), options_(std::move(options)) {
  require(options_.row_tokens > 0, ErrorCode::InvalidArgument, "rows need at least one token");
  require(options_.middle.rate >= 0 && options_.middle.rate <= 1, ErrorCode::InvalidArgument,
          "a rate of {} for fill-in-the-middle is not between 0 and 1", options_.middle.rate);
  const std::string vocabulary = vocabulary_digest(tokenizer);
  require(vocabulary == corpus.vocabulary(), ErrorCode::InvalidArgument,
          "the data were tokenized with another vocabulary (digest {}) than the model's ({})",
          corpus.vocabulary(), vocabulary);
}

void RowPacker::seek(Cursor cursor) {
  require(cursor.document < corpus_.documents(), ErrorCode::InvalidArgument,
          "the run is at document {}, but the data have only {}", cursor.document,
          corpus_.documents());
  cursor_ = cursor;
}

std::uint64_t RowPacker::document_at(std::uint64_t epoch, std::uint64_t place) {
  if (order_epoch_ != epoch) {
    order_.resize(corpus_.documents());
    std::iota(order_.begin(), order_.end(), std::uint64_t{0});
    Draws draws(options_.seed, {kOrder, epoch});
    for (std::uint64_t i = order_.size(); i > 1; --i) {  // Fisher and Yates
      std::swap(order_[i - 1], order_[draws.below(i)]);
    }
    order_epoch_ = epoch;
  }
  return order_[place];
}

/// Cut at characters, not at tokens: a reader's cursor stands anywhere.
std::vector<std::int64_t> RowPacker::rearranged(std::span<const std::uint32_t> ids,
                                                std::uint64_t epoch, std::uint64_t document) const {
  Draws draws(options_.seed, {kMiddle, epoch, document});
  std::vector<std::int64_t> out(ids.begin(), ids.end());
  if (draws.uniform() >= options_.middle.rate) return out;
  std::vector<TokenId> tokens;
  for (const std::uint32_t id : ids) tokens.push_back(TokenId{static_cast<std::int32_t>(id)});
  const std::string text = tokenizer_.decode(tokens);
  std::size_t first = character_start(text, draws.below(text.size() + 1));
  std::size_t second = character_start(text, draws.below(text.size() + 1));
  if (first > second) std::swap(first, second);

  out.clear();
  const auto append = [&](TokenId marker, const std::string& part) {
    out.push_back(value(marker));
    for (const TokenId id :
         tokenizer_.encode(part, {.add_special = false, .parse_special = false})) {
      out.push_back(value(id));
    }
  };
  append(options_.middle.begin, text.substr(0, first));
  append(options_.middle.hole, text.substr(second));
  append(options_.middle.end, text.substr(first, second - first));
  return out;
}

std::vector<std::int64_t> RowPacker::dealt(std::uint64_t epoch, std::uint64_t place) {
  const std::uint64_t document = document_at(epoch, place);
  std::vector<std::int64_t> tokens = rearranged(corpus_.document(document), epoch, document);
  tokens.push_back(value(options_.end_of_document));
  return tokens;
}

Row RowPacker::next() {
  const std::size_t length = options_.row_tokens + options_.ahead;
  Row row;
  Cursor at = cursor_;
  std::int64_t number = 0, position = 0;
  while (row.tokens.size() < length) {
    if (!opened_ || opened_->epoch != at.epoch || opened_->document != at.document) {
      open_ = dealt(at.epoch, at.document);
      opened_ = Cursor{at.epoch, at.document, 0};
    }
    // What looks ahead does not move the cursor, which is where the next row begins.
    const std::size_t room =
        (row.tokens.size() < options_.row_tokens ? options_.row_tokens : length) -
        row.tokens.size();
    const std::size_t count = std::min(room, open_.size() - at.token);
    for (std::size_t i = 0; i < count; ++i) {
      row.tokens.push_back(open_[at.token + i]);
      row.positions.push_back(position++);
      row.documents.push_back(number);
    }
    at.token += count;
    if (at.token == open_.size()) {
      at = at.document + 1 < corpus_.documents() ? Cursor{at.epoch, at.document + 1, 0}
                                                 : Cursor{at.epoch + 1, 0, 0};
      if (options_.separate) {
        ++number;
        position = 0;
      }
    }
    if (row.tokens.size() == options_.row_tokens) cursor_ = at;
  }
  return row;
}

}  // namespace fathom::train
