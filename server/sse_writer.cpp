// SseWriter: server-sent events: one line of JSON each, comments to keep proxies awake, [DONE].
#include "server/sse_writer.h"

namespace inferd {

using std::chrono::steady_clock;

SseWriter::SseWriter(ByteSink& sink, double ping_s) : sink_(sink), ping_(ping_s), last_(steady_clock::now()) {}

bool SseWriter::write(const std::string& text) {
  ok_ = ok_ && sink_.write(text);
  last_ = steady_clock::now();
  return ok_;
}

bool SseWriter::send(const Json& event) { return write("data: " + dump_json(event) + "\n\n"); }

bool SseWriter::send_error(const ApiError& error) { return send(error_body(error)); }

bool SseWriter::done() { return write("data: [DONE]\n\n"); }

bool SseWriter::ping_if_silent() {
  if (steady_clock::now() - last_ < ping_) return !client_gone();
  return write(": ping\n\n");
}

HttpResponse event_stream(std::function<void(ByteSink&)> body) {
  HttpResponse response;
  response.content_type = "text/event-stream; charset=utf-8";
  response.headers.emplace_back("Cache-Control", "no-cache");
  response.headers.emplace_back("X-Accel-Buffering", "no");
  response.stream = std::move(body);
  return response;
}

}  // namespace inferd
