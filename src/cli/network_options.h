// What the environment says of networks and places: read here, passed down as plain values.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "cli/pip_config.h"
#include "store/options.h"

namespace fathom {

/// Proxies and certificates as curl and Python's requests take them (https_proxy, no_proxy,
/// SSL_CERT_FILE, ...), the Hub's settings as huggingface_hub takes them (HF_ENDPOINT, HF_TOKEN or
/// the token file, HF_HUB_OFFLINE), and pip's configuration. `notice` is told of what is odd in
/// them.
NetworkOptions read_network_options(const Environment& environment,
                                    const std::function<void(const std::string&)>& notice);

/// `chosen` when not empty, else $FATHOM_HOME, else $XDG_DATA_HOME/fathom, else
/// ~/.local/share/fathom. Throws Error(InvalidArgument) when none can be told.
std::filesystem::path store_folder(const std::string& chosen, const Environment& environment);

}  // namespace fathom
