// Building chat templates from sources and the model's special tokens; shared by parsing and loading.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/text/chat_template.h"
#include "engine/text/jinja/template.h"

namespace inferd {

/// One template source and where it was found.
struct TemplateSource {
  std::string text;
  std::string file;  // for messages
};

/// `with_tools`, if not null, renders requests that bring tools. Throws CheckpointError.
std::unique_ptr<ChatTemplate> make_chat_template(const TemplateSource& source, const TemplateSource* with_tools,
                                                 std::vector<jinja::Variable> model_variables);

}  // namespace inferd
