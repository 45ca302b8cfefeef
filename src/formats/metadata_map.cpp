#include "formats/metadata_map.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json_guard.h"
#include "formats/file_text.h"

namespace fathom {

const MetaValue* MetadataMap::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void MetadataMap::set(std::string key, MetaValue value) {
  const bool fresh = values_.insert_or_assign(key, std::move(value)).second;
  if (fresh) order_.push_back(std::move(key));
}

void MetadataMap::set_string(std::string key, std::string value) {
  set(std::move(key), std::string_view(strings_.emplace_back(std::move(value))));
}

void MetadataMap::set_strings(std::string key, std::vector<std::string> values) {
  MetaStrings views;
  for (std::string& value : values) views.push_back(strings_.emplace_back(std::move(value)));
  set(std::move(key), std::move(views));
}

namespace {
constexpr std::size_t kMaxItems = 256u << 10;  // values in one file
}

/// Flattens as it reads: an object extends the key with a dot; an array is gathered until it ends,
/// and only then is known to be of one kind or not.
class FlattenSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  FlattenSax(MetadataMap& map, std::string_view prefix, std::string path)
      : map_(map), path_(std::move(path)), key_(prefix) {}

  bool null() override {
    count();
    // In an object a null is an absent key; in an array it still takes an index.
    if (in_array()) open_.back().items.emplace_back();
    return true;
  }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(std::int64_t{value}); }
  bool number_unsigned(number_unsigned_t value) override {
    require(std::in_range<std::int64_t>(value), ErrorCode::Corrupt,
            "{}: {} is {}, which does not fit a signed 64-bit integer", path_, printable(key_),
            value);
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override {
    return add(std::string_view(map_.strings_.emplace_back(std::move(value))));
  }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(false); }
  bool start_array(std::size_t) override {
    require(!open_.empty(), ErrorCode::Corrupt, "{}: holds an array, expected an object", path_);
    return open(true);
  }

  bool key(string_t& key) override {
    require(key.size() <= 1024, ErrorCode::ResourceLimit, "{}: key {} is longer than 1024 bytes",
            path_, printable(key));
    Level& level = open_.back();
    key_.resize(level.key_length);
    if (level.dotted) key_ += '.';
    key_ += key;
    return true;
  }

  bool end_object() override {
    close();
    return true;
  }

  bool end_array() override {
    const Level level = std::move(open_.back());
    open_.pop_back();
    key_.resize(level.key_length);
    if (level.nested) return true;  // its items went out one by one
    if (!emit_uniform(level.items)) {
      for (std::size_t i = 0; i < level.items.size(); ++i)
        emit_item(level.key_length, i, level.items[i]);
      key_.resize(level.key_length);
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    fail(ErrorCode::Corrupt, "{}: not JSON at byte {}: {}", path_, position,
         json_complaint(error.what()));
  }

 private:
  struct Level {
    bool array;
    bool dotted;             // keys inside are joined to key_ with a dot
    std::size_t key_length;  // of key_ outside this level's members
    bool nested = false;     // an array in which an object or array was seen
    std::size_t index = 0;   // of the next item, once nested
    std::vector<MetaValue> items = {};
  };

  bool in_array() const { return !open_.empty() && open_.back().array; }

  void count() {
    require(++items_ <= kMaxItems, ErrorCode::ResourceLimit, "{}: more than {} values", path_,
            kMaxItems);
  }

  bool open(bool array) {
    count();
    if (in_array()) {
      Level& outer = open_.back();
      if (!outer.nested) {
        outer.nested = true;
        outer.index = outer.items.size();
        for (std::size_t i = 0; i < outer.items.size(); ++i) {
          emit_item(outer.key_length, i, outer.items[i]);
        }
        outer.items.clear();
      }
      key_.resize(outer.key_length);
      key_ += fmt::format(".{}", outer.index++);
    }
    require(key_.size() <= 4096, ErrorCode::ResourceLimit, "{}: key {} is too long", path_,
            printable(key_));
    // The outermost object adds no dot: a prefix brings its own.
    open_.push_back({array, !open_.empty(), key_.size()});
    return true;
  }

  void close() {
    key_.resize(open_.back().key_length);
    open_.pop_back();
  }

  bool add(MetaValue value) {
    count();
    require(!open_.empty(), ErrorCode::Corrupt, "{}: holds {}, expected an object", path_,
            kind_of(value));
    if (!in_array()) {
      emit(std::move(value));
      return true;
    }
    Level& level = open_.back();
    if (level.nested) {
      emit_item(level.key_length, level.index++, value);
    } else {
      level.items.push_back(std::move(value));
    }
    return true;
  }

  void emit(MetaValue value) {
    require(!map_.contains(key_), ErrorCode::Corrupt, "{}: key {} appears twice", path_,
            printable(key_));
    key_bytes_ += key_.size();
    require(key_bytes_ <= (8u << 20), ErrorCode::ResourceLimit, "{}: the keys are over 8 MiB long",
            path_);
    map_.set(key_, std::move(value));
  }

  void emit_item(std::size_t key_length, std::size_t index, const MetaValue& value) {
    if (std::holds_alternative<std::monostate>(value)) return;
    key_.resize(key_length);
    key_ += fmt::format(".{}", index);
    emit(value);
  }

  template <typename Vector, typename... From>
  bool emit_as(const std::vector<MetaValue>& items) {
    Vector values;
    values.reserve(items.size());
    for (const MetaValue& item : items) {
      const bool taken =
          ((std::holds_alternative<From>(item) &&
            (values.push_back(static_cast<typename Vector::value_type>(std::get<From>(item))),
             true)) ||
           ...);
      if (!taken) return false;
    }
    emit(std::move(values));
    return true;
  }

  bool emit_uniform(const std::vector<MetaValue>& items) {
    return emit_as<MetaInts, std::int64_t>(items) ||
           emit_as<MetaFloats, std::int64_t, double>(items) ||
           emit_as<MetaStrings, std::string_view>(items) || emit_as<MetaBools, bool>(items);
  }

  MetadataMap& map_;
  std::string path_;
  std::string key_;
  std::vector<Level> open_;
  std::size_t items_ = 0;
  std::size_t key_bytes_ = 0;
};

void MetadataMap::add_json(std::string_view text, std::string_view prefix,
                           const std::filesystem::path& file) {
  guard_json(text, {.depth = 32, .string_bytes = 1u << 20}, file);
  FlattenSax sax(*this, prefix, file.string());
  nlohmann::json::sax_parse(text, &sax);
}

}  // namespace fathom
