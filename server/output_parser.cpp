// OutputParser: reasoning first, then content and the calls that the model's format finds in it.
#include "server/output_parser.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace inferd {
namespace {

constexpr char kThink = mark_byte(0), kEndThink = mark_byte(1);
constexpr std::string_view kSpace = " \t\r\n";
constexpr std::size_t kShortId = 9;

/// `size` without the white space that ends text[0, size).
std::size_t without_trailing_space(std::string_view text, std::size_t size) {
  const std::size_t last = text.substr(0, size).find_last_not_of(kSpace);
  return last == std::string_view::npos ? 0 : last + 1;
}

}  // namespace

std::string random_id(const std::string& prefix, std::size_t size) {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  unsigned char random[24];
  if (::getentropy(random, sizeof random) != 0) std::fill(std::begin(random), std::end(random), 0);
  std::string id = prefix;
  for (std::size_t i = 0; i < std::min(size, sizeof random); ++i) id += kLetters[random[i] % 62];
  return id;
}

std::vector<std::string> mark_texts(const OutputParserOptions& options) {
  std::vector<std::string> texts(kReasoningMarks);
  if (options.reasoning != nullptr)
    texts = {std::string(options.reasoning->open), std::string(options.reasoning->close)};
  if (options.tools != nullptr) texts.insert(texts.end(), options.tools->marks.begin(), options.tools->marks.end());
  return texts;
}

/// Gathers segments: white space at the edges of content is dropped beside tags and calls, ids are given.
class OutputParser::Sink final : public CallSink {
 public:
  Sink(const OutputParserOptions& options, const MarkReader& marks)
      : options_(options), marks_(marks), strip_(options.trims_start) {}

  void content(std::string_view text) override {
    std::string shown = space_ + marks_.shown(text);
    space_.clear();
    if (strip_) shown.erase(0, std::min(shown.find_first_not_of(kSpace), shown.size()));
    if (options_.tools != nullptr) {  // the line break before a call is not content
      const std::size_t size = without_trailing_space(shown, shown.size());
      space_ = shown.substr(size);
      shown.resize(size);
    }
    emit(OutputSegment::Kind::content, std::move(shown));
  }

  void begin_call(std::string_view name) override {
    space_.clear();
    strip_ = true;
    skipping_ = calls_ > 0 && !options_.parallel_calls;
    if (skipping_) return;
    OutputSegment segment;
    segment.kind = OutputSegment::Kind::tool_call;
    segment.call.index = calls_++;
    segment.call.id = options_.tools->short_ids ? random_id("", kShortId) : random_id("call_");
    segment.call.name = name;
    segments_.push_back(std::move(segment));
  }

  void arguments(std::string_view piece) override {
    if (skipping_ || piece.empty()) return;
    OutputSegment segment;
    segment.kind = OutputSegment::Kind::tool_call;
    segment.call.index = calls_ - 1;
    segment.call.arguments = marks_.shown(piece);
    segments_.push_back(std::move(segment));
  }

  std::string written(std::string_view text) const override { return marks_.shown(text); }

  void reasoning(std::string_view text) { emit(OutputSegment::Kind::reasoning, marks_.shown(text)); }
  /// The white space that comes next is dropped.
  void strip_next() { strip_ = true; }
  bool strips() const { return strip_; }
  /// The end: white space after the last call is not content, after text it is.
  void finish() {
    if (calls_ == 0) emit(OutputSegment::Kind::content, std::move(space_));
    space_.clear();
  }
  std::size_t held() const { return space_.size(); }
  std::vector<OutputSegment> take() { return std::exchange(segments_, {}); }

 private:
  void emit(OutputSegment::Kind kind, std::string text) {
    if (text.empty()) return;
    strip_ = false;
    OutputSegment segment;
    segment.kind = kind;
    segment.text = std::move(text);
    segments_.push_back(std::move(segment));
  }

  const OutputParserOptions& options_;
  const MarkReader& marks_;
  std::vector<OutputSegment> segments_;
  std::string space_;  // content if text follows
  bool strip_;         // drop white space before the next text
  bool skipping_ = false;
  int calls_ = 0;
};

OutputParser::OutputParser(const OutputParserOptions& options, std::vector<Mark> marks)
    : options_(options), marks_(std::move(marks)), sink_(std::make_unique<Sink>(options_, marks_)) {
  if (options_.tools != nullptr) format_ = options_.tools->make(options_.schemas);
  if (options_.reasoning == nullptr) return;
  state_ = options_.reasoning_open ? State::reasoning : State::start;
  if (options_.reasoning_open) sink_->strip_next();
}

OutputParser::~OutputParser() = default;

std::size_t OutputParser::held() const { return marks_.held() + marks_.written_size(buffer_) + sink_->held(); }

std::vector<OutputSegment> OutputParser::push(std::string_view text) {
  buffer_ += marks_.push(text);
  run(Ending::more);
  return sink_->take();
}

std::vector<OutputSegment> OutputParser::finish(bool cut) {
  buffer_ += marks_.finish();
  run(cut ? Ending::cut : Ending::stopped);
  if (state_ == State::reasoning) {
    sink_->reasoning(std::string_view(buffer_).substr(0, without_trailing_space(buffer_, buffer_.size())));
  } else {
    sink_->content(buffer_);
  }
  buffer_.clear();
  sink_->finish();
  return sink_->take();
}

void OutputParser::run(Ending ending) {
  while (step(ending)) {
  }
}

bool OutputParser::step(Ending ending) {
  switch (state_) {
    case State::start:
      return step_start();
    case State::reasoning:
      return step_reasoning();
    case State::content:
      return step_content(ending);
  }
  return false;
}

/// Decides whether the answer opens with reasoning.
bool OutputParser::step_start() {
  const std::size_t first = buffer_.find_first_not_of(kSpace);
  if (first == std::string::npos) return false;
  state_ = State::content;
  if (buffer_[first] != kThink) return true;
  buffer_.erase(0, first + 1);
  state_ = State::reasoning;
  sink_->strip_next();
  return true;
}

bool OutputParser::step_reasoning() {
  if (sink_->strips()) buffer_.erase(0, std::min(buffer_.find_first_not_of(kSpace), buffer_.size()));
  const std::size_t end = buffer_.find(kEndThink);
  const bool ended = end != std::string::npos;
  const std::size_t shown = without_trailing_space(buffer_, ended ? end : buffer_.size());
  sink_->reasoning(std::string_view(buffer_).substr(0, shown));
  buffer_.erase(0, ended ? end + 1 : shown);
  if (!ended) return false;
  state_ = State::content;
  sink_->strip_next();
  return true;
}

bool OutputParser::step_content(Ending ending) {
  if (format_ == nullptr) {
    sink_->content(buffer_);
    buffer_.clear();
    return false;
  }
  std::string_view text = buffer_;
  const bool again = format_->step(text, ending, *sink_);
  buffer_.erase(0, buffer_.size() - text.size());
  return again;
}

}  // namespace inferd
