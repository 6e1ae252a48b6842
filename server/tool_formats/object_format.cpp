// ObjectFormat, and small readers of marked text.
#include "server/tool_formats/object_format.h"

#include <algorithm>

namespace inferd {

void ObjectFormat::enter(std::size_t offset, const ToolSchemas* schemas) {
  state_ = State::object;
  offset_ = offset;
  object_ = CallObject(schemas);
}

bool ObjectFormat::step(std::string_view& text, Ending, CallSink& out) {
  switch (state_) {
    case State::outside:
      return step_outside(text, out);
    case State::object:
      return step_object(text, out);
    case State::after:
      return step_after(text);
  }
  return false;
}

bool ObjectFormat::step_object(std::string_view& text, CallSink& out) {
  std::size_t read = 0;
  const CallObject::Status status = object_.read(text.substr(offset_), read, out);
  if (object_.begun()) {
    text.remove_prefix(offset_ + read);
    offset_ = 0;
    // A call that breaks off keeps what it has; what follows is looked at as what follows a call.
    if (status != CallObject::Status::reading) state_ = State::after;
  } else if (status == CallObject::Status::bad) {
    give_up(text, out);
    leave();
  }
  return status != CallObject::Status::reading;
}

bool content_until(std::string_view& text, char mark, CallSink& out) {
  const std::size_t at = std::min(text.find(mark), text.size());
  if (at > 0) out.content(text.substr(0, at));
  text.remove_prefix(at);
  return !text.empty();
}

void give_up(std::string_view& text, CallSink& out) {
  out.content(text.substr(0, 1));
  text.remove_prefix(1);
}

void give_stray(std::string_view& text, CallSink& out) {
  const auto mark = std::find_if(text.begin() + 1, text.end(), is_mark);
  std::string_view stray = text.substr(0, static_cast<std::size_t>(mark - text.begin()));
  stray = stray.substr(0, std::max<std::size_t>(stray.find_last_not_of(" \t\r\n") + 1, 1));
  out.content(stray);
  text.remove_prefix(stray.size());
}

std::size_t skip_space(std::string_view text, std::size_t from) {
  return std::min(text.find_first_not_of(" \t\r\n", from), text.size());
}

}  // namespace inferd
