// What the fuzz targets of the server share: an Api with a model that follows a script.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/fake_model.h"
#include "server/api.h"
#include "server/fields.h"

namespace fathom::fuzz {

/// A crash is what the fuzzer looks for.
inline void insist(bool good) {
  if (!good) __builtin_trap();
}

/// Any token may follow any other, control tokens too; one in sixteen ends the answer.
inline TokenId wanderer(TokenId last, std::size_t position) {
  const std::size_t next = static_cast<std::size_t>(value(last)) * 31 + position * 17 + 5;
  return next % 16 == 0 ? test::kEnd : TokenId{static_cast<std::int32_t>(next % 83)};
}

inline std::unique_ptr<server::Api> make_api(server::ApiOptions options) {
  // A short context: what the longest answers cost says nothing new.
  auto fake = std::make_unique<test::FakeModel>(wanderer, 32, 200);
  fake->remembers = false;
  server::ServedModel model;
  model.name = "fake";
  model.chat = std::make_unique<ChatFormat>(
      "{% for m in messages %}{{ m.content }}{% endfor %}"
      "{% if enable_thinking %}<think>{% endif %}",
      test::small_tokenizer());
  model.sampling.temperature = 0;
  model.price = server::Price{1, 10, 100};
  model.engine = std::make_unique<Engine>(std::move(fake), test::small_tokenizer());
  return std::make_unique<server::Api>(std::move(model), std::move(options));
}

/// Events are whole, and their data is JSON or the end's mark.
inline void check_events(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = text.find("\n\n");
    insist(end != std::string_view::npos);
    std::string_view event = text.substr(0, end);
    text.remove_prefix(end + 2);
    if (event.starts_with("event: ")) event.remove_prefix(event.find('\n') + 1);
    insist(event.starts_with("data: "));
    event.remove_prefix(6);
    insist(event == "[DONE]" || server::Json::accept(event));
  }
}

}  // namespace fathom::fuzz
