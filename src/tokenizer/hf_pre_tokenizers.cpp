#include "tokenizer/hf_pre_tokenizers.h"

namespace fathom {
namespace {

constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek's files hold the line breaks of [\r\n] themselves, not as escapes.
constexpr std::string_view kNewlineRegex = "[\r\n]";
constexpr std::string_view kDeepSeekLetterRegex =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ)"
    R"(-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ)"
    R"(-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeekPunctuationRegex = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kTrailingSpaceRegex = R"(\s+$)";
constexpr std::string_view kDeepSeekCjkRegex = R"([一-龥ࠀ-一가-퟿]+)";
constexpr std::string_view kSpacedLetterRegex = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuationRegex = R"(\s?\p{P}+)";
constexpr std::string_view kThreeNumbersRegex = R"(\p{N}{1,3})";
constexpr std::string_view kDeepSeekV3CjkRegex = R"([一-龥぀-ゟ゠-ヿ]+)";
constexpr std::string_view kDeepSeekV3WordRegex =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
    "\r\n"
    R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
    "\r\n"
    R"(]*|\s*[)"
    "\r\n"
    R"(]+|\s+(?!\S)|\s+)";

}  // namespace

const std::vector<HfPreTokenizer>& hf_pre_tokenizers() {
  static const std::vector<HfPreTokenizer> known = {
      {PreTokenizer::Gpt2, {kByteLevelGpt2Step}},
      {PreTokenizer::SmolLm, {kDigitsStep, kByteLevelGpt2Step}},
      {PreTokenizer::Llama3, {kLlama3Regex, kByteLevelStep}},
      {PreTokenizer::Qwen2, {kQwen2Regex, kByteLevelStep}},
      {PreTokenizer::DeepSeekLlm,
       {kNewlineRegex, kDeepSeekLetterRegex, kDeepSeekPunctuationRegex, kTrailingSpaceRegex,
        kDeepSeekCjkRegex, kDigitsStep, kByteLevelStep}},
      {PreTokenizer::DeepSeekCoder,
       {kNewlineRegex, kSpacedLetterRegex, kSpacedPunctuationRegex, kDeepSeekCjkRegex, kDigitsStep,
        kByteLevelStep}},
      {PreTokenizer::DeepSeekV3,
       {kThreeNumbersRegex, kDeepSeekV3CjkRegex, kDeepSeekV3WordRegex, kByteLevelStep}},
  };
  return known;
}

}  // namespace fathom
