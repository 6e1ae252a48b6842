// JSON to values of a template.
#pragma once

#include "base/json.h"
#include "engine/text/jinja/value.h"

namespace inferd::jinja {

/// Copies `json`; all its strings, keys and numbers get this origin. Its depth was limited when it was parsed, and is
/// limited here again (TemplateError). Without a budget its memory is not counted.
Value value_of_json(const Json& json, bool trusted, Budget* budget, int depth = 0);

}  // namespace inferd::jinja
