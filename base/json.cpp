// JSON with bounds: a scan for size, depth and node count, then one pass that builds the tree.
#include "base/json.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace inferd {
namespace {

std::string at_byte_text(std::size_t byte) { return " at byte " + std::to_string(byte); }

/// Checks nesting and node count by looking at structure characters alone, before anything is allocated. On text that
/// is not JSON the counts are still upper bounds of what the parser could build before it notices.
void check_bounds(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    throw JsonError("JSON text of " + std::to_string(text.size()) + " bytes, limit " + std::to_string(limits.max_bytes),
                    limits.max_bytes);
  }
  int depth = 0;
  std::size_t nodes = 1;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\0') throw JsonError("JSON with a NUL byte" + at_byte_text(i), i);
    if (in_string) {
      if (c == '\\') {
        ++i;
        if (i < text.size() && text[i] == '\0') throw JsonError("JSON with a NUL byte" + at_byte_text(i), i);
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limits.max_depth) {
        throw JsonError("JSON nested deeper than " + std::to_string(limits.max_depth) + at_byte_text(i), i);
      }
      ++nodes;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++nodes;
    }
    if (nodes > limits.max_nodes) {
      throw JsonError("JSON with more than " + std::to_string(limits.max_nodes) + " values" + at_byte_text(i), i);
    }
  }
}

/// Builds the tree from parser events. Unlike the library's own builder it never searches an object while filling it
/// (ordered objects are lists, so that would be quadratic in a vocabulary of 150,000 keys); duplicates are dropped at
/// the object's end.
class TreeBuilder final : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(bool unique_keys, const std::size_t& consumed) : unique_keys_(unique_keys), consumed_(consumed) {}
  Json take() { return std::move(root_); }
  const std::string& error() const { return error_; }
  std::size_t error_byte() const { return error_byte_; }

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override {
    const bool dropped = drop_duplicates(open_.back()->get_ref<Json::object_t&>());
    open_.pop_back();
    if (!dropped || !unique_keys_) return true;
    error_ = "JSON object with a key twice, ending";
    error_byte_ = consumed_ - 1;
    return false;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& exception) override {
    error_byte_ = position > 0 ? position - 1 : 0;
    const std::string_view what = exception.what();
    if (exception.id == 406) {
      error_ = "JSON number out of range";
    } else if (what.find("UTF-8") != std::string_view::npos) {
      error_ = "JSON with invalid UTF-8";
    } else if (what.find("surrogate") != std::string_view::npos) {
      error_ = "JSON with a lone surrogate";
    } else if (what.find("unexpected end of input") != std::string_view::npos) {
      error_ = "JSON ends too early";
    } else {
      error_ = "JSON syntax error";
    }
    return false;
  }

 private:
  Json* place(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& items = parent.get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    members.emplace_back(std::move(key_), std::move(value));
    key_.clear();
    return &members.back().second;
  }
  bool add(Json&& value) {
    place(std::move(value));
    return true;
  }
  // Only the innermost open container grows, so the pointers to its ancestors stay valid.
  bool open(Json&& container) {
    open_.push_back(place(std::move(container)));
    return true;
  }

  /// Of equal keys the last value stays, at the place of the first. True if there were any.
  static bool drop_duplicates(Json::object_t& object) {
    const std::span<Json::object_t::value_type> members(object.data(), object.size());
    std::vector<std::uint32_t> order(members.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const int compared = members[a].first.compare(members[b].first);
      return compared != 0 ? compared < 0 : a < b;
    });
    std::vector<bool> dropped;
    for (std::size_t i = 0; i < order.size();) {
      std::size_t end = i + 1;
      while (end < order.size() && members[order[end]].first == members[order[i]].first) ++end;
      if (end - i > 1) {
        dropped.resize(members.size());
        members[order[i]].second = std::move(members[order[end - 1]].second);
        for (std::size_t j = i + 1; j < end; ++j) dropped[order[j]] = true;
      }
      i = end;
    }
    if (dropped.empty()) return false;
    Json::object_t kept;
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (!dropped[i]) kept.emplace_back(members[i].first, std::move(members[i].second));
    }
    object = std::move(kept);
    return true;
  }

  const bool unique_keys_;
  const std::size_t& consumed_;  // bytes the parser has read
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
  std::string error_;
  std::size_t error_byte_ = 0;
};

/// A position in the text that counts, outside of itself, the bytes read through it.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  CountingIterator(const char* at, std::size_t* consumed) : at_(at), consumed_(consumed) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*consumed_;
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  std::size_t* consumed_;
};

}  // namespace

Json parse_json(std::string_view text, const JsonLimits& limits) {
  check_bounds(text, limits);
  if (text.substr(0, 3) == "\xef\xbb\xbf") throw JsonError("JSON with a byte order mark at byte 0", 0);
  std::size_t consumed = 0;
  TreeBuilder builder(limits.unique_keys, consumed);
  if (!Json::sax_parse(CountingIterator(text.data(), &consumed), CountingIterator(text.data() + text.size(), &consumed),
                       &builder)) {
    const std::size_t byte = std::min(builder.error_byte(), text.size());
    throw JsonError(builder.error() + at_byte_text(byte), byte);
  }
  return builder.take();
}

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace inferd
