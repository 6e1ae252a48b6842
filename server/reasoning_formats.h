// Reasoning formats: the tags between which models think; to add one, add a row.
#pragma once

#include <span>
#include <string_view>

namespace inferd {

struct ReasoningFormat {
  std::string_view name;  // a value of the setting `reasoning_parser`
  std::string_view open, close;
};

std::span<const ReasoningFormat> reasoning_formats();

/// The format that `setting` names; "auto": the one whose closing tag the template knows. nullptr: none.
const ReasoningFormat* find_reasoning_format(std::string_view setting, std::string_view template_source);

}  // namespace inferd
