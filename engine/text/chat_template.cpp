// ChatTemplate over the Jinja interpreter.
#include "engine/text/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/errors.h"
#include "engine/text/chat_messages.h"
#include "engine/text/chat_template_parts.h"
#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/template.h"

namespace inferd {
namespace {

/// What a request's chat_template_kwargs must leave alone.
constexpr std::string_view kReserved[] = {
    "messages", "tools", "documents", "add_generation_prompt", "bos_token",   "eos_token", "unk_token", "pad_token",
    "range",    "dict",  "namespace", "raise_exception",       "strftime_now"};

/// A parsed source and what it can take.
class ProbedTemplate {
 public:
  ProbedTemplate(const TemplateSource& source, const std::vector<jinja::Variable>& model_variables)
      : parsed_(parse(source)), abilities_(probe_template(parsed_, source.text, model_variables)) {}

  MarkedText render(const ChatInput& input, std::vector<jinja::Variable> variables) const {
    const bool has_tools = input.tools.is_array() && !input.tools.empty();
    const Json no_tools = abilities_.null_tools ? Json() : Json::array();
    variables.push_back({"tools", has_tools ? input.tools : no_tools});
    variables.push_back({"messages", adapt_messages(input.messages, has_tools ? input.tools : Json(), abilities_)});
    return parsed_.render(variables, input.now_unix_s);
  }

  bool takes_tools() const { return abilities_.tools; }

 private:
  static jinja::Template parse(const TemplateSource& source) {
    try {
      return jinja::Template(source.text);
    } catch (const jinja::SyntaxError& error) {
      throw CheckpointError(source.file + ": chat template, line " + std::to_string(error.line) + ": " + error.what());
    }
  }

  jinja::Template parsed_;
  TemplateAbilities abilities_;
};

class JinjaChatTemplate final : public ChatTemplate {
 public:
  JinjaChatTemplate(const TemplateSource& source, const TemplateSource* with_tools,
                    std::vector<jinja::Variable> model_variables)
      : source_(source.text), model_variables_(std::move(model_variables)), plain_(source, model_variables_) {
    if (with_tools == nullptr) return;
    with_tools_.emplace(*with_tools, model_variables_);
    tools_source_ = with_tools->text;
  }

  MarkedText render(const ChatInput& input) const override {
    std::vector<jinja::Variable> variables = model_variables_;
    variables.push_back({"documents", Json()});
    variables.push_back({"add_generation_prompt", input.add_generation_prompt, true});
    if (input.template_kwargs.is_object()) {
      for (const auto& [name, value] : input.template_kwargs.items()) {
        if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved)) {
          throw TemplateError("chat_template_kwargs cannot set '" + name + "'");
        }
        variables.push_back({name, value});
      }
    }
    const bool has_tools = input.tools.is_array() && !input.tools.empty();
    return (has_tools && with_tools_ ? *with_tools_ : plain_).render(input, std::move(variables));
  }

  const std::string& source() const override { return source_; }
  const std::string& source_with_tools() const override { return with_tools_ ? tools_source_ : source_; }
  bool takes_tools() const override { return with_tools_ ? with_tools_->takes_tools() : plain_.takes_tools(); }

 private:
  std::string source_, tools_source_;
  std::vector<jinja::Variable> model_variables_;
  ProbedTemplate plain_;
  std::optional<ProbedTemplate> with_tools_;
};

}  // namespace

std::unique_ptr<ChatTemplate> make_chat_template(const TemplateSource& source, const TemplateSource* with_tools,
                                                 std::vector<jinja::Variable> model_variables) {
  return std::make_unique<JinjaChatTemplate>(source, with_tools, std::move(model_variables));
}

std::unique_ptr<ChatTemplate> parse_chat_template(const std::string& source, const std::string& file,
                                                  const std::string& bos_token, const std::string& eos_token) {
  return make_chat_template({source, file}, nullptr, {{"bos_token", bos_token, true}, {"eos_token", eos_token, true}});
}

}  // namespace inferd
