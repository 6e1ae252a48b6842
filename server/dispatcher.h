// Dispatcher: who may ask, which endpoint answers, and the one catch that turns errors into JSON.
#pragma once

#include <optional>

#include "server/api_error.h"
#include "server/app.h"
#include "server/http_types.h"

namespace inferd {

class Dispatcher final : public HttpDispatcher {
 public:
  explicit Dispatcher(App& app) : app_(app) {}
  std::optional<HttpResponse> admit(HttpRequest& request) override;
  HttpResponse handle(HttpRequest& request) override;
  HttpResponse protocol_error(int status, const HttpRequest& request) override;
  void finish_headers(const HttpRequest& request, HttpResponse& response) override;
  void finished(const HttpRequest& request, int status, double seconds) override;
  void write_timed_out() override { app_.metrics.limits.count("write_timeout_s"); }
  void refused_connection() override;
  void client_left() override { app_.metrics.disconnects++; }

 private:
  /// Host, origin and key; throws ApiError.
  std::optional<HttpResponse> check_access(HttpRequest& request);
  void check_key(HttpRequest& request, Scope scope) const;
  /// The JSON of an error, with the limit that was met counted.
  HttpResponse refuse(const ApiError& error);
  App& app_;
};

/// True if the Host header names this machine's loopback or one of `allowed`. The port does not matter.
bool host_is_allowed(std::string_view host_header, const AccessOptions& access);

}  // namespace inferd
