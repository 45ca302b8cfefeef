// pip's configuration, read as pip reads it: who has set up pip behind a proxy or a mirror has set
// up `fathom pull pypi:...` too.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/options.h"

namespace fathom {

/// Looks up an environment variable; a test passes its own.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The process's environment.
Environment process_environment();

/// Settings by normalised name ("index-url") for one section.
using PipSection = std::map<std::string, std::string>;

/// Parses the text of a pip.conf (as Python's RawConfigParser does) into sections. Lines it does
/// not understand are skipped, as `problem` is told.
std::map<std::string, PipSection> parse_pip_conf(
    std::string_view text, const std::function<void(const std::string&)>& problem);

/// The files pip reads, in the order in which later ones win: the system's, the user's, the virtual
/// environment's, and PIP_CONFIG_FILE.
std::vector<std::filesystem::path> pip_conf_files(const Environment& environment);

/// Index, links, proxy, certificates, patience: from the sections [global], [install] and
/// [download] of those files, then from PIP_* variables, later ones winning.
PackageIndexOptions read_pip_config(const Environment& environment,
                                    const std::function<void(const std::string&)>& problem);

}  // namespace fathom
