// From chat messages to prompt tokens: the model's template, then its tokenizer.
#pragma once

#include <string>
#include <vector>

#include "server/served_model.h"

namespace inferd {

struct ChatPrompt {
  std::vector<TokenId> tokens;
  bool reasoning_open = false;  // the template ended the prompt with the tag that opens it
};

/// Throws ApiError: no template, the template refused the messages, or they are not text.
ChatPrompt make_chat_prompt(const ServedModel& model, const Json& messages, const Json& tools,
                            bool add_generation_prompt, const Json& template_kwargs, bool add_special_tokens);

/// Ids of a client's text. `trusted`: control tokens in it are read as such.
std::vector<TokenId> encode_text(const ServedModel& model, const std::string& text, bool trusted,
                                 bool add_special_tokens);

}  // namespace inferd
