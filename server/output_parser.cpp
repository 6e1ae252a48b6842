// OutputParser: splits what a model writes into reasoning, content and tool calls, as it streams.
#include "server/output_parser.h"

#include <unistd.h>

#include <algorithm>

#include "base/json.h"

namespace inferd {
namespace {

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kCall = "<tool_call>";
constexpr std::string_view kEndCall = "</tool_call>";
constexpr std::string_view kSpace = " \t\r\n";

/// Length of the longest end of `text` that is a proper beginning of `tag`.
std::size_t partial_tag(std::string_view text, std::string_view tag) {
  for (std::size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n) {
    if (text.ends_with(tag.substr(0, n))) return n;
  }
  return 0;
}

/// `size` without the white space that ends text[0, size).
std::size_t without_trailing_space(std::string_view text, std::size_t size) {
  const std::size_t last = text.substr(0, size).find_last_not_of(kSpace);
  return last == std::string_view::npos ? 0 : last + 1;
}

/// Reads {"name": …, "arguments": {…}}; false if it is no such call.
bool read_call(std::string_view body, ToolCall& call) {
  try {
    const Json json = parse_json(body);
    if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return false;
    call.name = json["name"].get<std::string>();
    const char* key = json.contains("arguments") ? "arguments" : "parameters";
    Json arguments = json.contains(key) ? json[key] : Json::object();
    call.arguments = arguments.is_string() ? arguments.get<std::string>() : dump_json(arguments);
    return !call.name.empty();
  } catch (const JsonError&) {
    return false;
  }
}

}  // namespace

std::string random_id(const std::string& prefix) {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  unsigned char random[24];
  if (::getentropy(random, sizeof random) != 0) std::fill(std::begin(random), std::end(random), 0);
  std::string id = prefix;
  for (const unsigned char byte : random) id += kLetters[byte % 62];
  return id;
}

OutputParser::OutputParser(const OutputParserOptions& options) : options_(options), state_(State::content) {
  if (options_.reasoning) state_ = options_.reasoning_open ? State::reasoning : State::start;
  strip_ = state_ == State::reasoning;
}

std::vector<OutputSegment> OutputParser::push(std::string_view text) {
  std::vector<OutputSegment> out;
  buffer_.append(text);
  while (step(out)) {
  }
  return out;
}

std::vector<OutputSegment> OutputParser::finish() {
  std::vector<OutputSegment> out;
  while (step(out)) {
  }
  if (state_ == State::tool_call) {
    const std::string body = std::move(buffer_);  // some models end without the closing tag
    buffer_.clear();
    end_tool_call(body, out);
  } else {
    const auto kind = state_ == State::reasoning ? OutputSegment::Kind::reasoning : OutputSegment::Kind::content;
    if (state_ == State::reasoning) buffer_.resize(without_trailing_space(buffer_, buffer_.size()));
    if (state_ == State::content && calls_ > 0) buffer_.resize(without_trailing_space(buffer_, buffer_.size()));
    emit(out, kind, buffer_);
  }
  buffer_.clear();
  return out;
}

bool OutputParser::step(std::vector<OutputSegment>& out) {
  switch (state_) {
    case State::start:
      return step_start();
    case State::reasoning:
      return step_reasoning(out);
    case State::content:
      return step_content(out);
    case State::tool_call:
      return step_tool_call(out);
  }
  return false;
}

/// Decides whether the answer opens with <think>.
bool OutputParser::step_start() {
  const std::size_t first = buffer_.find_first_not_of(kSpace);
  if (first == std::string::npos) return false;
  const std::string_view rest = std::string_view(buffer_).substr(first);
  if (rest.starts_with(kThink)) {
    buffer_.erase(0, first + kThink.size());
    state_ = State::reasoning;
    strip_ = true;
    return true;
  }
  if (kThink.starts_with(rest)) return false;
  state_ = State::content;
  return true;
}

bool OutputParser::step_reasoning(std::vector<OutputSegment>& out) {
  strip_leading_space();
  const std::size_t end = buffer_.find(kEndThink);
  const bool ended = end != std::string::npos;
  const std::size_t sure = ended ? end : buffer_.size() - partial_tag(buffer_, kEndThink);
  const std::size_t shown = without_trailing_space(buffer_, sure);
  emit(out, OutputSegment::Kind::reasoning, std::string_view(buffer_).substr(0, shown));
  buffer_.erase(0, ended ? end + kEndThink.size() : shown);
  if (ended) {
    state_ = State::content;
    strip_ = true;
  }
  return ended;
}

bool OutputParser::step_content(std::vector<OutputSegment>& out) {
  strip_leading_space();
  if (!options_.tool_calls) {
    emit(out, OutputSegment::Kind::content, buffer_);
    buffer_.clear();
    return false;
  }
  const std::size_t call = buffer_.find(kCall);
  const bool opens = call != std::string::npos;
  std::size_t shown = opens ? call : buffer_.size() - partial_tag(buffer_, kCall);
  shown = without_trailing_space(buffer_, shown);  // the line break before a call is not content
  emit(out, OutputSegment::Kind::content, std::string_view(buffer_).substr(0, shown));
  buffer_.erase(0, opens ? call + kCall.size() : shown);
  if (opens) state_ = State::tool_call;
  return opens;
}

bool OutputParser::step_tool_call(std::vector<OutputSegment>& out) {
  const std::size_t end = buffer_.find(kEndCall);
  if (end == std::string::npos) return false;
  const std::string body = buffer_.substr(0, end);
  buffer_.erase(0, end + kEndCall.size());
  end_tool_call(body, out);
  state_ = State::content;
  strip_ = true;
  return true;
}

void OutputParser::end_tool_call(std::string_view body, std::vector<OutputSegment>& out) {
  OutputSegment segment;
  segment.kind = OutputSegment::Kind::tool_call;
  if (!read_call(body, segment.call)) {
    emit(out, OutputSegment::Kind::content, std::string(kCall) + std::string(body) + std::string(kEndCall));
    return;
  }
  if (calls_ > 0 && !options_.parallel_calls) return;
  ++calls_;
  segment.call.id = random_id("call_");
  out.push_back(std::move(segment));
}

void OutputParser::emit(std::vector<OutputSegment>& out, OutputSegment::Kind kind, std::string_view text) {
  if (text.empty()) return;
  strip_ = false;
  OutputSegment segment;
  segment.kind = kind;
  segment.text = text;
  out.push_back(std::move(segment));
}

void OutputParser::strip_leading_space() {
  if (strip_) buffer_.erase(0, std::min(buffer_.find_first_not_of(kSpace), buffer_.size()));
}

}  // namespace inferd
