// ChatTemplate: a model's own Jinja template turns messages into marked prompt text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/json.h"
#include "engine/text/marked_text.h"
#include "engine/text/template_error.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

struct ChatInput {
  Json messages = Json::array();  // OpenAI messages; every string in them is untrusted
  Json tools = Json();            // array or null
  bool add_generation_prompt = true;
  Json template_kwargs = Json::object();  // chat_template_kwargs: bools, numbers and short strings
  std::int64_t now_unix_s = 0;            // what strftime_now prints
};

/// Parsed once, rendered by many threads at a time.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  /// Throws TemplateError.
  virtual MarkedText render(const ChatInput& input) const = 0;
  virtual const std::string& source() const = 0;
  /// The source that renders requests with tools; mostly the same.
  virtual const std::string& source_with_tools() const = 0;
  /// False if the template prints nothing of the tools it is given.
  virtual bool takes_tools() const = 0;
};

/// Parses Jinja source. bos/eos texts become the variables bos_token and eos_token. Throws CheckpointError(`file`, …).
std::unique_ptr<ChatTemplate> parse_chat_template(const std::string& source, const std::string& file,
                                                  const std::string& bos_token, const std::string& eos_token);

/// The template of a checkpoint (GGUF tokenizer.chat_template, chat_template.jinja, tokenizer_config.json), else the
/// format that its family's published code defines; null if neither is there.
std::unique_ptr<ChatTemplate> load_chat_template(const Checkpoint& checkpoint, const Tokenizer& tokenizer);

}  // namespace inferd
