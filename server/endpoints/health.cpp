// GET /health, /health/ready, /health/live and /metrics.
#include "server/answers.h"
#include "server/endpoints/endpoints.h"

namespace inferd {
namespace {

const char* state_name(ServerState state) {
  switch (state) {
    case ServerState::loading:
      return "loading";
    case ServerState::ready:
      return "ok";
    case ServerState::draining:
      return "draining";
    case ServerState::failed:
      return "failed";
  }
  return "failed";
}

HttpResponse state_answer(ServerState state, bool good) {
  HttpResponse response = json_response(Json{{"status", state_name(state)}}, {});
  response.status = good ? 200 : 503;
  if (!good) response.headers.emplace_back("Retry-After", "2");
  return response;
}

}  // namespace

HttpResponse health(App& app, const HttpRequest&) {
  const ServerState state = app.state.load();
  return state_answer(state, state == ServerState::ready);
}

HttpResponse health_live(App& app, const HttpRequest&) {
  const ServerState state = app.state.load();
  return state_answer(state, state != ServerState::failed);
}

HttpResponse metrics(App& app, const HttpRequest&) {
  std::vector<ModelGauges> gauges;
  const ServerState state = app.state.load(std::memory_order_acquire);
  if (state != ServerState::loading) {
    for (const auto& model : app.models.all()) {
      ModelGauges gauge;
      gauge.name = model->name;
      gauge.is_encoder = model->is_encoder;
      if (!model->is_encoder) gauge.stats = model->engine->stats(model->handle);
      gauges.push_back(std::move(gauge));
    }
  }
  int open = 0, active = 0, restarts = 0;
  if (app.connection_counts) app.connection_counts(&open, &active, &restarts);
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = app.metrics.render(gauges, open, active, restarts);
  return response;
}

}  // namespace inferd
