// The formats, one a family, written as templates. Marks stand in them as literals: what a message brings is never one.
#include "engine/text/published_formats.h"

#include <algorithm>
#include <array>
#include <string>

namespace inferd {
namespace {

/// What tells chat models of one code base apart.
struct FolderFacts {
  std::string model_type;
  std::string name;         // _name_or_path, in lower case
  std::string chat_format;  // of generation_config.json
  bool multi_query = false;
  bool tiktoken = false;  // ChatGLM4Tokenizer
};

struct PublishedFormat {
  std::string_view family;  // for messages
  bool (*fits)(const FolderFacts& facts);
  std::string_view source;
};

// The only message alone; else numbered rounds of question and answer.
constexpr std::string_view kChatGlm1 =
    R"({%- for message in messages -%}
{%- if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('ChatGLM-6B knows user and assistant messages only, one after the other') -}}
{%- endif -%}
{%- endfor -%}
{%- if tools -%}{{- raise_exception('ChatGLM-6B knows no tools') -}}{%- endif -%}
{%- if messages|length == 1 -%}
{{- messages[0].content -}}
{%- else -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '[Round ' ~ (loop.index0 // 2) ~ ']\n问：' -}}{{- message.content -}}{{- '\n答：' -}}
{%- else -%}
{{- message.content -}}{{- '\n' -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if add_generation_prompt -%}{{- '[gMASK]<sop>' -}}{%- endif -%})";

constexpr std::string_view kChatGlm2 =
    R"({%- for message in messages -%}
{%- if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('ChatGLM2 knows user and assistant messages only, one after the other') -}}
{%- endif -%}
{%- endfor -%}
{%- if tools -%}{{- raise_exception('ChatGLM2 knows no tools') -}}{%- endif -%}
{{- '[gMASK]sop' -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '[Round ' ~ (loop.index0 // 2 + 1) ~ ']\n\n问：' -}}{{- message.content -}}{{- '\n\n答：' -}}
{%- else -%}
{{- message.content -}}{{- '\n\n' -}}
{%- endif -%}
{%- endfor -%})";

// Role line and content are encoded apart, each with the space that SentencePiece puts in front of a text.
constexpr std::string_view kChatGlm3 =
    R"({%- macro turn(mark, content) -%}
{{- mark ~ '\n' -}}{%- if content -%}{{- ' ' -}}{{- content -}}{%- endif -%}
{%- endmacro -%}
{%- set marks = {'system': '<|system|>', 'user': '<|user|>', 'assistant': '<|assistant|>', 'tool': '<|observation|>'} -%}
{%- for message in messages -%}
{%- if message.role not in marks -%}{{- raise_exception('unknown role') -}}{%- endif -%}
{%- endfor -%}
{{- '[gMASK]sop' -}}
{%- if tools -%}
{{- '<|system|>\n Answer the following questions as best as you can. You have access to the following tools:\n' -}}
{{- tools | map(attribute='function') | list | tojson(indent=4) -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' and message.tool_calls -%}
{%- if message.content -%}{{- turn(marks['assistant'], message.content) -}}{%- endif -%}
{%- for call in message.tool_calls -%}
{{- '<|assistant|>' -}}{{- call.function.name -}}{{- '\n ```python\ntool_call(' -}}
{%- for key, value in call.function.arguments.items() -%}
{%- if not loop.first -%}{{- ', ' -}}{%- endif -%}
{{- key -}}{{- '=' -}}
{%- if value is string -%}{{- "'" -}}{{- value -}}{{- "'" -}}{%- else -%}{{- value -}}{%- endif -%}
{%- endfor -%}
{{- ')\n```' -}}
{%- endfor -%}
{%- else -%}
{{- turn(marks[message.role], message.content) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%})";

constexpr std::string_view kGlm4 =
    R"({%- set marks = {'system': '<|system|>', 'user': '<|user|>', 'assistant': '<|assistant|>', 'tool': '<|observation|>'} -%}
{%- for message in messages -%}
{%- if message.role not in marks -%}{{- raise_exception('unknown role') -}}{%- endif -%}
{%- endfor -%}
{{- '[gMASK]<sop>' -}}
{%- if tools -%}
{{- '<|system|>\n你是一个名为 GLM-4 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具' -}}
{%- for tool in tools -%}
{{- '\n\n## ' -}}{{- tool.function.name -}}{{- '\n\n' -}}{{- tool.function | tojson(indent=4) -}}
{{- '\n在调用上述函数时，请使用 Json 格式表示调用的参数。' -}}
{%- endfor -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' and message.tool_calls -%}
{%- if message.content -%}{{- '<|assistant|>\n' -}}{{- message.content -}}{%- endif -%}
{%- for call in message.tool_calls -%}
{{- '<|assistant|>' -}}{{- call.function.name -}}{{- '\n' -}}{{- call.function.arguments | tojson -}}
{%- endfor -%}
{%- else -%}
{{- marks[message.role] ~ '\n' -}}{{- message.content -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%})";

constexpr std::string_view kQwen1 =
    R"({%- if tools -%}{{- raise_exception('the first Qwen is told of tools in plain text only') -}}{%- endif -%}
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' ~ message.role ~ '\n' -}}{{- message.content -}}{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%})";

constexpr std::string_view kLlama2 =
    R"({%- if tools -%}{{- raise_exception('Llama 2 knows no tools') -}}{%- endif -%}
{%- set ns = namespace(system='', turns=messages) -%}
{%- if messages[0].role == 'system' -%}
{%- set ns.system = messages[0].content -%}{%- set ns.turns = messages[1:] -%}
{%- endif -%}
{%- for message in ns.turns -%}
{%- if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('Llama 2 knows a system message, then user and assistant messages one after the other') -}}
{%- endif -%}
{%- if message.role == 'user' -%}
{{- bos_token ~ '[INST] ' -}}
{%- if loop.first and ns.system -%}{{- '<<SYS>>\n' -}}{{- ns.system -}}{{- '\n<</SYS>>\n\n' -}}{%- endif -%}
{{- message.content | trim -}}{{- ' [/INST]' -}}
{%- else -%}
{{- ' ' -}}{{- message.content | trim -}}{{- ' ' ~ eos_token -}}
{%- endif -%}
{%- endfor -%})";

bool names(const FolderFacts& facts, std::string_view part) { return facts.name.find(part) != std::string::npos; }

// ChatGLM2 and 3 share configuration and vocabulary: only their name tells them apart. Base models have no format.
constexpr std::array<PublishedFormat, 6> kFormats = {{
    {"ChatGLM-6B", [](const FolderFacts& f) { return f.model_type == "chatglm" && !f.multi_query; }, kChatGlm1},
    {"ChatGLM2",
     [](const FolderFacts& f) { return f.model_type == "chatglm" && f.multi_query && names(f, "chatglm2-6b"); },
     kChatGlm2},
    {"ChatGLM3",
     [](const FolderFacts& f) {
       return f.model_type == "chatglm" && f.multi_query && names(f, "chatglm3-6b") && !names(f, "base");
     },
     kChatGlm3},
    {"GLM-4", [](const FolderFacts& f) { return f.model_type == "chatglm" && f.tiktoken && names(f, "glm-4-9b-chat"); },
     kGlm4},
    {"Qwen", [](const FolderFacts& f) { return f.model_type == "qwen" && f.chat_format == "chatml"; }, kQwen1},
    {"Llama 2",
     [](const FolderFacts& f) { return f.model_type == "llama" && names(f, "llama-2-") && names(f, "-chat"); },
     kLlama2},
}};

/// A string of a JSON file; empty if there is none.
std::string text_of(const Checkpoint& checkpoint, const char* file, std::string_view key) {
  const auto json = checkpoint.json(file);
  if (!json || !json->is_object()) return {};
  const auto found = json->find(key);
  return found != json->end() && found->is_string() ? found->get<std::string>() : std::string();
}

FolderFacts read_facts(const Checkpoint& checkpoint) {
  FolderFacts facts;
  facts.model_type = text_of(checkpoint, "config.json", "model_type");
  facts.name = text_of(checkpoint, "config.json", "_name_or_path");
  if (facts.name.empty()) facts.name = text_of(checkpoint, "tokenizer_config.json", "name_or_path");
  std::transform(facts.name.begin(), facts.name.end(), facts.name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  facts.chat_format = text_of(checkpoint, "generation_config.json", "chat_format");
  facts.tiktoken = text_of(checkpoint, "tokenizer_config.json", "tokenizer_class") == "ChatGLM4Tokenizer";
  if (const auto config = checkpoint.json("config.json"); config && config->is_object()) {
    const auto found = config->find("multi_query_attention");
    facts.multi_query = found != config->end() && found->is_boolean() && found->get<bool>();
  }
  return facts;
}

}  // namespace

std::optional<TemplateSource> published_format(const Checkpoint& checkpoint) {
  if (checkpoint.format() == CheckpointFormat::gguf) return std::nullopt;
  const FolderFacts facts = read_facts(checkpoint);
  for (const PublishedFormat& format : kFormats) {
    if (format.fits(facts)) return TemplateSource{std::string(format.source), std::string(format.family)};
  }
  return std::nullopt;
}

}  // namespace inferd
