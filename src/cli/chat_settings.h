// What a person can choose about answers: on the command line (options) and while chatting (/set).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/answer_printer.h"
#include "engine/sampler.h"

namespace CLI {
class App;
}

namespace fathom {

struct ChatSettings {
  SamplingParams sampling;            // its seed is used only if `seed` is set
  std::optional<std::uint64_t> seed;  // absent: another one for every answer
  std::size_t max_tokens = 0;         // 0: until the context is full
  std::vector<std::string> stop;
  bool stop_loops = true;     // end an answer that goes round in circles
  std::optional<bool> think;  // for models that can do both
  ThinkingView view = ThinkingView::Fold;
  bool stats = false;

  /// Changes one by its name as a person types it ("temperature", "top-p"). Throws
  /// Error(InvalidArgument) for an unknown name or a value that it cannot have.
  void set(const std::string& name, const std::string& value);
  /// Name and value of all, in the order of the help.
  std::vector<std::pair<std::string, std::string>> list() const;

  nlohmann::ordered_json to_json() const;
  /// Takes what it knows and ignores the rest: conversations outlive versions.
  void from_json(const nlohmann::ordered_json& json);
};

/// The settings that options change; what is not given stays as the model wants it.
struct SettingOptions {
  std::optional<float> temperature, top_p, min_p, repeat_penalty, frequency_penalty,
      presence_penalty;
  std::optional<std::int32_t> top_k;
  std::optional<std::uint64_t> seed;
  std::size_t max_tokens = 0;
  std::vector<std::string> stop;
  bool allow_loops = false;
  bool no_think = false;
  std::string view = "fold";
  bool stats = false;

  void add_to(CLI::App& command);
  ChatSettings settings(const SamplingParams& defaults) const;
};

ThinkingView parse_thinking_view(const std::string& name);

}  // namespace fathom
