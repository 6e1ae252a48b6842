// CallObject: members of the outermost level, and the arguments copied through.
#include "server/tool_formats/call_object.h"

#include "server/tool_formats/call_name.h"

namespace inferd {
namespace {

/// What a JSON string says; empty if it is none.
std::string string_value(std::string_view json) {
  try {
    const Json value = parse_json(json);
    return value.is_string() ? value.get<std::string>() : std::string();
  } catch (const JsonError&) {
    return {};
  }
}

bool is_object(std::string_view json) {
  try {
    return parse_json(json).is_object();
  } catch (const JsonError&) {
    return false;
  }
}

}  // namespace

CallObject::Status CallObject::read(std::string_view text, std::size_t& read, CallSink& out) {
  Status status = Status::reading;
  for (read = seen_; read < text.size() && status == Status::reading; ++read) {
    status = feed(text[read], out);
    if (status == Status::bad) break;
  }
  if (begun_ && !arguments_.empty()) {
    out.arguments(arguments_);
    arguments_.clear();
  }
  seen_ = begun_ ? 0 : read;
  return status;
}

CallObject::Status CallObject::feed(char c, CallSink& out) {
  // Arguments are an object, a string that holds one, or null.
  const bool value_begins = !copying_ && scanner_.depth() == 1 && scanner_.wants_value();
  if (value_begins && names_arguments() && std::string_view("{\"n \t\r\n").find(c) == std::string_view::npos) {
    return Status::bad;
  }
  const JsonScanner::Event event = scanner_.feed(c);
  if (event == JsonScanner::Event::bad) return Status::bad;
  if (copying_) {
    scanner_.copy(arguments_);
    copying_ = scanner_.depth() > 1;
    return Status::reading;
  }
  if (event == JsonScanner::Event::open && scanner_.depth() == 2 && names_arguments() && !has_arguments_) {
    has_arguments_ = copying_ = true;
    scanner_.copy(arguments_);
    return name_.empty() || begin(out) ? Status::reading : Status::bad;
  }
  if (!feed_member(c, event)) return Status::bad;
  return scanner_.done() ? finish(out) : Status::reading;
}

/// Keys and strings of the outermost level. False if they make no call.
bool CallObject::feed_member(char c, JsonScanner::Event event) {
  if (scanner_.depth() != 1) return true;
  if (scanner_.in_string()) {
    word_ += c;
    return true;
  }
  if (event == JsonScanner::Event::key_end) key_ = string_value(word_ + c);
  if (event == JsonScanner::Event::string_end && !begun_ && key_ == "name") name_ = string_value(word_ + c);
  if (event == JsonScanner::Event::string_end && names_arguments() && !has_arguments_) {
    arguments_ = string_value(word_ + c);
    has_arguments_ = true;
    if (!is_object(arguments_)) return false;
  }
  word_.clear();
  return true;
}

bool CallObject::begin(CallSink& out) {
  if (!is_call_name(name_) || (schemas_ != nullptr && !schemas_->knows(name_))) return false;
  out.begin_call(name_);
  begun_ = true;
  return true;
}

CallObject::Status CallObject::finish(CallSink& out) {
  if (begun_) return Status::done;
  if (!begin(out)) return Status::bad;
  if (!has_arguments_) arguments_ = "{}";
  return Status::done;
}

}  // namespace inferd
