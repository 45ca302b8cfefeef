// Records are TFRecords: length, its checksum, a protobuf Event, its checksum. Of Event there is
// wall_time (1, double), step (2, int64), file_version (3, string) and summary (5), whose values
// (1) have a tag (1, string) and a simple_value (2, float).
#include "train/report/tensorboard.h"

#include <array>
#include <bit>
#include <string_view>

namespace fathom::train {
namespace {

template <class T>
void append_fixed(std::string& to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to += static_cast<char>(value >> (8 * i) & 0xFF);
}

void append_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>((value & 0x7F) | 0x80);
  to += static_cast<char>(value);
}

enum Wire : std::uint64_t { kVarint = 0, kDouble = 1, kBytes = 2, kFloat = 5 };

void append_key(std::string& to, std::uint64_t field, Wire wire) {
  append_varint(to, field << 3 | wire);
}

void append_bytes(std::string& to, std::uint64_t field, std::string_view bytes) {
  append_key(to, field, kBytes);
  append_varint(to, bytes.size());
  to += bytes;
}

std::string record(std::string_view event) {
  const auto checksum = [](std::string_view data) {
    const std::uint32_t crc = crc32c(data);
    return (crc >> 15 | crc << 17) + 0xA282EAD8U;
  };
  std::string out;
  append_fixed(out, static_cast<std::uint64_t>(event.size()));
  append_fixed(out, checksum(out));
  out += event;
  append_fixed(out, checksum(event));
  return out;
}

std::string event_at(double wall_seconds) {
  std::string event;
  append_key(event, 1, kDouble);
  append_fixed(event, std::bit_cast<std::uint64_t>(wall_seconds));
  return event;
}

void append_scalars(std::string& summary, const nlohmann::ordered_json& json,
                    const std::string& path) {
  for (const auto& [key, value] : json.items()) {
    if (path.empty() && key == "step") continue;
    const std::string tag = path.empty() ? key : path + "/" + key;
    if (value.is_object()) {
      append_scalars(summary, value, tag);
    } else if (value.is_number() || value.is_boolean()) {
      const float number =
          value.is_boolean() ? (value.get<bool>() ? 1.0F : 0.0F) : value.get<float>();
      std::string scalar;
      append_bytes(scalar, 1, tag);
      append_key(scalar, 2, kFloat);
      append_fixed(scalar, std::bit_cast<std::uint32_t>(number));
      append_bytes(summary, 1, scalar);
    }
  }
}

}  // namespace

std::uint32_t crc32c(std::string_view data) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78U : 0);
      made[i] = crc;
    }
    return made;
  }();
  std::uint32_t crc = ~0U;
  for (const char c : data) crc = table[(crc ^ static_cast<std::uint8_t>(c)) & 0xFF] ^ crc >> 8;
  return ~crc;
}

std::string tensorboard_header(double wall_seconds) {
  std::string event = event_at(wall_seconds);
  append_bytes(event, 3, "brain.Event:2");
  return record(event);
}

std::string tensorboard_record(const nlohmann::ordered_json& line, double wall_seconds) {
  const auto step = line.find("step");
  if (step == line.end() || !step->is_number_integer() || step->get<std::int64_t>() < 0) return "";
  std::string event = event_at(wall_seconds), summary;
  append_key(event, 2, kVarint);
  append_varint(event, step->get<std::uint64_t>());
  append_scalars(summary, line, "");
  append_bytes(event, 5, summary);
  return record(event);
}

}  // namespace fathom::train
