// `fathom self-test --privacy`: a real server is watched from outside while it serves, and then
// made to try what it must not do.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace fathom {

struct PrivacyTestOptions {
  std::filesystem::path program;  // this one
  std::filesystem::path model;    // to be served
  /// A folder of its own, outside of which nothing is written; "home" in it is the server's store.
  std::filesystem::path scratch;
  /// The server has a process that fetches models (`--allow-pull`), which is watched too. `model`
  /// must be in the store then.
  bool fetches = false;
  std::vector<std::string> arguments;  // more for `fathom serve`
};

/// {"ok": bool, "checks": [{"name", "ok", "detail"}], "system_calls": {NAME: count},
///  "violations": [{"name", "before", "after": [ERRNO...]}],
///  "violations_of_the_fetching_process": likewise}
///
/// The server runs as its users run it, with the shipped program, in a network namespace with
/// nothing but a loopback of its own, under ptrace. Once with requests only: every call that it
/// makes is counted. Then the same, with forbidden calls made in the name of each of its threads,
/// unless they would succeed because its door stands open; the same calls are made before the walls
/// are up, to show that they would have worked.
///
/// Call it while the process has one thread. Throws Error(Unsupported) where the machine lets
/// nothing be shown: no namespaces, no ptrace.
nlohmann::ordered_json run_privacy_test(const PrivacyTestOptions& options);

}  // namespace fathom
