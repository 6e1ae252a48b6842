// The tables of filters and tests.
#pragma once

#include <string_view>

#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

using Filter = Value (*)(Interpreter& interpreter, const Value& input, Arguments& arguments);
using Test = bool (*)(Interpreter& interpreter, const Value& input, Arguments& arguments);

/// Null if there is no such filter or test.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

/// The parts of find_filter.
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);
Filter find_selection_filter(std::string_view name);

}  // namespace inferd::jinja
