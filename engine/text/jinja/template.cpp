// Template: parsing and rendering.
#include "engine/text/jinja/template.h"

#include "base/utf8.h"
#include "engine/text/jinja/convert.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/parser.h"

namespace inferd::jinja {

Template::Template(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) throw SyntaxError("the template is larger than 1 MiB", 1);
  if (!is_valid_utf8(source)) throw SyntaxError("the template is not valid UTF-8", 1);
  const std::string normalised = normalise_source(source);
  tree_ = parse_template(normalised);
}

MarkedText Template::render(const std::vector<Variable>& variables, std::int64_t now_unix_s) const {
  Budget budget;
  Interpreter interpreter(tree_, budget, now_unix_s);
  for (const Variable& variable : variables) {
    if (!mentions(variable.name)) continue;
    interpreter.set_variable(variable.name, value_of_json(variable.value, variable.trusted, nullptr));
  }
  const Text text = interpreter.run();
  MarkedText marked;
  text.for_each_run([&marked](std::string_view run, bool trusted) { marked.append(run, trusted); });
  return marked;
}

}  // namespace inferd::jinja
