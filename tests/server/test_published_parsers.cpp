// Which formats of reasoning and tool calls published chat templates are told to have, where the templates are there.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "server/reasoning_formats.h"
#include "server/tool_formats/formats.h"
#include "tests/catch.h"

using namespace inferd;

namespace {

struct Expected {
  const char* file;
  std::string_view tools, reasoning;  // "": none
};

constexpr Expected kExpected[] = {
    {"Qwen-Qwen2.5-7B-Instruct.jinja", "hermes", ""},
    {"Qwen-Qwen3-0.6B.jinja", "hermes", "think"},
    {"Qwen-QwQ-32B.jinja", "hermes", "think"},
    {"NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "hermes", ""},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", "hermes", ""},
    {"ibm-granite-granite-4.0.jinja", "hermes", ""},
    {"Qwen3-Coder.jinja", "qwen3_coder", ""},
    {"Qwen3.5-4B.jinja", "qwen3_coder", "think"},
    {"NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja", "qwen3_coder", "think"},
    {"GLM-4.6.jinja", "glm45", "think"},
    {"GLM-4.7-Flash.jinja", "glm45", "think"},
    {"meta-llama-Llama-3.1-8B-Instruct.jinja", "llama3", ""},
    {"meta-llama-Llama-3.2-3B-Instruct.jinja", "llama3", ""},
    {"meta-llama-Llama-3.3-70B-Instruct.jinja", "llama3", ""},
    {"mistralai-Mistral-Nemo-Instruct-2407.jinja", "mistral", ""},
    {"Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral", ""},
    {"mistralai-Ministral-3-14B-Reasoning-2512.jinja", "mistral", "mistral"},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", "deepseek", "think"},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", "deepseek", "think"},
    {"llama-cpp-deepseek-r1.jinja", "deepseek", "think"},
    {"deepseek-ai-DeepSeek-V3.1.jinja", "deepseek", "think"},
    {"deepseek-ai-DeepSeek-V3.2.jinja", "", "think"},
    {"microsoft-Phi-3.5-mini-instruct.jinja", "", ""},
    {"google-gemma-2-2b-it.jinja", "", ""},
    {"google-gemma-4-31B-it.jinja", "", ""},
    {"ByteDance-Seed-OSS.jinja", "", ""},
    {"meetkai-functionary-medium-v3.1.jinja", "", ""},
    {"openai-gpt-oss-120b.jinja", "", ""},
    {"MiniMax-M2.jinja", "", "think"},
    {"moonshotai-Kimi-K2.jinja", "", ""},
    {"CohereForAI-c4ai-command-r-plus-tool_use.jinja", "", ""},
};

}  // namespace

TEST_CASE("published templates tell their formats") {
  const std::filesystem::path folder = std::filesystem::path(INFERD_SOURCE_DIR) / "third_party/chat-templates";
  if (!std::filesystem::exists(folder)) {
    WARN("third_party/chat-templates is not there: run scripts/setup");
    return;
  }
  for (const Expected& expected : kExpected) {
    std::ifstream in(folder / expected.file, std::ios::binary);
    CAPTURE(expected.file);
    REQUIRE(in);
    const std::string source((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const ToolFormatRow* tools = find_tool_format("auto", source);
    CHECK((tools == nullptr ? "" : tools->name) == expected.tools);
    const ReasoningFormat* reasoning = find_reasoning_format("auto", source);
    CHECK((reasoning == nullptr ? "" : reasoning->name) == expected.reasoning);
  }
}
