// Dispatcher: who may ask, which endpoint answers, and the one catch that turns errors into JSON.
#include "server/dispatcher.h"

#include <algorithm>

#include "base/log.h"
#include "server/api_error.h"
#include "server/routes.h"

namespace inferd {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return out;
}

/// "host", without a port and without the brackets of an IPv6 address.
std::string host_name(std::string_view header) {
  if (header.starts_with('[')) {
    const auto end = header.find(']');
    return end == std::string_view::npos ? "" : lower(header.substr(1, end - 1));
  }
  return lower(header.substr(0, header.find(':')));
}

/// "scheme://host:port" of the page is this very server.
bool same_origin(std::string_view origin, std::string_view host) {
  const auto scheme_end = origin.find("://");
  return scheme_end != std::string_view::npos && lower(origin.substr(scheme_end + 3)) == lower(host);
}

bool listed(const std::vector<std::string>& items, std::string_view item) {
  return std::find(items.begin(), items.end(), item) != items.end();
}

/// The requested header names, if they are such; echoing anything else would let a page write our headers.
std::string fit_header_list(const std::string& names) {
  const auto fit = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == ',' || c == ' '; };
  const bool good = names.size() <= 1024 && std::all_of(names.begin(), names.end(), fit);
  return good && !names.empty() ? names : "authorization, content-type";
}

HttpResponse preflight_answer(const HttpRequest& request) {
  HttpResponse response;
  response.status = 204;
  response.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  response.headers.emplace_back("Access-Control-Allow-Headers",
                                fit_header_list(request.header("access-control-request-headers")));
  response.headers.emplace_back("Access-Control-Max-Age", "600");
  return response;
}

}  // namespace

bool host_is_allowed(std::string_view host_header, const AccessOptions& access) {
  if (!access.loopback_only && access.allowed_hosts.empty()) return true;
  const std::string name = host_name(host_header);
  if (listed(access.allowed_hosts, name)) return true;
  return access.loopback_only && (name == "localhost" || name == "::1" || name.starts_with("127."));
}

void Dispatcher::check_key(HttpRequest& request, Scope scope) const {
  const auto keys = app_.keys();
  if (keys == nullptr && scope == Scope::admin && !app_.access.loopback_only) {
    throw ApiError(403, "permission_error", "insufficient_scope", "",
                   "Without API keys this endpoint answers on a loopback address only.");
  }
  if (keys == nullptr || scope == Scope::open) return;
  const std::string authorization = request.header("authorization");
  const ApiKey* key = keys->find(bearer_token(authorization));
  if (key == nullptr) {
    app_.metrics.auth_failures++;
    throw ApiError(401, "invalid_request_error", "invalid_api_key", "",
                   authorization.empty() ? "You didn't provide an API key: send it as 'Authorization: Bearer KEY'."
                                         : "Incorrect API key provided.");
  }
  if ((scope == Scope::inference && !key->inference) || (scope == Scope::metrics && !key->metrics) ||
      (scope == Scope::admin && !key->admin)) {
    throw ApiError(403, "permission_error", "insufficient_scope", "", "This API key may not use this endpoint.");
  }
  static constexpr char kHex[] = "0123456789abcdef";
  request.cache_scope = "key:";
  for (const unsigned char byte : key->sha256) {
    request.cache_scope += kHex[byte >> 4];
    request.cache_scope += kHex[byte & 15];
  }
}

std::optional<HttpResponse> Dispatcher::check_access(HttpRequest& request) {
  const std::string host = request.header("host");
  if (!host_is_allowed(host, app_.access)) {
    if (host.empty()) throw ApiError(400, "invalid_request_error", "", "", "One Host header is needed.");
    throw ApiError(403, "permission_error", "host_not_allowed", "",
                   "This host name is not served here; the administrator can list it under allowed_hosts.");
  }
  const std::string origin = request.header("origin");
  const bool cross_site = !origin.empty() && !same_origin(origin, host);
  if (cross_site && !listed(app_.access.cors_origins, origin) && !listed(app_.access.cors_origins, "*")) {
    throw ApiError(403, "permission_error", "origin_not_allowed", "",
                   "Pages of this origin may not call this server; the administrator can list it under cors_origins.");
  }
  const bool preflight = request.method == "OPTIONS" && !request.header("access-control-request-method").empty();
  if (preflight && cross_site) return preflight_answer(request);
  return std::nullopt;
}

std::optional<HttpResponse> Dispatcher::admit(HttpRequest& request) {
  try {
    if (auto answer = check_access(request)) return answer;
    const RouteMatch match = match_route(request.method, request.path);
    // what is not in the table needs a key like everything else, so that a stranger learns nothing
    check_key(request, match.route != nullptr ? match.route->scope : Scope::inference);
    if (match.route == nullptr && match.allow.empty()) {
      throw ApiError(404, "invalid_request_error", "", "", "There is no such route here.");
    }
    if (match.route == nullptr) {
      ApiError error(405, "invalid_request_error", "method_not_allowed", "",
                     "This route does not take this method; it takes " + match.allow + ".");
      HttpResponse response = error_response(error);
      response.headers.emplace_back("Allow", match.allow);
      return response;
    }
    const ServerState state = app_.state.load(std::memory_order_acquire);
    if (!match.route->always && state != ServerState::ready) {
      if (state == ServerState::loading) throw unavailable("model_loading", "The models are still being loaded.", 5);
      throw unavailable("shutting_down", "The server is shutting down.", 30);
    }
    request.route = match.route;
    request.path_rest = match.rest;
    return std::nullopt;
  } catch (const ApiError& error) {
    return refuse(error);
  }
}

HttpResponse Dispatcher::refuse(const ApiError& error) {
  if (!error.limit.empty()) app_.metrics.limits.count(error.limit);
  return error_response(error);
}

void Dispatcher::refused_connection() {
  app_.metrics.refused_connections++;
  app_.metrics.limits.count("max_connections");
}

HttpResponse Dispatcher::handle(HttpRequest& request) {
  try {
    return request.route->answer(app_, request);
  } catch (const ApiError& error) {
    return refuse(error);
  } catch (const std::bad_alloc&) {
    spdlog::error("{}: out of memory", request.id);
    return error_response(unavailable("out_of_memory", "The server has not enough memory for this request.", 5));
  } catch (const std::exception& error) {
    spdlog::error("{}: {}", request.id, log_safe(error.what()));
    return error_response(server_error("The server had an error while processing your request (" + request.id + ")."));
  }
}

HttpResponse Dispatcher::protocol_error(int status, const HttpRequest& request) {
  const auto plain = [&](int code_status, const char* code, const char* message, const char* limit = "") {
    ApiError error(code_status, "invalid_request_error", code, "", message);
    error.limit = limit;
    return refuse(error);
  };
  switch (status) {
    case 408:  // a request whose headers are complete has been routed
      return plain(408, "request_timeout", "The request took too long to arrive.",
                   request.route == nullptr ? "header_timeout_s" : "body_timeout_s");
    case 413:
      return plain(413, "request_too_large", "The request body is larger than this server accepts.", "max_body_bytes");
    case 414:
      return plain(414, "", "The request target is too long.", "max_header_bytes");
    case 415:
      return plain(415, "", "Send the body as plain JSON: no form data, no content encoding.");
    case 416:
      return plain(416, "", "The Range header is not understood.");
    case 431:
      return plain(431, "headers_too_large", "The request has too many or too long headers.", "max_header_bytes");
    case 404:
      return plain(404, "", "There is no such route here.");
    default:
      break;
  }
  if (status >= 500) {
    return error_response(server_error("The server had an error while processing your request (" + request.id + ")."));
  }
  return plain(status, "", "This is not an acceptable HTTP request.");
}

void Dispatcher::finish_headers(const HttpRequest& request, HttpResponse& response) {
  response.headers.emplace_back("X-Request-Id", request.id);
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  if (!request.header) return;
  const std::string origin = request.header("origin");
  if (origin.empty() || app_.access.cors_origins.empty()) return;
  if (listed(app_.access.cors_origins, origin)) {
    response.headers.emplace_back("Access-Control-Allow-Origin", origin);
  } else if (listed(app_.access.cors_origins, "*")) {
    response.headers.emplace_back("Access-Control-Allow-Origin", "*");
  } else {
    return;
  }
  response.headers.emplace_back("Vary", "Origin");
  response.headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, x-inferd-ignored, retry-after");
}

void Dispatcher::finished(const HttpRequest& request, int status, double seconds) {
  app_.metrics.count_response(status);
  // probes and scrapes would drown the rest
  const bool routine = request.path.starts_with("/health") || request.path == "/metrics";
  const auto level = routine && status < 500 ? spdlog::level::debug : spdlog::level::info;
  spdlog::log(level, "{} {} {} {} {:.3f}s {}", log_safe(request.remote_addr), log_safe(request.method),
              log_safe(request.path.substr(0, 256)), status, seconds, log_safe(request.id));
}

}  // namespace inferd
