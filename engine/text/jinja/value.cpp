// Values: construction, containers and their iterative destruction.
#include "engine/text/jinja/value.h"

#include <cmath>
#include <new>

#include "engine/text/jinja/limits.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {
namespace {

// What the heap holds for an object beside its text or items, with the control block and the allocator's own words.
constexpr std::size_t kStringBytes = 160;
constexpr std::size_t kListBytes = 96;
constexpr std::size_t kUnindexedEntries = 12;  // dicts up to this size are searched from end to end
constexpr std::size_t kMaxTupleKeyBytes = 65536;
constexpr std::size_t kEntryBytes = 2 * sizeof(Value) + 96;

std::size_t count_characters(std::string_view text) {
  std::size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
  return count;
}

/// Containers whose last owner is gone. They are taken apart one after another: nesting may be deeper than the stack.
class Bin {
 public:
  void drop(Value& value) noexcept {
    if (value.shared() == nullptr || value.is_string()) return;
    try {
      waiting_.push_back(std::move(value));
    } catch (const std::bad_alloc&) {
      // Without memory the value goes the recursive way, when its container goes.
    }
  }
  void empty() noexcept {
    if (emptying_) return;
    emptying_ = true;
    while (!waiting_.empty()) {
      const Value value = std::move(waiting_.back());
      waiting_.pop_back();
    }
    emptying_ = false;
  }

 private:
  std::vector<Value> waiting_;
  bool emptying_ = false;
};

Bin& bin() {
  thread_local Bin instance;
  return instance;
}

/// A text that is equal for keys that Python holds equal.
std::string canonical_key(const Value& key, int depth = 0) {
  if (key.is_string()) return "s" + key.bytes();
  if (key.is_none()) return "n";
  if (key.is_integral()) return "i" + std::to_string(key.as_integer());
  if (key.kind() == Kind::real) {
    const double real = key.as_real();
    if (real == std::floor(real) && std::abs(real) < 9e18) return "i" + std::to_string(static_cast<std::int64_t>(real));
    return "f" + std::to_string(real);
  }
  if (key.kind() == Kind::tuple && depth < kMaxValueDepth) {
    std::string joined = "t";
    for (const Value& item : key.as_list().items) {
      const std::string part = canonical_key(item, depth + 1);
      joined += std::to_string(part.size()) + ":" + part;
      if (joined.size() > kMaxTupleKeyBytes) throw TemplateError("a tuple is too long for a key");
    }
    return joined;
  }
  throw TemplateError("unhashable type: '" + type_name(key) + "'");
}

}  // namespace

Value Value::boolean(bool value) {
  Value result(Kind::boolean);
  result.integer_ = value ? 1 : 0;
  return result;
}

Value Value::integer(std::int64_t value, bool trusted) {
  Value result(Kind::integer);
  result.integer_ = value;
  result.trusted_ = trusted;
  return result;
}

Value Value::real(double value, bool trusted) {
  Value result(Kind::real);
  result.real_ = value;
  result.trusted_ = trusted;
  return result;
}

Value Value::undefined(std::string message) {
  Value result;
  result.object_ = std::make_shared<StringObject>(nullptr, Text(message, true), false);
  return result;
}

Value Value::string(Budget* budget, Text text, bool markup) {
  Value result(Kind::string);
  result.object_ = std::make_shared<StringObject>(budget, std::move(text), markup);
  return result;
}

Value Value::list(Budget* budget, std::vector<Value> items, Kind kind) {
  Value result(kind);
  result.object_ = std::make_shared<ListObject>(budget, std::move(items));
  return result;
}

Value Value::dict(Budget* budget) {
  Value result(Kind::dict);
  result.object_ = std::make_shared<DictObject>(budget);
  return result;
}

Value Value::object(std::shared_ptr<NativeObject> object) {
  Value result(Kind::object);
  result.object_ = std::move(object);
  return result;
}

const StringObject& Value::as_string() const { return static_cast<const StringObject&>(*object_); }
const Text& Value::text() const { return as_string().text; }
ListObject& Value::as_list() const { return static_cast<ListObject&>(*object_); }
DictObject& Value::as_dict() const { return static_cast<DictObject&>(*object_); }
NativeObject& Value::as_object() const { return static_cast<NativeObject&>(*object_); }

std::string Value::undefined_message() const {
  return object_ == nullptr ? "a value is undefined" : static_cast<const StringObject&>(*object_).text.bytes();
}

StringObject::StringObject(Budget* budget, Text value, bool is_markup)
    : text(std::move(value)), characters(count_characters(text.bytes())), markup(is_markup), charge_(budget) {
  charge_.add(kStringBytes + text.footprint());
  if (budget != nullptr) budget->touch(text.size());
}

ListObject::ListObject(Budget* budget, std::vector<Value> values) : items(std::move(values)), charge_(budget) {
  charge_.add(kListBytes + items.capacity() * sizeof(Value));
  if (budget != nullptr) budget->step(static_cast<std::int64_t>(items.size() / 16));
}

ListObject::~ListObject() {
  for (Value& item : items) bin().drop(item);
  items.clear();
  bin().empty();
}

DictObject::~DictObject() {
  for (auto& [key, value] : entries_) {
    bin().drop(key);
    bin().drop(value);
  }
  entries_.clear();
  bin().empty();
}

const Value* DictObject::find(const Value& key) const {
  if (key.is_string()) return find(std::string_view(key.bytes()));
  const auto at = position(key);
  return at ? &entries_[*at].second : nullptr;
}

const Value* DictObject::find(std::string_view key) const {
  if (!index_.empty()) {
    const auto found = index_.find("s" + std::string(key));
    return found == index_.end() ? nullptr : &entries_[found->second].second;
  }
  for (const auto& [name, value] : entries_) {
    if (name.is_string() && name.bytes() == key) return &value;
  }
  return nullptr;
}

std::optional<std::size_t> DictObject::position(const Value& key) const {
  if (index_.empty() && key.is_string()) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].first.is_string() && entries_[i].first.bytes() == key.bytes()) return i;
    }
    return std::nullopt;
  }
  const std::string wanted = canonical_key(key);
  if (!index_.empty()) {
    const auto found = index_.find(wanted);
    return found == index_.end() ? std::nullopt : std::optional(found->second);
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (canonical_key(entries_[i].first) == wanted) return i;
  }
  return std::nullopt;
}

void DictObject::set(const Value& key, Value value) {
  if (const auto at = position(key)) {
    entries_[*at].second = std::move(value);
    return;
  }
  charge_.add(kEntryBytes + (key.is_string() ? key.bytes().size() : 0));
  entries_.emplace_back(key, std::move(value));
  if (!index_.empty()) {
    index_.emplace(canonical_key(key), entries_.size() - 1);
  } else if (entries_.size() > kUnindexedEntries) {
    rebuild_index();
  }
}

std::optional<Value> DictObject::take(const Value& key) {
  const auto at = position(key);
  if (!at) return std::nullopt;
  Value value = entries_[*at].second;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(*at));
  rebuild_index();
  return value;
}

void DictObject::clear() {
  std::vector<std::pair<Value, Value>> gone;
  gone.swap(entries_);
  index_.clear();
}

void DictObject::rebuild_index() {
  index_.clear();
  if (entries_.size() <= kUnindexedEntries) return;
  for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(canonical_key(entries_[i].first), i);
}

Value NativeObject::call(Interpreter&, Arguments&) { throw TemplateError(describe() + " is not callable"); }

std::optional<Value> NativeObject::attribute(Interpreter&, std::string_view) { return std::nullopt; }

}  // namespace inferd::jinja
