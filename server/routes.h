// The table of routes: method, path, what it needs, and who answers.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "server/app.h"
#include "server/http_types.h"

namespace inferd {

/// One row. A path that ends in '/' takes the rest of the target as path_rest; one that begins with /v1/ also answers
/// without it.
struct Route {
  std::string_view method;
  std::string_view path;
  Scope scope;
  bool always;  // also while loading and draining
  HttpResponse (*answer)(App& app, const HttpRequest& request);
};

std::span<const Route> routes();

struct RouteMatch {
  const Route* route = nullptr;
  std::string rest;
  std::string allow;  // methods of this path, when the path is known but the method is not
};

/// Matches the path exactly as it was sent: nothing is decoded or normalised. HEAD counts as GET.
RouteMatch match_route(std::string_view method, std::string_view path);

}  // namespace inferd
