// The second half of str's methods.
#pragma once

#include <string_view>

#include "engine/text/jinja/objects.h"

namespace inferd::jinja {

/// Methods that look at a string without changing it: startswith, find, isdigit …; null if there is none so named.
Method find_string_query(std::string_view name);

}  // namespace inferd::jinja
