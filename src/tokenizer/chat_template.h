// Chat templates: the Jinja programs that models ship to turn a conversation into their prompt.
//
// ChatTemplate gives the same text as python's jinja2 in the sandbox that Hugging Face transformers
// sets up (trim_blocks, lstrip_blocks, loop controls, `{% generation %}`, its own tojson). A
// template sees its inputs and nothing else: no file, clock, environment or host object. Its work,
// memory, nesting and output are bounded, so a hostile template ends in an Error, never in a hang.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace fathom {

/// JSON whose objects keep the order they were written in; a template prints them in that order.
using Json = nlohmann::ordered_json;

/// What a template may use. Past any of these, parsing or rendering throws Error(ResourceLimit).
/// With the usual ones, a hostile template leaves the process below 64 MiB of memory.
struct TemplateLimits {
  size_t max_template_bytes = size_t{256} << 10;
  size_t max_steps = 20'000'000;  // visited nodes and items; 64 bytes of scanned text are one
  size_t max_depth = 500;         // nesting of syntax, of values, and of calls in calls
  // For the template's own inventions. What the inputs need comes on top: a long conversation may
  // make long texts, a short one may not.
  size_t max_output_bytes = size_t{4} << 20;   // the output, and any one text on the way to it
  size_t max_memory_bytes = size_t{16} << 20;  // all values and texts alive at one time
  size_t per_input_byte = 16;                  // both limits grow by this for each byte of input
  size_t max_range = 100'000;                  // items of range(); jinja2's sandbox has the same
};

/// One conversation to render: views of JSON that must outlive the call. Each member reaches the
/// template under its own name; absent `tools` become none, as transformers passes them.
struct ChatInput {
  const Json* messages = nullptr;  // required: array of {"role", "content", ...}
  const Json* tools = nullptr;     // array of JSON schemas
  const Json* extra = nullptr;  // object of further variables: enable_thinking, documents, now, ...
  bool add_generation_prompt = true;
  std::string bos_token;
  std::string eos_token;
};

class ChatTemplate {
 public:
  /// Parses `source`. Throws Error(InvalidArgument) naming the line of a syntax error, and
  /// Error(Unsupported) for a part of Jinja that needs other templates (extends, include, import).
  explicit ChatTemplate(std::string_view source, TemplateLimits limits = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// The prompt for `inputs`, an object whose members are the template's variables (messages,
  /// tools, add_generation_prompt, bos_token, eos_token, ...). A pure function: the time that
  /// `strftime_now` prints is the input `now`, "YYYY-MM-DD HH:MM:SS" (an error if the template asks
  /// and it is absent). Throws Error(InvalidArgument) with the template's own words when it calls
  /// raise_exception, and with the line and the reason when it fails otherwise. Thread-safe.
  std::string render(const Json& inputs) const;
  std::string render_chat(const ChatInput& input) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom
