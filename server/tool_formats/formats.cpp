// The table of tool call formats.
#include "server/tool_formats/formats.h"

namespace inferd {
namespace {

// Some marks are shared: what is more particular goes first.
constexpr const ToolFormatRow* kFormats[] = {&kQwen3CoderFormat, &kGlm45Format,    &kHermesFormat, &kMistralFormat,
                                             &kLlama3Format,     &kChatGlm3Format, &kGlm4Format,   &kDeepSeekFormat};

}  // namespace

std::span<const ToolFormatRow* const> tool_formats() { return kFormats; }

const ToolFormatRow* find_tool_format(std::string_view setting, std::string_view template_source) {
  for (const ToolFormatRow* const format : kFormats) {
    if (setting == "auto" ? format->fits(template_source) : setting == format->name) return format;
  }
  return nullptr;
}

}  // namespace inferd
