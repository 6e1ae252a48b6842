// ObjectFormat: what formats share whose calls are JSON objects between marks.
#pragma once

#include "server/tool_formats/call_object.h"

namespace inferd {

/// Reads the objects; where they begin, and what stands between them, its children say.
class ObjectFormat : public ToolFormat {
 public:
  bool step(std::string_view& text, Ending ending, CallSink& out) final;

 protected:
  /// Looks for the next call in text outside of any.
  virtual bool step_outside(std::string_view& text, CallSink& out) = 0;
  /// Looks for a further call, or the end of the calls, right after one. Calls leave() once there is none.
  virtual bool step_after(std::string_view& text) = 0;
  /// A call object begins at text[offset]; what is before that is given up with it if it turns out to be no call.
  void enter(std::size_t offset, const ToolSchemas* schemas = nullptr);
  void leave() { state_ = State::outside; }

 private:
  enum class State { outside, object, after };
  bool step_object(std::string_view& text, CallSink& out);
  State state_ = State::outside;
  std::size_t offset_ = 0;
  CallObject object_;
};

/// Text up to the first `mark` goes out as content. True if the mark is there, and first in `text` now.
bool content_until(std::string_view& text, char mark, CallSink& out);

/// The first byte of `text` is content after all.
void give_up(std::string_view& text, CallSink& out);

/// Stray text between the parts of a call goes out as content: up to the next mark, without the white space before it.
void give_stray(std::string_view& text, CallSink& out);

/// Where `text` has its first byte that is no white space; its size if there is none.
std::size_t skip_space(std::string_view text, std::size_t from);

}  // namespace inferd
