// HttpServer: listens, keeps the limits, and hands requests to the dispatcher. The one face of the HTTP library.
#pragma once

#include <memory>
#include <string>

#include "server/http_types.h"
#include "server/options.h"

namespace inferd {

/// Serves HTTP/1.1 on one address with a fixed pool of connection threads. Owned by main; its dispatcher outlives it.
class HttpServer {
 public:
  /// Makes the threads. Throws MemoryError.
  HttpServer(const HttpOptions& options, HttpDispatcher& dispatcher);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;

  /// Binds and starts to accept; returns the port. Throws FatalError(address_in_use).
  int start();
  /// Requests being answered now (idle connections not counted).
  int active_requests() const;
  int open_connections() const;
  /// Ends the listener and all connections; waits for active answers up to `grace_s` first. Idempotent.
  void stop(double grace_s);
  /// How often the listener had to be opened anew.
  int restarts() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace inferd
