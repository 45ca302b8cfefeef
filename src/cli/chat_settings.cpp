#include "cli/chat_settings.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <charconv>
#include <limits>

#include "base/error.h"

namespace fathom {
namespace {

template <typename Number>
Number parse_number(const std::string& name, const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  require(error == std::errc{} && end == text.data() + text.size(), ErrorCode::InvalidArgument,
          "{} takes a number, not '{}'", name, text);
  return number;
}

bool parse_switch(const std::string& name, const std::string& text) {
  if (text == "on" || text == "true" || text == "yes") return true;
  if (text == "off" || text == "false" || text == "no") return false;
  fail(ErrorCode::InvalidArgument, "{} is 'on' or 'off', not '{}'", name, text);
}

const char* name_of(ThinkingView view) {
  switch (view) {
    case ThinkingView::Fold:
      return "fold";
    case ThinkingView::Show:
      return "show";
    case ThinkingView::Hide:
      return "hide";
  }
  return "fold";
}

/// Settings that are a number in SamplingParams.
struct FloatSetting {
  const char* name;
  float SamplingParams::* member;
};
constexpr FloatSetting kFloats[] = {
    {"temperature", &SamplingParams::temperature},
    {"top-p", &SamplingParams::top_p},
    {"min-p", &SamplingParams::min_p},
    {"repeat-penalty", &SamplingParams::repetition_penalty},
    {"frequency-penalty", &SamplingParams::frequency_penalty},
    {"presence-penalty", &SamplingParams::presence_penalty},
};

}  // namespace

ThinkingView parse_thinking_view(const std::string& name) {
  for (const ThinkingView view : {ThinkingView::Fold, ThinkingView::Show, ThinkingView::Hide}) {
    if (name == name_of(view)) return view;
  }
  fail(ErrorCode::InvalidArgument, "thinking is shown as 'fold', 'show' or 'hide', not '{}'", name);
}

void ChatSettings::set(const std::string& name, const std::string& text) {
  ChatSettings changed = *this;
  bool known = true;
  if (name == "top-k") {
    changed.sampling.top_k = parse_number<std::int32_t>(name, text);
  } else if (name == "seed") {
    if (text == "random") {
      changed.seed.reset();
    } else {
      changed.seed = parse_number<std::uint64_t>(name, text);
    }
  } else if (name == "max-tokens") {
    changed.max_tokens = parse_number<std::size_t>(name, text);
  } else if (name == "stop") {
    changed.stop.clear();
    if (!text.empty() && text != "off") changed.stop.push_back(text);
  } else if (name == "stop-loops") {
    changed.stop_loops = parse_switch(name, text);
  } else if (name == "stats") {
    changed.stats = parse_switch(name, text);
  } else if (name == "think") {
    changed.think = parse_switch(name, text);
  } else if (name == "thinking") {
    changed.view = parse_thinking_view(text);
  } else {
    known = false;
    for (const FloatSetting& setting : kFloats) {
      if (name != setting.name) continue;
      changed.sampling.*setting.member = parse_number<float>(name, text);
      known = true;
    }
  }
  require(known, ErrorCode::InvalidArgument, "there is no setting '{}' (/set lists them)", name);
  check_sampling(changed.sampling, std::numeric_limits<std::size_t>::max());
  *this = std::move(changed);
}

std::vector<std::pair<std::string, std::string>> ChatSettings::list() const {
  std::vector<std::pair<std::string, std::string>> all;
  for (const FloatSetting& setting : kFloats) {
    all.emplace_back(setting.name, fmt::format("{}", sampling.*setting.member));
    if (setting.name == std::string("temperature")) {
      all.emplace_back("top-k", sampling.top_k == 0 ? "0 (off)" : std::to_string(sampling.top_k));
    }
  }
  all.emplace_back("seed", seed ? std::to_string(*seed) : "random");
  all.emplace_back("max-tokens",
                   max_tokens == 0 ? "0 (as the context allows)" : std::to_string(max_tokens));
  all.emplace_back("stop", stop.empty() ? "off" : fmt::format("{}", fmt::join(stop, ", ")));
  all.emplace_back("stop-loops", stop_loops ? "on" : "off");
  all.emplace_back("think", !think ? "as the model likes" : *think ? "on" : "off");
  all.emplace_back("thinking", name_of(view));
  all.emplace_back("stats", stats ? "on" : "off");
  return all;
}

nlohmann::ordered_json ChatSettings::to_json() const {
  nlohmann::ordered_json json;
  for (const FloatSetting& setting : kFloats) json[setting.name] = sampling.*setting.member;
  json["top-k"] = sampling.top_k;
  if (seed) json["seed"] = *seed;
  json["max-tokens"] = max_tokens;
  json["stop"] = stop;
  json["stop-loops"] = stop_loops;
  if (think) json["think"] = *think;
  return json;
}

void ChatSettings::from_json(const nlohmann::ordered_json& json) {
  if (!json.is_object()) return;
  ChatSettings loaded = *this;
  for (const FloatSetting& setting : kFloats) {
    const auto entry = json.find(setting.name);
    if (entry != json.end() && entry->is_number()) {
      loaded.sampling.*setting.member = entry->get<float>();
    }
  }
  const auto unsigned_at = [&](const char* name) -> std::optional<std::uint64_t> {
    const auto entry = json.find(name);
    if (entry == json.end() || !entry->is_number_unsigned()) return {};
    return entry->get<std::uint64_t>();
  };
  if (const auto k = unsigned_at("top-k")) {
    loaded.sampling.top_k = static_cast<std::int32_t>(
        std::min<std::uint64_t>(*k, std::numeric_limits<std::int32_t>::max()));
  }
  if (const auto number = unsigned_at("seed")) loaded.seed = *number;
  if (const auto number = unsigned_at("max-tokens")) loaded.max_tokens = *number;
  if (const auto entry = json.find("stop"); entry != json.end() && entry->is_array()) {
    loaded.stop.clear();
    for (const auto& text : *entry) {
      if (text.is_string() && !text.get_ref<const std::string&>().empty()) {
        loaded.stop.push_back(text.get<std::string>());
      }
    }
  }
  if (const auto entry = json.find("stop-loops"); entry != json.end() && entry->is_boolean()) {
    loaded.stop_loops = entry->get<bool>();
  }
  if (const auto entry = json.find("think"); entry != json.end() && entry->is_boolean()) {
    loaded.think = entry->get<bool>();
  }
  check_sampling(loaded.sampling, std::numeric_limits<std::size_t>::max());
  *this = std::move(loaded);
}

void SettingOptions::add_to(CLI::App& command) {
  const char* group = "Answers";
  const auto option = [&](const char* name, auto& into, const char* type, const char* help) {
    return command.add_option(name, into, help)->type_name(type)->group(group);
  };
  option("-t,--temperature", temperature, "T",
         "How freely words are chosen; 0 takes the likeliest");
  option("--top-k", top_k, "N", "Choose among the N likeliest tokens; 0 is off");
  option("--top-p", top_p, "P", "Choose among the likeliest tokens that hold this probability");
  option("--min-p", min_p, "P", "Drop tokens less likely than this part of the likeliest");
  option("--repeat-penalty", repeat_penalty, "X", "Weaken tokens that were there before; 1 is off");
  option("--frequency-penalty", frequency_penalty, "X",
         "Weaken by how often the answer has a token");
  option("--presence-penalty", presence_penalty, "X", "Weaken tokens that the answer has");
  option("--seed", seed, "N", "The same seed gives the same answer; random if not given");
  option("-n,--max-tokens", max_tokens, "N", "Longest answer, thinking included; 0: no limit");
  option("--stop", stop, "TEXT", "End the answer before this text (may be repeated)")
      ->take_all()
      ->allow_extra_args(false);
  command
      .add_flag("--allow-loops", allow_loops,
                "Let an answer that goes round in circles go on; else it ends, and is said to")
      ->group(group);
  command
      .add_flag("--no-think", no_think, "Ask a model that can do both to answer without thinking")
      ->group(group);
  option("--thinking", view, "VIEW", "How thinking is shown: fold, show or hide")
      ->check(CLI::IsMember({"fold", "show", "hide"}));
  command.add_flag("--stats", stats, "Tell speed, time to the first token, and memory")
      ->group(group);
}

ChatSettings SettingOptions::settings(const SamplingParams& defaults) const {
  ChatSettings settings;
  SamplingParams& sampling = settings.sampling;
  sampling = defaults;
  sampling.temperature = temperature.value_or(sampling.temperature);
  sampling.top_k = top_k.value_or(sampling.top_k);
  sampling.top_p = top_p.value_or(sampling.top_p);
  sampling.min_p = min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = repeat_penalty.value_or(sampling.repetition_penalty);
  sampling.frequency_penalty = frequency_penalty.value_or(sampling.frequency_penalty);
  sampling.presence_penalty = presence_penalty.value_or(sampling.presence_penalty);
  settings.seed = seed;
  settings.max_tokens = max_tokens;
  settings.stop = stop;
  settings.stop_loops = !allow_loops;
  if (no_think) settings.think = false;
  settings.view = parse_thinking_view(view);
  settings.stats = stats;
  check_sampling(sampling, std::numeric_limits<std::size_t>::max());
  return settings;
}

}  // namespace fathom
