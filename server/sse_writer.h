// SseWriter: server-sent events: one line of JSON each, comments to keep proxies awake, [DONE].
#pragma once

#include <chrono>

#include "base/json.h"
#include "server/api_error.h"
#include "server/http_types.h"

namespace inferd {

/// One per streamed answer; writes straight to the connection, so nothing is buffered here. Not thread-safe.
class SseWriter {
 public:
  SseWriter(ByteSink& sink, double ping_s);
  /// "data: JSON\n\n". False once the client is gone.
  bool send(const Json& event);
  /// An error in mid-stream; the last event.
  bool send_error(const ApiError& error);
  bool done();
  /// Sends a comment line if nothing was sent for a while. False once the client is gone.
  bool ping_if_silent();
  bool client_gone() { return !ok_ || sink_.client_gone(); }

 private:
  bool write(const std::string& text);
  ByteSink& sink_;
  const std::chrono::duration<double> ping_;
  std::chrono::steady_clock::time_point last_;
  bool ok_ = true;
};

/// Status 200 and the headers of an event stream; `body` writes it.
HttpResponse event_stream(std::function<void(ByteSink&)> body);

}  // namespace inferd
