// AnswerAssembler: tokens of one answer become text: whole characters, reasoning, tool calls, cut at stop strings.
#include "server/answer_assembler.h"

#include <algorithm>

namespace inferd {
namespace {

/// By number of the mark: the control token that it is in this vocabulary, or -1.
std::vector<TokenId> control_ids(const Tokenizer& tokenizer, const OutputParserOptions& options) {
  std::vector<TokenId> ids;
  for (const std::string& text : mark_texts(options)) {
    const auto id = text.empty() ? std::nullopt : tokenizer.special_id(text);
    ids.push_back(id && tokenizer.is_special(*id) ? *id : -1);
  }
  return ids;
}

std::vector<Mark> marks_of(const AnswerOptions& options, const std::vector<TokenId>& ids) {
  std::vector<Mark> marks;
  for (const std::string& text : mark_texts(options.parser)) {
    const bool control = ids[marks.size()] >= 0;
    marks.push_back({text, control, control && options.skip_special});
  }
  return marks;
}

}  // namespace

AnswerAssembler::AnswerAssembler(const Tokenizer& tokenizer, const AnswerOptions& options)
    : options_(options),
      detokenizer_(tokenizer, options.skip_special),
      mark_ids_(control_ids(tokenizer, options.parser)),
      parser_(options.parser, marks_of(options, mark_ids_)),
      stops_(options.stops) {}

void add_call_piece(std::vector<ToolCallPiece>& calls, ToolCallPiece piece) {
  if (calls.empty() || calls.back().index != piece.index) {
    calls.push_back(std::move(piece));
  } else {
    calls.back().arguments += piece.arguments;
  }
}

/// The text that a token adds; a mark that is a control token is its byte.
std::string AnswerAssembler::text_of(TokenId token) {
  const auto mark = std::find(mark_ids_.begin(), mark_ids_.end(), token);
  if (mark == mark_ids_.end()) return detokenizer_.push(token);
  return detokenizer_.finish() + mark_byte(static_cast<std::size_t>(mark - mark_ids_.begin()));
}

AnswerPiece AnswerAssembler::push(TokenEvent event) {
  AnswerPiece piece;
  if (stopped()) return piece;
  const auto& hidden = options_.hidden_ids;
  if (std::find(hidden.begin(), hidden.end(), event.token) != hidden.end()) return piece;
  if (parser_.in_reasoning()) ++reasoning_tokens_;
  const std::string text = text_of(event.token);
  const std::size_t begin = raw_bytes_;
  raw_bytes_ += parser_.written_size(text);
  pending_.push_back({std::move(event), begin, raw_bytes_});
  take(parser_.push(text), piece);
  release_tokens(piece, false);
  return piece;
}

AnswerPiece AnswerAssembler::finish(bool cut) {
  AnswerPiece piece;
  if (stopped()) return piece;
  const std::string tail = detokenizer_.finish();
  raw_bytes_ += tail.size();
  take(parser_.push(tail), piece);
  take(parser_.finish(cut), piece);
  if (!stopped()) {
    const std::string held = stops_.finish();
    stop_out_ += held.size();
    piece.content += held;
  }
  release_tokens(piece, !stopped());
  return piece;
}

void AnswerAssembler::take(std::vector<OutputSegment> segments, AnswerPiece& piece) {
  for (OutputSegment& segment : segments) {
    if (stopped()) return;
    switch (segment.kind) {
      case OutputSegment::Kind::reasoning:
        piece.reasoning += segment.text;
        break;
      case OutputSegment::Kind::tool_call:
        called_tools_ = true;
        add_call_piece(piece.tool_calls, std::move(segment.call));
        break;
      case OutputSegment::Kind::content: {
        const std::string emitted = stops_.push(segment.text);
        stop_in_ += segment.text.size();
        stop_out_ += emitted.size();
        piece.content += emitted;
        if (stops_.matched() && options_.include_stop) piece.content += stops_.match();
        break;
      }
    }
  }
}

/// Tokens go out once their text has; those cut off by a stop string never do.
void AnswerAssembler::release_tokens(AnswerPiece& piece, bool all) {
  const std::size_t held = parser_.held() + (stop_in_ - stop_out_);
  const std::size_t sure = raw_bytes_ - std::min(held, raw_bytes_);
  while (!pending_.empty()) {
    const Pending& next = pending_.front();
    const bool cut_inside = stopped() && next.begin < sure;
    const bool whole = next.end <= sure && next.end > next.begin;
    // A token without text of its own yet (part of a character) waits for the one that completes it.
    const bool silent_before = next.end == next.begin && next.end < sure;
    if (!all && !whole && !silent_before && !cut_inside) break;
    piece.tokens.push_back(std::move(pending_.front().event));
    pending_.pop_front();
  }
  if (stopped()) pending_.clear();
}

}  // namespace inferd
