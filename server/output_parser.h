// OutputParser: splits what a model writes into reasoning, content and tool calls, as it streams.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace inferd {

struct ToolCall {
  std::string id;  // "call_…"
  std::string name;
  std::string arguments;  // a JSON text
};

/// A stretch of one kind.
struct OutputSegment {
  enum class Kind { reasoning, content, tool_call } kind = Kind::content;
  std::string text;
  ToolCall call;
};

struct OutputParserOptions {
  bool reasoning = false;       // <think>…</think> at the start is reasoning
  bool reasoning_open = false;  // the prompt already ended with <think>
  bool tool_calls = false;      // <tool_call>{"name", "arguments"}</tool_call> is a call
  bool parallel_calls = true;   // false: only the first call counts
};

/// One per answer; not thread-safe. Text that might become a tag is held back.
class OutputParser {
 public:
  explicit OutputParser(const OutputParserOptions& options);
  std::vector<OutputSegment> push(std::string_view text);
  /// What was held back, at the end of the answer.
  std::vector<OutputSegment> finish();
  /// Bytes pushed that may still become part of the output.
  std::size_t held() const { return buffer_.size(); }
  bool in_reasoning() const { return state_ == State::reasoning; }

 private:
  enum class State { start, reasoning, content, tool_call };
  bool step(std::vector<OutputSegment>& out);
  bool step_start();
  bool step_reasoning(std::vector<OutputSegment>& out);
  bool step_content(std::vector<OutputSegment>& out);
  bool step_tool_call(std::vector<OutputSegment>& out);
  void end_tool_call(std::string_view body, std::vector<OutputSegment>& out);
  void emit(std::vector<OutputSegment>& out, OutputSegment::Kind kind, std::string_view text);
  void strip_leading_space();

  const OutputParserOptions options_;
  State state_;
  std::string buffer_;
  bool strip_ = false;  // drop white space before the next text (after a tag)
  int calls_ = 0;
};

/// "call_" and 24 random letters or digits; likewise for other prefixes.
std::string random_id(const std::string& prefix);

}  // namespace inferd
