// Reasoning formats: the table.
#include "server/reasoning_formats.h"

namespace inferd {
namespace {

constexpr ReasoningFormat kFormats[] = {
    {"think", "<think>", "</think>"},    // Qwen3, QwQ, GLM-Z1, GLM-4.5, DeepSeek-R1 and its distillates
    {"mistral", "[THINK]", "[/THINK]"},  // Magistral, Ministral Reasoning
};

}  // namespace

std::span<const ReasoningFormat> reasoning_formats() { return kFormats; }

const ReasoningFormat* find_reasoning_format(std::string_view setting, std::string_view template_source) {
  for (const ReasoningFormat& format : kFormats) {
    const bool fits = template_source.find(format.close) != std::string_view::npos;
    if (setting == "auto" ? fits : setting == format.name) return &format;
  }
  return nullptr;
}

}  // namespace inferd
