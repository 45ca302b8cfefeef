#include "tokenizer/chat_template.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_parser.h"

namespace fathom {

struct ChatTemplate::Impl {
  TemplateLimits limits;
  jinja::Template tree;
};

ChatTemplate::ChatTemplate(std::string_view source, TemplateLimits limits)
    : impl_(std::make_unique<Impl>()) {
  require(source.size() <= limits.max_template_bytes, ErrorCode::ResourceLimit,
          "chat template: {} bytes, at most {} are allowed", source.size(),
          limits.max_template_bytes);
  impl_->limits = limits;
  impl_->tree = jinja::Parser(source, limits.max_depth).parse();
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const Json& inputs) const {
  return jinja::Interpreter(impl_->tree, impl_->limits).render(inputs);
}

std::string ChatTemplate::render_chat(const ChatInput& input) const {
  require(input.messages != nullptr && input.messages->is_array(), ErrorCode::InvalidArgument,
          "chat template: the messages are not an array");
  Json inputs = Json::object();
  if (input.extra != nullptr) {
    require(input.extra->is_object(), ErrorCode::InvalidArgument,
            "chat template: the extra variables are not an object");
    inputs = *input.extra;
  }
  inputs["messages"] = *input.messages;
  inputs["tools"] = input.tools != nullptr ? *input.tools : Json(nullptr);
  if (!inputs.contains("documents")) inputs["documents"] = nullptr;
  inputs["add_generation_prompt"] = input.add_generation_prompt;
  inputs["bos_token"] = input.bos_token;
  inputs["eos_token"] = input.eos_token;
  return render(inputs);
}

}  // namespace fathom
