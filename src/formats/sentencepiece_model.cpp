#include "formats/sentencepiece_model.h"

#include <cstring>
#include <string_view>

#include "base/error.h"
#include "base/json_guard.h"

namespace fathom {
namespace {

/// Protocol buffers' wire format: varints, and fields as (number << 3 | wire type).
class Wire {
 public:
  Wire(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  bool done() const { return rest_.empty(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail(ErrorCode::Corrupt, "{}: a number goes on for over 64 bits", path_);
  }

  std::string_view take(std::uint64_t bytes) {
    require(bytes <= rest_.size(), ErrorCode::Corrupt,
            "{}: not a SentencePiece model, or cut short", path_);
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  void skip(std::uint64_t wire_type) {
    switch (wire_type) {
      case 0:
        varint();
        return;
      case 1:
        take(8);
        return;
      case 2:
        take(varint());
        return;
      case 5:
        take(4);
        return;
      default:
        fail(ErrorCode::Corrupt, "{}: not a SentencePiece model (wire type {})", path_, wire_type);
    }
  }

 private:
  std::string_view rest_;
  const std::string& path_;
};

SentencePiece read_piece(std::string_view bytes, const std::string& path) {
  SentencePiece piece;
  Wire wire(bytes, path);
  while (!wire.done()) {
    const std::uint64_t tag = wire.varint();
    if (tag == (1 << 3 | 2)) {
      piece.text = wire.take(wire.varint());
    } else if (tag == (2 << 3 | 5)) {
      std::memcpy(&piece.score, wire.take(4).data(), 4);
    } else if (tag == (3 << 3 | 0)) {
      const std::uint64_t type = wire.varint();
      require(type >= 1 && type <= 6, ErrorCode::Corrupt, "{}: a piece has type {}", path, type);
      piece.type = static_cast<std::int32_t>(type);
    } else {
      wire.skip(tag & 7);
    }
  }
  return piece;
}

}  // namespace

std::vector<SentencePiece> read_sentencepiece_model(const std::filesystem::path& path) {
  const std::string bytes = read_text_file(path, 64u << 20);
  const std::string name = path.string();
  std::vector<SentencePiece> pieces;
  Wire wire(bytes, name);
  while (!wire.done()) {
    const std::uint64_t tag = wire.varint();
    if (tag == (1 << 3 | 2)) {
      pieces.push_back(read_piece(wire.take(wire.varint()), name));
    } else {
      wire.skip(tag & 7);
    }
  }
  require(!pieces.empty(), ErrorCode::Corrupt, "{}: holds no pieces", name);
  return pieces;
}

}  // namespace fathom
