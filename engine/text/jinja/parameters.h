// Parameters: the arguments of a call, matched to the names that a built-in function declares.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/value.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {

/// Lives within one call. Throws TemplateError for too many, unknown or doubled arguments.
class Parameters {
 public:
  Parameters(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names)
      : function_(function), values_(names.size(), nullptr) {
    if (arguments.positional.size() > names.size()) {
      fail("takes at most " + std::to_string(names.size()) + " arguments, " +
           std::to_string(arguments.positional.size()) + " given");
    }
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
    for (const auto& [name, value, trusted] : arguments.named) {
      std::size_t at = 0;
      for (const std::string_view candidate : names) {
        if (candidate == name) break;
        ++at;
      }
      if (at == names.size()) fail("got an unexpected keyword argument '" + name + "'");
      if (values_[at] != nullptr) fail("got two values for argument '" + name + "'");
      values_[at] = &value;
    }
  }

  /// Null if not given.
  const Value* get(std::size_t index) const { return values_[index]; }
  bool given(std::size_t index) const { return values_[index] != nullptr && !values_[index]->is_none(); }
  const Value& require(std::size_t index) const {
    if (values_[index] == nullptr) fail("misses argument " + std::to_string(index + 1));
    return *values_[index];
  }
  std::int64_t integer(std::size_t index, std::int64_t fallback) const {
    if (!given(index)) return fallback;
    if (!values_[index]->is_integral()) fail("needs an integer, found " + type_name(*values_[index]));
    return values_[index]->as_integer();
  }
  bool flag(std::size_t index, bool fallback) const {
    return values_[index] == nullptr ? fallback : is_true(*values_[index]);
  }
  /// Null if not given or none.
  const Text* text(std::size_t index) const {
    if (!given(index)) return nullptr;
    if (values_[index]->is_undefined()) throw TemplateError(values_[index]->undefined_message());
    if (!values_[index]->is_string()) fail("needs a string, found " + type_name(*values_[index]));
    return &values_[index]->text();
  }
  const Text& require_text(std::size_t index) const {
    const Text* found = text(index);
    if (found == nullptr) fail("needs a string as argument " + std::to_string(index + 1));
    return *found;
  }
  [[noreturn]] void fail(const std::string& message) const {
    throw TemplateError(std::string(function_) + " " + message);
  }

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace inferd::jinja
