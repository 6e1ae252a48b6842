// The formats of tool calls: to add one, add its file, its line here and its entry in formats.cpp.
#pragma once

#include "server/tool_formats/tool_format.h"

namespace inferd {

extern const ToolFormatRow kHermesFormat;
extern const ToolFormatRow kQwen3CoderFormat;
extern const ToolFormatRow kGlm45Format;
extern const ToolFormatRow kGlm4Format;
extern const ToolFormatRow kChatGlm3Format;
extern const ToolFormatRow kLlama3Format;
extern const ToolFormatRow kMistralFormat;
extern const ToolFormatRow kDeepSeekFormat;

/// All formats, in the order in which templates are tried.
std::span<const ToolFormatRow* const> tool_formats();

/// The format that `setting` names; "auto": the first that fits the template. nullptr: none.
const ToolFormatRow* find_tool_format(std::string_view setting, std::string_view template_source);

}  // namespace inferd
