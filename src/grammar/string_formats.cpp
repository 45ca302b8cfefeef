#include "grammar/string_formats.h"

namespace fathom::grammar {
namespace {

struct Format {
  std::string_view name;
  const char* pattern;
};

// RFC 3339; a 29th of February belongs to some years only, and is left out.
#define FATHOM_DATE                                                              \
  "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12]" \
  "[0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
#define FATHOM_TIME                                                              \
  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[" \
  "0-3]):[0-5][0-9])"
// RFC 3339, appendix A: units in order, none left out between two.
#define FATHOM_N "[0-9]{1,6}"
#define FATHOM_CLOCK \
  "T(" FATHOM_N "H(" FATHOM_N "M(" FATHOM_N "S)?)?|" FATHOM_N "M(" FATHOM_N "S)?|" FATHOM_N "S)"
// RFC 1123's labels, without two hyphens in a row, which would say that the name is encoded; at
// most 4 of 59 characters, so that no name is too long.
#define FATHOM_LABEL "[A-Za-z0-9]{1,14}(-[A-Za-z0-9]{1,14}){0,3}"
// RFC 4291, 2.2: one run of zero groups may be left out.
#define FATHOM_H "[0-9a-fA-F]{1,4}"

constexpr Format kFormats[] = {
    {"date", "^" FATHOM_DATE "$"},
    {"time", "^" FATHOM_TIME "$"},
    {"date-time", "^" FATHOM_DATE "T" FATHOM_TIME "$"},
    {"duration", "^P(" FATHOM_N "W|(" FATHOM_N "Y(" FATHOM_N "M(" FATHOM_N "D)?)?|" FATHOM_N
                 "M(" FATHOM_N "D)?|" FATHOM_N "D)(" FATHOM_CLOCK ")?|" FATHOM_CLOCK ")$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"ipv4",
     "^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}"
     "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$"},
    {"ipv6", "^((" FATHOM_H ":){7}" FATHOM_H "|(" FATHOM_H ":){1,7}:|(" FATHOM_H ":){1,6}:" FATHOM_H
             "|(" FATHOM_H ":){1,5}(:" FATHOM_H "){1,2}|(" FATHOM_H ":){1,4}(:" FATHOM_H
             "){1,3}|(" FATHOM_H ":){1,3}(:" FATHOM_H "){1,4}|(" FATHOM_H ":){1,2}(:" FATHOM_H
             "){1,5}|" FATHOM_H ":(:" FATHOM_H "){1,6}|:((:" FATHOM_H "){1,7}|:))$"},
    {"hostname", "^" FATHOM_LABEL "(\\." FATHOM_LABEL "){0,3}$"},
    {"email",
     "^[A-Za-z0-9]+([._+-][A-Za-z0-9]+)*@[A-Za-z0-9]+(-[A-Za-z0-9]+)*"
     "(\\.[A-Za-z0-9]+(-[A-Za-z0-9]+)*)+$"}};

#undef FATHOM_DATE
#undef FATHOM_TIME
#undef FATHOM_N
#undef FATHOM_CLOCK
#undef FATHOM_LABEL
#undef FATHOM_H

}  // namespace

const char* pattern_of_format(std::string_view name) {
  for (const Format& format : kFormats) {
    if (format.name == name) return format.pattern;
  }
  return nullptr;
}

}  // namespace fathom::grammar
