// The table of routes: to add an endpoint, write its file and add its row.
#include "server/routes.h"

#include "server/endpoints/endpoints.h"

namespace inferd {
namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", Scope::inference, false, chat_completions},
    {"POST", "/v1/completions", Scope::inference, false, completions},
    {"POST", "/v1/embeddings", Scope::inference, false, embeddings},
    {"POST", "/v1/rerank", Scope::inference, false, rerank},
    {"POST", "/v2/rerank", Scope::inference, false, rerank},  // Cohere's present path
    {"POST", "/v1/load_lora_adapter", Scope::admin, false, load_lora_adapter},
    {"POST", "/v1/unload_lora_adapter", Scope::admin, false, unload_lora_adapter},
    {"GET", "/v1/models", Scope::inference, false, list_models},
    {"GET", "/v1/models/", Scope::inference, false, get_model},
    {"POST", "/tokenize", Scope::inference, false, tokenize},
    {"POST", "/detokenize", Scope::inference, false, detokenize},
    {"GET", "/health", Scope::open, true, health},
    {"GET", "/health/ready", Scope::open, true, health},
    {"GET", "/health/live", Scope::open, true, health_live},
    {"GET", "/metrics", Scope::metrics, true, metrics},
    {"GET", "/", Scope::open, true, chat_page},
};

constexpr std::string_view kVersion = "/v1";

/// True if `path` is the row's, and sets what follows a row that ends in '/'.
bool path_matches(std::string_view pattern, std::string_view path, std::string* rest) {
  if (path == pattern && (pattern == "/" || !pattern.ends_with('/'))) return true;
  if (pattern.size() > 1 && pattern.ends_with('/') && path.size() > pattern.size() && path.starts_with(pattern)) {
    *rest = path.substr(pattern.size());
    return true;
  }
  return false;
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

RouteMatch match_route(std::string_view method, std::string_view path) {
  RouteMatch match;
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  for (const Route& route : kRoutes) {
    std::string rest;
    const bool versioned = route.path.starts_with("/v1/");
    if (!path_matches(route.path, path, &rest) &&
        !(versioned && path_matches(route.path.substr(kVersion.size()), path, &rest))) {
      continue;
    }
    if (route.method == wanted) {
      match.route = &route;
      match.rest = rest;
      return match;
    }
    if (!match.allow.empty()) match.allow += ", ";
    match.allow += route.method == "GET" ? "GET, HEAD" : route.method;
  }
  return match;
}

}  // namespace inferd
