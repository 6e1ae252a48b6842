// AttributePath: parsing and following.
#include "engine/text/jinja/attribute_path.h"

#include "engine/text/jinja/numbers.h"

namespace inferd::jinja {

AttributePath::AttributePath(const Value& path) {
  if (path.is_integral()) {
    parts_.push_back(path);
    return;
  }
  if (!path.is_string()) throw TemplateError("an attribute must be a string or an integer, not " + type_name(path));
  const std::string& text = path.bytes();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    const auto index = number ? parse_integer(part, 10) : std::nullopt;
    parts_.push_back(index ? Value::integer(*index) : Value::string(nullptr, Text(part, true)));
    begin = end + 1;
  }
}

Value AttributePath::get(Interpreter& interpreter, const Value& item) const {
  Value value = item;
  for (const Value& part : parts_) value = interpreter.get_item(value, part);
  return value;
}

}  // namespace inferd::jinja
