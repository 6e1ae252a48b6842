// JSON to values of a template.
#include "engine/text/jinja/convert.h"

#include <limits>

#include "engine/text/jinja/limits.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {

Value value_of_json(const Json& json, bool trusted, Budget* budget, int depth) {
  if (depth > kMaxValueDepth) throw TemplateError("messages are nested too deep");
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer:
      return Value::integer(json.get<std::int64_t>(), trusted);
    case Json::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return Value::integer(static_cast<std::int64_t>(number), trusted);
      }
      return Value::real(static_cast<double>(number), trusted);
    }
    case Json::value_t::number_float:
      return Value::real(json.get<double>(), trusted);
    case Json::value_t::string:
      return Value::string(budget, Text(json.get_ref<const std::string&>(), trusted));
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(value_of_json(item, trusted, budget, depth + 1));
      return Value::list(budget, std::move(items));
    }
    case Json::value_t::object: {
      Value dict = Value::dict(budget);
      for (const auto& [key, item] : json.items()) {
        dict.as_dict().set(Value::string(budget, Text(key, trusted)), value_of_json(item, trusted, budget, depth + 1));
      }
      return dict;
    }
    default:
      return Value::none();
  }
}

}  // namespace inferd::jinja
