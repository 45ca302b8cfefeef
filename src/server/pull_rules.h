// Which models a server's users may have fetched.
//
// Both ends ask it: the server, to tell a user why not, and the process that fetches, because what
// the server's process says may be a client's doing. A server that somebody has taken over can make
// requests for these models and for nothing else, so that what could be told to the world by asking
// for one is which of them it was.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom::server {

class PullRules {
 public:
  /// Models as `fathom pull` takes them; in each, '*' stands for any characters, '/' included.
  explicit PullRules(std::vector<std::string> allowed) : allowed_(std::move(allowed)) {}

  /// False also for what is no name of a model: empty, over 512 bytes, or not printable ASCII.
  bool allow(std::string_view model) const;
  const std::vector<std::string>& allowed() const { return allowed_; }

 private:
  std::vector<std::string> allowed_;
};

}  // namespace fathom::server
