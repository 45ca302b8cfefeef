// Measuring an importance matrix: what a model's weights are multiplied by when it reads a text.
#pragma once

#include <cstddef>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "cli/model_loader.h"

namespace fathom {

/// Feeds the text in windows of `window` tokens, at most `limit` of them (0: all), and writes what
/// `inputs` then holds (the model was loaded with it) to `output`. Returns what was done.
nlohmann::ordered_json measure_importance(LoadedModel& loaded, const InputStatistics& inputs,
                                          const std::string& text_file, const std::string& output,
                                          std::size_t window, std::size_t limit, DType kv_type,
                                          const Context& context);

}  // namespace fathom
