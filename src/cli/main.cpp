#include <fmt/format.h>
int main() { fmt::print("fathom\n"); }
