// What is said when a mapped file shrinks under the program: SIGBUS would end it without a word.
#pragma once

namespace fathom {

/// From here on such a signal prints one line on stderr and ends the process with
/// ExitCode::Failure. There is no way on: the weights are gone, in the middle of a product.
void explain_bus_errors();

}  // namespace fathom
