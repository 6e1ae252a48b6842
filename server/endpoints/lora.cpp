// POST /v1/load_lora_adapter and /v1/unload_lora_adapter, with vLLM's names: adapters come and go while serving.
#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "server/answers.h"
#include "server/api_error.h"
#include "server/endpoints/endpoints.h"
#include "server/json_fields.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxNameBytes = 128;
constexpr std::size_t kMaxPathBytes = 1024;

ApiError missing(const char* name) {
  return {400, "invalid_request_error", "missing_required_parameter", name,
          std::string("Missing required parameter: '") + name + "'."};
}

bool is_name(const std::string& name) {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && letter_or_digit(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
    return letter_or_digit(c) || std::string_view("_.:-/").find(c) != std::string_view::npos;
  });
}

std::string read_name(Fields& fields) {
  const auto name = fields.text("lora_name", kMaxNameBytes);
  if (!name) throw missing("lora_name");
  if (!is_name(*name)) {
    throw invalid_value("lora_name",
                        "Invalid 'lora_name': expected letters, digits or _ . : - /, beginning with a "
                        "letter or digit.");
  }
  return *name;
}

Json done(const std::string& name) { return Json{{"status", "success"}, {"lora_name", name}}; }

}  // namespace

HttpResponse load_lora_adapter(App& app, const HttpRequest& request) {
  const Json body = parse_body(request.body);
  Fields fields(body, "");
  const std::string name = read_name(fields);
  const auto path = fields.text("lora_path", kMaxPathBytes);
  if (!path) throw missing("lora_path");
  const std::string base_name = fields.text("base_model_name", kMaxNameBytes).value_or("");
  if (app.api.adapters_dir.empty()) {
    throw ApiError(400, "invalid_request_error", "adapters_dir_not_set", "lora_path",
                   "This server loads no adapters on request: its configuration names no adapters_dir.");
  }
  if (app.models.find_adapter(base_name)) {
    throw invalid_value("base_model_name",
                        "Invalid 'base_model_name': an adapter stands on a model, not on an adapter.");
  }
  const ServedModel& base = app.models.decoder(base_name, "adapters");
  if (app.models.find(name) != nullptr || app.models.find_adapter(name)) {
    throw invalid_value("lora_name", "Invalid 'lora_name': '" + name + "' is served already; unload it first.");
  }
  try {
    serve_adapter(app.models, base, name, open_adapter_beneath(app.api.adapters_dir, *path));
  } catch (const CheckpointError& error) {
    spdlog::warn("{}: adapter {} refused: {}", request.id, log_safe(name), error.what());
    throw invalid_value("lora_path", std::string("The adapter cannot be loaded: ") + error.what());
  } catch (const ConfigError& error) {
    throw invalid_value("lora_name", error.what());
  } catch (const MemoryError& error) {
    throw unavailable("no_room", error.what(), 0);
  }
  return json_response(done(name), {});
}

HttpResponse unload_lora_adapter(App& app, const HttpRequest& request) {
  const Json body = parse_body(request.body);
  Fields fields(body, "");
  const std::string name = read_name(fields);
  const auto adapter = app.models.remove_adapter(name);
  if (!adapter) throw model_not_found(name);
  adapter->base->engine->unload_adapter(adapter->base->handle, adapter->id);
  spdlog::info("adapter {} unloaded", log_safe(name));
  return json_response(done(name), {});
}

}  // namespace inferd
