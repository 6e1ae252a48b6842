// From chat messages to prompt tokens: the model's template, then its tokenizer.
#include "server/chat_prompt.h"

#include "server/answers.h"
#include "server/api_error.h"

namespace inferd {

ChatPrompt make_chat_prompt(const ServedModel& model, const Json& messages, const Json& tools,
                            bool add_generation_prompt, const Json& template_kwargs, bool add_special_tokens) {
  if (model.chat_template == nullptr) {
    throw unsupported_value("messages", "The model '" + model.name +
                                            "' has no chat template; use /v1/completions, or start the server with "
                                            "--chat-template FILE.");
  }
  ChatInput input;
  input.messages = messages;
  input.tools = tools;
  input.add_generation_prompt = add_generation_prompt;
  input.template_kwargs = template_kwargs;
  input.now_unix_s = unix_now_s();
  MarkedText rendered;
  try {
    rendered = model.chat_template->render(input);
  } catch (const TemplateError& error) {
    throw invalid_value("messages", std::string("The model's chat template refused the messages: ") + error.what());
  }
  ChatPrompt prompt;
  prompt.tokens = model.tokenizer->encode(rendered, add_special_tokens);
  std::string tail = rendered.text();
  tail.resize(tail.find_last_not_of(" \t\r\n") + 1);
  prompt.reasoning_open =
      model.reasoning_format != nullptr && add_generation_prompt && tail.ends_with(model.reasoning_format->open);
  return prompt;
}

std::vector<TokenId> encode_text(const ServedModel& model, const std::string& text, bool trusted,
                                 bool add_special_tokens) {
  return model.tokenizer->encode(trusted ? MarkedText::trusted(text) : MarkedText::untrusted(text), add_special_tokens);
}

}  // namespace inferd
