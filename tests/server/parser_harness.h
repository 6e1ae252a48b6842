// An OutputParser run over a text in pieces, and what came out of it put together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/answer_assembler.h"
#include "server/output_parser.h"
#include "server/tool_formats/formats.h"
#include "tests/catch.h"

namespace inferd::testing {

/// Two tools whose arguments have a type each.
inline Json weather_tools() {
  return Json::parse(R"([
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
      "city": {"type": "string"}, "days": {"type": "integer"}, "limit": {"type": "number"}, "metric": {"type": "boolean"},
      "tags": {"type": "array", "items": {"type": "string"}}, "where": {"type": "object"},
      "since": {"type": ["string", "null"]}, "unit": {"anyOf": [{"type": "integer"}, {"enum": ["c", "f"]}]}}}}},
    {"type": "function", "function": {"name": "get_time"}}])");
}

/// What a parser made of an answer.
struct Parsed {
  std::string reasoning, content;
  std::vector<ToolCallPiece> calls;
  std::vector<std::size_t> pieces;  // by call: segments it came in

  bool operator==(const Parsed& other) const {
    bool same = reasoning == other.reasoning && content == other.content && calls.size() == other.calls.size();
    for (std::size_t i = 0; same && i < calls.size(); ++i) {
      same = calls[i].name == other.calls[i].name && calls[i].arguments == other.calls[i].arguments &&
             calls[i].index == other.calls[i].index;
    }
    return same;
  }
  /// "reasoning|content|name(arguments)…", for comparisons that read well.
  std::string text() const {
    std::string out = reasoning + "|" + content + "|";
    for (const ToolCallPiece& call : calls) out += call.name + call.arguments + ";";
    return out;
  }
};

inline void add_segments(std::vector<OutputSegment> segments, Parsed& out) {
  for (OutputSegment& segment : segments) {
    if (segment.kind == OutputSegment::Kind::reasoning) out.reasoning += segment.text;
    if (segment.kind == OutputSegment::Kind::content) out.content += segment.text;
    if (segment.kind != OutputSegment::Kind::tool_call) {
      CHECK_FALSE(segment.text.empty());
      continue;
    }
    const auto index = static_cast<std::size_t>(segment.call.index);
    const bool first = index == out.calls.size();
    // The id and the name come once, and first.
    CHECK(first != segment.call.id.empty());
    CHECK(first != segment.call.name.empty());
    if (first) out.pieces.push_back(0);
    ++out.pieces.at(index);
    add_call_piece(out.calls, std::move(segment.call));
  }
}

inline OutputParserOptions tool_options(const ToolFormatRow& format, const Json& tools = weather_tools()) {
  OutputParserOptions options;
  options.tools = &format;
  options.schemas = ToolSchemas(tools);
  return options;
}

/// Marks as a vocabulary without control tokens for them has them.
inline std::vector<Mark> plain_marks(const OutputParserOptions& options) {
  std::vector<Mark> marks;
  for (const std::string& text : mark_texts(options)) marks.push_back({text, false, false});
  return marks;
}

inline Parsed parse_pieces(const OutputParserOptions& options, const std::vector<std::string_view>& pieces,
                           bool cut = false) {
  OutputParser parser(options, plain_marks(options));
  Parsed out;
  for (const std::string_view piece : pieces) add_segments(parser.push(piece), out);
  add_segments(parser.finish(cut), out);
  CHECK(parser.held() == 0);
  return out;
}

/// The result, which must be the same in one piece, in any two, and byte by byte.
inline Parsed parse_all_ways(const OutputParserOptions& options, std::string_view text, bool cut = false) {
  INFO("answer: " << text);
  const Parsed whole = parse_pieces(options, {text}, cut);
  std::vector<std::string_view> bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bytes.push_back(text.substr(i, 1));
    const Parsed split = parse_pieces(options, {text.substr(0, i), text.substr(i)}, cut);
    INFO("split at " << i << ": " << split.text());
    REQUIRE(split == whole);
  }
  const Parsed single = parse_pieces(options, bytes, cut);
  INFO("byte by byte: " << single.text());
  REQUIRE(single == whole);
  return whole;
}

}  // namespace inferd::testing
