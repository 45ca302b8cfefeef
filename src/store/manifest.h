// A model's manifest as JSON.
#pragma once

#include <filesystem>
#include <string>

#include "store/store.h"

namespace fathom {

std::string manifest_json(const StoredModel& model);

/// Throws Error(Corrupt) for what is no manifest, a digest that is none, or a path that leads out
/// of the store; Error(NotFound) when there is no such file.
StoredModel read_manifest(const std::filesystem::path& path);

/// "2026-11-21T19:30:00Z"
std::string utc_now();

}  // namespace fathom
