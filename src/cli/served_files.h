// The files that a server needs, and thus all that it may open.
#pragma once

#include <filesystem>

#include "server/sandbox.h"

namespace fathom {

/// Adds what loading the model at `path` reads: its folder, or its file and those that belong to it
/// by name (parts of a split set, packed weights), and where links among them lead.
void add_model_files(server::FileAccess& access, const std::filesystem::path& path);

}  // namespace fathom
