#pragma once

namespace fathom {
bool stdout_is_terminal();
}  // namespace fathom
