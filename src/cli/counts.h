// Large numbers as people write and read them: 14.8T, 300B, 5M.
#pragma once

#include <string>

namespace fathom {

/// "14.8T", "300B", "5M", "20K", "1e9": more than 0. Throws Error(InvalidArgument) naming `option`.
double read_count(const std::string& option, const std::string& text);

/// "671B", "37.55B", "512".
std::string short_count(double value);

}  // namespace fathom
