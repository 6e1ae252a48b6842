// What a template can take, and messages rewritten so that it can take them.
#pragma once

#include <string>

#include "base/json.h"
#include "engine/text/jinja/template.h"

namespace inferd {

/// Which shapes of a message a template understands.
struct TemplateAbilities {
  /// How the content of one role's messages may look.
  struct Content {
    bool plain = true;   // a string
    bool parts = false;  // a list of {"type": "text", "text": …}
  };
  Content system, user, assistant, tool;
  bool object_arguments = true;   // of tool calls: an object rather than JSON text
  bool null_content = true;       // beside tool calls
  bool developer_role = false;    // else it becomes "system"
  bool tools = true;              // their definitions reach the prompt
  bool tools_in_message = false;  // they are read from the first message's field "tools"
  bool metadata_calls = false;    // GLM: a call is an assistant's message with the function's name as "metadata"
  bool observation_role = false;  // GLM: results of calls come from the role "observation"
  bool null_tools = true;         // without tools, `tools` may be none; else it must be an empty list
};

/// Finds the abilities by rendering small conversations. `source` is the template's text.
TemplateAbilities probe_template(const jinja::Template& parsed, const std::string& source,
                                 const std::vector<jinja::Variable>& model_variables);

/// `messages` in the shapes that the template understands, with `tools` (or null) where it looks for them. Throws
/// TemplateError for content it cannot take.
Json adapt_messages(const Json& messages, const Json& tools, const TemplateAbilities& abilities);

}  // namespace inferd
