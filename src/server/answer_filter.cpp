#include "server/answer_filter.h"

#include <utility>

namespace fathom::server {

std::string AnswerFilter::note(Place place, std::string certain) {
  const Screen& screen = *screens_[static_cast<std::size_t>(place)];
  if (screen.caught()) caught_ = {screen.caught(), place};
  return certain;
}

std::string AnswerFilter::push(Place place, std::string_view text) {
  if (caught_ || text.empty()) return {};
  std::optional<Screen>& screen = screens_[static_cast<std::size_t>(place)];
  if (!screen) {
    screen.emplace(rules_, place == Place::Call ? Screen::Form::JsonText : Screen::Form::Plain);
  }
  return note(place, screen->push(text));
}

std::string AnswerFilter::finish(Place place) {
  std::optional<Screen>& screen = screens_[static_cast<std::size_t>(place)];
  if (caught_ || !screen) return {};
  std::string rest = note(place, screen->finish());
  screen.reset();
  return rest;
}

std::vector<ToolPiece> AnswerFilter::pass(const std::vector<ToolPiece>& pieces, bool last) {
  using Kind = ToolPiece::Kind;
  std::vector<ToolPiece> out;
  const auto add = [&](Kind kind, std::string text) {
    if (!text.empty()) out.push_back({kind, std::move(text)});
  };
  for (const ToolPiece& piece : pieces) {
    switch (piece.kind) {
      case Kind::Text:
        add(Kind::Text, push(Place::Text, piece.text));
        break;
      case Kind::Arguments:
        add(Kind::Arguments, push(Place::Call, piece.text));
        break;
      case Kind::Begin:
        add(Kind::Text, finish(Place::Text));
        if (!caught_) out.push_back(piece);
        break;
      case Kind::End:
        add(Kind::Arguments, finish(Place::Call));
        if (!caught_) out.push_back(piece);
        break;
    }
  }
  if (last) {
    add(Kind::Arguments, finish(Place::Call));
    add(Kind::Text, finish(Place::Text));
  }
  return out;
}

}  // namespace fathom::server
