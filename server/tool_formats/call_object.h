// CallObject: reads {"name": …, "arguments": {…}} as it streams.
#pragma once

#include <string>
#include <string_view>

#include "server/tool_formats/json_scanner.h"
#include "server/tool_formats/tool_format.h"

namespace inferd {

/// One call. It is told to the sink as soon as it is certain: with a name, when its arguments begin; from then on its
/// text is used up.
class CallObject {
 public:
  /// `schemas`: if not null, only a function that they know is called.
  explicit CallObject(const ToolSchemas* schemas = nullptr) : schemas_(schemas) {}

  enum class Status { reading, bad, done };
  /// Reads on. `text` begins with the object, or where the last read ended if it has begun() already. Moves `read` past
  /// what belongs to the object.
  Status read(std::string_view text, std::size_t& read, CallSink& out);
  /// The call has been told to the sink.
  bool begun() const { return begun_; }

 private:
  Status feed(char c, CallSink& out);
  bool feed_member(char c, JsonScanner::Event event);
  bool begin(CallSink& out);
  Status finish(CallSink& out);
  bool names_arguments() const { return key_ == "arguments" || key_ == "parameters"; }

  const ToolSchemas* schemas_;
  JsonScanner scanner_;
  std::size_t seen_ = 0;  // bytes of `text` that were fed before
  std::string word_;      // the key or string being read at the outermost level, with its quotes
  std::string key_, name_;
  std::string arguments_;  // copied, and not told yet
  bool copying_ = false;   // inside the arguments
  bool has_arguments_ = false;
  bool begun_ = false;
};

}  // namespace inferd
