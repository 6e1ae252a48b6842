// ToolFormat: one family's way of writing tool calls, read as it streams.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/marks.h"
#include "server/tool_formats/call_grammar.h"
#include "server/tool_schemas.h"

namespace inferd {

/// Takes what a format finds, in the order of the text.
class CallSink {
 public:
  virtual ~CallSink() = default;
  /// Text that belongs to no call. Marks in it are given back as the model wrote them.
  virtual void content(std::string_view text) = 0;
  /// A call begins, for certain; what follows of arguments is its own.
  virtual void begin_call(std::string_view name) = 0;
  /// A piece of the call's arguments, which are a JSON text once all are there.
  virtual void arguments(std::string_view piece) = 0;
  /// `text` with its marks as the model wrote them.
  virtual std::string written(std::string_view text) const = 0;
};

/// How much more text comes after what a step sees.
enum class Ending {
  more,     // perhaps some
  stopped,  // none: the model ended its answer
  cut,      // none: a limit ended it
};

/// One per answer; not thread-safe.
class ToolFormat {
 public:
  virtual ~ToolFormat() = default;
  /// Takes what is certain off the front of `text` (marks are bytes in it). True: there may be more to take. What is
  /// left when no more text comes is content.
  virtual bool step(std::string_view& text, Ending ending, CallSink& out) = 0;
};

/// A row of the table of formats.
struct ToolFormatRow {
  std::string_view name;                                            // a value of the setting `tool_parser`
  bool (*fits)(std::string_view template_source);                   // the template asks for calls of this form
  std::unique_ptr<ToolFormat> (*make)(const ToolSchemas& schemas);  // which must outlive it
  std::span<const std::string_view> marks;  // at most kMaxToolMarks; tool_mark(i) stands for the i-th
  bool short_ids = false;                   // ids of calls are nine letters and digits
  // The calls of an answer that has to have some; null: answers in this form cannot be made to.
  GrammarExpr (*calls)(const CallGrammar& grammar) = nullptr;
  // What calls begin with, wherever in an answer they stand; empty: they have no such beginning.
  std::string_view opening = {};
  bool bare_values = false;  // strings among the arguments are written without quotes
  bool trims_start = false;  // answers begin with white space that is not part of them
};

}  // namespace inferd
