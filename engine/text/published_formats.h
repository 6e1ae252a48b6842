// Chat formats that a family's published code defines, for model folders that bring no template.
#pragma once

#include <optional>

#include "engine/text/chat_template_parts.h"

namespace inferd {

/// The format of the model in this folder, as a template; nullopt unless its files say for certain which one it is.
std::optional<TemplateSource> published_format(const Checkpoint& checkpoint);

}  // namespace inferd
