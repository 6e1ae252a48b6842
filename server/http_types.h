// What the HTTP layer hands to endpoints and takes back from them; knows no library.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace inferd {

struct Route;

/// One request. Lives on its connection's thread.
struct HttpRequest {
  std::string method;     // "HEAD" is routed as GET
  std::string path;       // as sent, nothing decoded
  std::string path_rest;  // what follows a route that ends in '/', still encoded
  std::string body;
  std::string remote_addr;
  std::string id;           // x-request-id, the client's if it sent a fit one
  std::string cache_scope;  // prefix-cache entries are shared only within one key; empty: no keys are used
  const Route* route = nullptr;
  std::function<std::string(std::string_view)> header;  // value by name, empty if absent
  std::function<bool()> client_gone;                    // the connection was closed or half-closed
};

/// Where a streamed body goes.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  /// False once the client is gone or too slow; stop then.
  virtual bool write(std::string_view bytes) = 0;
  virtual bool client_gone() = 0;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  std::function<void(ByteSink&)> stream;  // if set, the body is what it writes
};

/// Decides about requests. Called by many connection threads at a time.
class HttpDispatcher {
 public:
  virtual ~HttpDispatcher() = default;
  /// Before the body is read: an answer that ends the request here, or nothing.
  virtual std::optional<HttpResponse> admit(HttpRequest& request) = 0;
  /// The answer to an admitted request whose body is complete. Does not throw.
  virtual HttpResponse handle(HttpRequest& request) = 0;
  /// The answer to what is no acceptable HTTP request (408, 413, 431, …).
  virtual HttpResponse protocol_error(int status, const HttpRequest& request) = 0;
  /// Headers every answer carries.
  virtual void finish_headers(const HttpRequest& request, HttpResponse& response) = 0;
  /// After the last byte of an answer, or the loss of its client.
  virtual void finished(const HttpRequest& request, int status, double seconds) = 0;
  /// A client took too long to accept a piece of its answer.
  virtual void write_timed_out() = 0;
  /// A connection above the limit was refused.
  virtual void refused_connection() = 0;
  /// A client closed its connection before its answer was complete.
  virtual void client_left() = 0;
};

}  // namespace inferd
