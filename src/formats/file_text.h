// Text that came from a file, made safe to print; and names of files that came from a file.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fathom {

/// `text` in single quotes for an error message: control bytes and invalid UTF-8 as \xNN (a
/// terminal must not obey a model file), cut after 100 bytes.
std::string printable(std::string_view text);

/// `folder / name`, for a `name` that `referrer` (a file, for messages) gave. Refuses, with
/// Error(Corrupt), absolute names, "..", NUL bytes, and symbolic links that lead out of `folder`,
/// but for the Hugging Face cache's own layout, where snapshots/REV/ links into blobs/ of the same
/// repository. Throws Error(NotFound) when there is no such file.
std::filesystem::path resolve_inside(const std::filesystem::path& folder, std::string_view name,
                                     const std::filesystem::path& referrer);

/// Whether there is anything of this name, even a link that leads nowhere or in circles: opening it
/// then says what is wrong with it. Never throws.
bool is_present(const std::filesystem::path& path) noexcept;

}  // namespace fathom
