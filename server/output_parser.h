// OutputParser: splits what a model writes into reasoning, content and tool calls, as it streams.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/marks.h"
#include "server/reasoning_formats.h"
#include "server/tool_formats/tool_format.h"

namespace inferd {

/// A piece of one tool call. Its first piece has the id and the name, and only that one.
struct ToolCallPiece {
  int index = 0;  // of the call in this answer
  std::string id;
  std::string name;
  std::string arguments;  // goes on where the last piece ended; all of them are a JSON text
};

/// A stretch of one kind.
struct OutputSegment {
  enum class Kind { reasoning, content, tool_call } kind = Kind::content;
  std::string text;
  ToolCallPiece call;
};

struct OutputParserOptions {
  const ReasoningFormat* reasoning = nullptr;  // null: no text is reasoning
  bool reasoning_open = false;                 // the prompt already ended with the opening tag
  const ToolFormatRow* tools = nullptr;        // null: no text is a call
  ToolSchemas schemas;                         // of the request's tools
  bool parallel_calls = true;                  // false: only the first call counts
  bool trims_start = false;                    // the answer's first white space is dropped
};

/// The texts that part an answer of these options; their place is their number. Some are empty.
std::vector<std::string> mark_texts(const OutputParserOptions& options);

/// One per answer; not thread-safe. Text that might become a tag or a call is held back; nothing of it is lost.
class OutputParser {
 public:
  /// `marks` as mark_texts() gave them, with what the vocabulary knows of each.
  OutputParser(const OutputParserOptions& options, std::vector<Mark> marks);
  ~OutputParser();
  OutputParser(const OutputParser&) = delete;

  std::vector<OutputSegment> push(std::string_view text);
  /// What was held back, at the end of the answer. `cut`: a limit ended it, not the model.
  std::vector<OutputSegment> finish(bool cut);
  /// Bytes pushed that may still become part of the output.
  std::size_t held() const;
  /// Bytes of `text`, in which marks may stand as bytes, as the model wrote it.
  std::size_t written_size(std::string_view text) const { return marks_.written_size(text); }
  bool in_reasoning() const { return state_ == State::reasoning; }

 private:
  class Sink;
  enum class State { start, reasoning, content };
  void run(Ending ending);
  bool step(Ending ending);
  bool step_start();
  bool step_reasoning();
  bool step_content(Ending ending);

  const OutputParserOptions options_;
  MarkReader marks_;
  std::unique_ptr<ToolFormat> format_;
  std::unique_ptr<Sink> sink_;
  State state_ = State::content;
  std::string buffer_;  // with marks as bytes
};

/// `prefix` and `size` random letters or digits.
std::string random_id(const std::string& prefix, std::size_t size = 24);

}  // namespace inferd
