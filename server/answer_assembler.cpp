// AnswerAssembler: tokens of one answer become text: whole characters, reasoning, tool calls, cut at stop strings.
#include "server/answer_assembler.h"

#include <algorithm>

namespace inferd {

AnswerAssembler::AnswerAssembler(const Tokenizer& tokenizer, const AnswerOptions& options)
    : options_(options),
      detokenizer_(tokenizer, options.skip_special),
      parser_(options.parser),
      stops_(options.stops) {}

AnswerPiece AnswerAssembler::push(TokenEvent event) {
  AnswerPiece piece;
  if (stopped()) return piece;
  const auto& hidden = options_.hidden_ids;
  if (std::find(hidden.begin(), hidden.end(), event.token) != hidden.end()) return piece;
  if (parser_.in_reasoning()) ++reasoning_tokens_;
  const std::string text = detokenizer_.push(event.token);
  const std::size_t begin = raw_bytes_;
  raw_bytes_ += text.size();
  pending_.push_back({std::move(event), begin, raw_bytes_});
  take(parser_.push(text), piece);
  release_tokens(piece, false);
  return piece;
}

AnswerPiece AnswerAssembler::finish() {
  AnswerPiece piece;
  if (stopped()) return piece;
  const std::string tail = detokenizer_.finish();
  raw_bytes_ += tail.size();
  take(parser_.push(tail), piece);
  take(parser_.finish(), piece);
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
        piece.tool_calls.push_back(std::move(segment.call));
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
