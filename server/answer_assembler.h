// AnswerAssembler: tokens of one answer become text: whole characters, reasoning, tool calls, cut at stop strings.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"
#include "engine/text/tokenizer.h"
#include "server/output_parser.h"

namespace inferd {

struct AnswerOptions {
  bool skip_special = true;
  std::vector<std::string> stops;
  bool include_stop = false;        // the matched stop string stays in the text
  std::vector<TokenId> hidden_ids;  // ids that end the answer and are never text
  OutputParserOptions parser;
};

/// What one token made certain. Never an empty text with nothing else unless nothing is certain yet.
struct AnswerPiece {
  std::string reasoning;
  std::string content;
  std::vector<ToolCallPiece> tool_calls;  // at most one piece of each call
  std::vector<TokenEvent> tokens;         // those whose text this completes

  bool empty() const { return reasoning.empty() && content.empty() && tool_calls.empty() && tokens.empty(); }
};

/// Adds a piece of a call to what is there of the answer's calls.
void add_call_piece(std::vector<ToolCallPiece>& calls, ToolCallPiece piece);

/// One per answer; not thread-safe. The order of the law: detokenise, hold UTF-8, reasoning and tools, stops, emit.
class AnswerAssembler {
 public:
  AnswerAssembler(const Tokenizer& tokenizer, const AnswerOptions& options);
  AnswerPiece push(TokenEvent event);
  /// The rest, at the end of the answer; `cut`: a limit ended it. Empty after a stop string.
  AnswerPiece finish(bool cut);
  bool stopped() const { return stops_.matched(); }
  bool called_tools() const { return called_tools_; }
  std::int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  struct Pending {
    TokenEvent event;
    std::size_t begin, end;  // bytes of the raw text
  };
  std::string text_of(TokenId token);
  void take(std::vector<OutputSegment> segments, AnswerPiece& piece);
  void release_tokens(AnswerPiece& piece, bool all);

  const AnswerOptions options_;
  Detokenizer detokenizer_;
  std::vector<TokenId> mark_ids_;  // by number of the mark; -1: it comes as text
  OutputParser parser_;
  StopMatcher stops_;
  std::deque<Pending> pending_;
  std::size_t raw_bytes_ = 0;  // detokenised, marks as they are written
  std::size_t stop_in_ = 0, stop_out_ = 0;
  std::int64_t reasoning_tokens_ = 0;
  bool called_tools_ = false;
};

}  // namespace inferd
