// Any bytes as a chat template, over a conversation with all that templates look at. It must end in
// a text or an Error, within its limits.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fathom::Json inputs = fathom::Json::parse(R"({
    "messages": [
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": "Héllo\n 你好"},
      {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
        {"id": "abcdef123", "type": "function",
         "function": {"name": "f", "arguments": {"a": 1, "b": [1.5, null, true]}}}]},
      {"role": "tool", "tool_call_id": "abcdef123", "content": "{\"x\": 1}"},
      {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters":
      {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
    "now": "2026-11-21 19:24:05", "x": 1, "s": "ab", "l": [3, 1, 2]})");
  fathom::TemplateLimits limits;
  // Small enough that a template at its limits still leaves the fuzzer fast.
  limits.max_steps = 50'000;
  limits.max_output_bytes = 1 << 20;
  limits.max_memory_bytes = 4 << 20;
  limits.max_range = 1000;
  try {
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    fathom::ChatTemplate(source, limits).render(inputs);
  } catch (const fathom::Error&) {
    // A refusal is a fine answer.
  }
  return 0;
}
