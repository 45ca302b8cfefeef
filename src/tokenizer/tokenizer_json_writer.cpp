#include "tokenizer/tokenizer_json_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tokenizer/hf_pre_tokenizers.h"
#include "tokenizer/pre_tokenizer.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json step_json(std::string_view step) {
  if (step == kDigitsStep) return {{"type", "Digits"}, {"individual_digits", true}};
  if (step == kByteLevelStep) return byte_level(false);
  if (step == kByteLevelGpt2Step) return byte_level(true);
  return {{"type", "Split"},
          {"pattern", {{"Regex", step}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

}  // namespace

std::string write_tokenizer_json(const TokenizerSpec& spec) {
  const auto& known = hf_pre_tokenizers();
  const auto steps = std::ranges::find(known, spec.pre_tokenizer, &HfPreTokenizer::kind);
  require(spec.model == TokenizerModel::ByteLevelBpe && spec.normaliser == Normaliser::None &&
              steps != known.end() && !spec.add_bos && !spec.add_eos,
          ErrorCode::Unsupported,
          "only byte-level BPE without normaliser and added tokens at its ends can be written, not "
          "the vocabulary of {} ({})",
          spec.origin, to_string(spec.pre_tokenizer));
  Json pre = Json::array();
  for (const std::string_view step : steps->steps) pre.push_back(step_json(step));

  Json added = Json::array();
  for (const AddedToken& token : spec.added) {
    added.push_back({{"id", value(token.id)},
                     {"content", token.content},
                     {"single_word", token.single_word},
                     {"lstrip", token.lstrip},
                     {"rstrip", token.rstrip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  }
  Json vocabulary = Json::object(), merges = Json::array();
  for (std::size_t id = 0; id < spec.pieces.size(); ++id) {
    if (!spec.pieces[id].empty()) vocabulary[spec.pieces[id]] = id;
  }
  for (const auto& [left, right] : spec.merges) {
    merges.push_back({spec.pieces[static_cast<std::size_t>(value(left))],
                      spec.pieces[static_cast<std::size_t>(value(right))]});
  }
  const Json file{{"version", "1.0"},
                  {"truncation", nullptr},
                  {"padding", nullptr},
                  {"added_tokens", std::move(added)},
                  {"normalizer", nullptr},
                  {"pre_tokenizer",
                   pre.size() == 1 ? pre[0] : Json{{"type", "Sequence"}, {"pretokenizers", pre}}},
                  {"post_processor", nullptr},
                  {"decoder", byte_level(true)},
                  {"model",
                   {{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", nullptr},
                    {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr},
                    {"fuse_unk", false},
                    {"byte_fallback", false},
                    {"ignore_merges", spec.ignore_merges},
                    {"vocab", std::move(vocabulary)},
                    {"merges", std::move(merges)}}}};
  return file.dump(1, ' ', false, Json::error_handler_t::strict) + "\n";
}

}  // namespace fathom
