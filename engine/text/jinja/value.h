// Value: what expressions of a template compute: Python's none, bool, int, float, str, list, tuple, dict, and objects.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/budget.h"
#include "engine/text/jinja/text.h"

namespace inferd::jinja {

enum class Kind : std::uint8_t { undefined, none, boolean, integer, real, string, list, tuple, dict, object };

class Interpreter;
class Value;
struct StringObject;
struct ListObject;
struct DictObject;
class NativeObject;

/// What a Value of a compound kind points to.
struct Object {
  virtual ~Object() = default;
};

/// A small handle; copies share strings and containers as in Python. Used by one thread, except constants of a parsed
/// template, which are never changed.
class Value {
 public:
  Value() = default;  // undefined
  static Value none() { return Value(Kind::none); }
  static Value boolean(bool value);
  static Value integer(std::int64_t value, bool trusted = true);
  static Value real(double value, bool trusted = true);
  /// An undefined value whose use throws `message`.
  static Value undefined(std::string message);
  static Value string(Budget* budget, Text text, bool markup = false);
  static Value list(Budget* budget, std::vector<Value> items, Kind kind = Kind::list);
  static Value dict(Budget* budget);
  static Value object(std::shared_ptr<NativeObject> object);

  Kind kind() const { return kind_; }
  bool is_undefined() const { return kind_ == Kind::undefined; }
  bool is_none() const { return kind_ == Kind::none; }
  bool is_string() const { return kind_ == Kind::string; }
  bool is_dict() const { return kind_ == Kind::dict; }
  bool is_sequence() const { return kind_ == Kind::list || kind_ == Kind::tuple; }
  bool is_object() const { return kind_ == Kind::object; }
  /// bool or int, as Python's int
  bool is_integral() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }
  bool is_number() const { return is_integral() || kind_ == Kind::real; }

  bool as_bool() const { return integer_ != 0; }
  std::int64_t as_integer() const { return integer_; }
  double as_real() const { return kind_ == Kind::real ? real_ : static_cast<double>(integer_); }
  bool trusted() const { return trusted_; }

  const StringObject& as_string() const;
  const Text& text() const;
  const std::string& bytes() const { return text().bytes(); }
  ListObject& as_list() const;
  DictObject& as_dict() const;
  NativeObject& as_object() const;
  const std::shared_ptr<Object>& shared() const { return object_; }
  /// Why this value is undefined.
  std::string undefined_message() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::undefined;
  bool trusted_ = true;  // of numbers: whether their digits are the template's own
  union {
    std::int64_t integer_ = 0;
    double real_;
  };
  std::shared_ptr<Object> object_;
};

struct StringObject final : Object {
  StringObject(Budget* budget, Text value, bool is_markup);
  const Text text;
  const std::size_t characters;  // code points
  const bool markup;             // came from |safe or |escape: joining others to it escapes them
  bool ascii() const { return characters == text.size(); }

 private:
  Charge charge_;
};

struct ListObject final : Object {
  ListObject(Budget* budget, std::vector<Value> values);
  ~ListObject() override;
  /// Counts room for one more item.
  void grow() { charge_.add(sizeof(Value)); }
  std::vector<Value> items;
  bool group = false;  // a pair made by groupby, whose items are also .grouper and .list

 private:
  Charge charge_;
};

/// Keeps insertion order. Keys: none, bool, int, float, str, tuple of those; 1, 1.0 and True are one key, as in Python.
struct DictObject final : Object {
  explicit DictObject(Budget* budget) : charge_(budget) {}
  ~DictObject() override;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Throws TemplateError for a key that cannot be hashed.
  void set(const Value& key, Value value);
  std::optional<Value> take(const Value& key);
  void clear();

  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }

 private:
  std::optional<std::size_t> position(const Value& key) const;
  void rebuild_index();

  std::vector<std::pair<Value, Value>> entries_;
  std::map<std::string, std::size_t, std::less<>> index_;  // of large dicts only; ordered: no hash to flood
  Charge charge_;
};

struct NamedArgument {
  std::string name;
  Value value;
  bool trusted_name = true;  // false if ** spread a client's dict
};

/// Arguments of a call, filter or test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<NamedArgument> named;
};

/// Functions, macros, bound methods, namespaces, loops, joiners.
class NativeObject : public Object {
 public:
  /// As Python's str() shows it.
  virtual std::string describe() const = 0;
  virtual bool callable() const { return false; }
  virtual Value call(Interpreter& interpreter, Arguments& arguments);
  virtual std::optional<Value> attribute(Interpreter& interpreter, std::string_view name);
  /// Drops references to other values, to break cycles at the end of a render.
  virtual void clear() {}
};

/// "str", "dict", … as Python names the type of `value`.
std::string type_name(const Value& value);
bool is_true(const Value& value);
/// Python's ==. Throws TemplateError for containers nested too deep.
bool equals(Budget& budget, const Value& left, const Value& right, int depth = 0);
/// Python's ordering: negative, zero, positive. Throws TemplateError where Python raises TypeError.
int compare(Budget& budget, const Value& left, const Value& right, std::string_view operation = "<", int depth = 0);

}  // namespace inferd::jinja
