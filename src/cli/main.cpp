// The program `fathom`. Everything is in the library, where tests reach it.
#include "cli/app.h"

int main(int argc, char** argv) { return fathom::run_app(argc, argv); }
