// Any bytes as tokenizer.json: an Error or a tokenizer that works.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  // A zero byte, which JSON cannot hold, parts tokenizer.json from tokenizer_config.json.
  const std::size_t cut = all.find('\0');
  const std::string_view config = cut == all.npos ? std::string_view() : all.substr(cut + 1);
  try {
    const auto tokenizer = fathom::Tokenizer::from_json(all.substr(0, cut), config);
    const auto ids = tokenizer.encode("the <|x|> \xFF caf\xC3\xA9 123\n\n  <s> \xE2\x96\x81");
    (void)tokenizer.decode(ids, true);
  } catch (const fathom::Error&) {
  }
  return 0;
}
