// Arguments matched to the parameters of a Python function.
#include <algorithm>

#include "tokenizer/jinja_runtime.h"

namespace fathom::jinja {

Bound::Bound(Runtime& runtime, std::string_view function, Args& args,
             std::initializer_list<std::string_view> parameters, size_t required)
    : runtime_(runtime), function_(function), values_(parameters.size()) {
  if (args.positional.size() > parameters.size()) {
    runtime.error("{}() takes {} arguments, but {} were given", function, parameters.size(),
                  args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = args.positional[i];
  for (const auto& [name, value] : args.keyword) {
    const auto* const found = std::find(parameters.begin(), parameters.end(), name);
    if (found == parameters.end()) {
      runtime.error("{}() got an unexpected keyword argument '{}'", function, name);
    }
    const auto index = static_cast<size_t>(found - parameters.begin());
    if (values_[index]) runtime.error("{}() got two values for '{}'", function, name);
    values_[index] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      runtime.error("{}() misses its argument '{}'", function, parameters.begin()[i]);
    }
  }
}

Int Bound::integer(size_t i, Int fallback) const {
  if (!has(i)) return fallback;
  if (!values_[i]->is_integral()) {
    runtime_.error("{}() needs an integer, not '{}'", function_, type_name(*values_[i]));
  }
  return values_[i]->integer();
}

const std::string& Bound::string(size_t i) const {
  if (!has(i) || !values_[i]->is_string()) {
    runtime_.error("{}() needs a string, not '{}'", function_,
                   has(i) ? type_name(*values_[i]) : "nothing");
  }
  return values_[i]->string();
}

}  // namespace fathom::jinja
