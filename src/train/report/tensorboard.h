// TensorBoard's event files: what a run's log says, for those who look at runs there.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace fathom::train {

/// The first record of a file, which names its version.
std::string tensorboard_header(double wall_seconds);
/// A log's line as one record: each number a scalar, called by its path ("evaluation/greedy").
/// Empty if the line has no step.
std::string tensorboard_record(const nlohmann::ordered_json& line, double wall_seconds);

/// CRC-32C (Castagnoli), as TFRecord masks it.
std::uint32_t crc32c(std::string_view data);

}  // namespace fathom::train
