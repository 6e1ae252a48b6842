// Template: a parsed Jinja template and its rendering; the face of the interpreter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/marked_text.h"

namespace inferd::jinja {

/// A variable of a render. JSON of a client is untrusted; texts of the model's own are trusted.
struct Variable {
  std::string name;
  Json value;
  bool trusted = false;
};

/// Immutable; rendered by many threads at a time.
class Template {
 public:
  /// Throws SyntaxError, with a line, for templates that are malformed or over a limit (limits.h).
  explicit Template(std::string_view source);

  /// Renders within the limits of limits.h. `now_unix_s` is what strftime_now prints, in local time. Throws
  /// TemplateError.
  MarkedText render(const std::vector<Variable>& variables, std::int64_t now_unix_s) const;

  /// True if the template mentions the variable `name`.
  bool mentions(std::string_view name) const { return tree_.symbols.find(name) >= 0; }

 private:
  SyntaxTree tree_;
};

}  // namespace inferd::jinja
