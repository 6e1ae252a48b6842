// GET /v1/models and /v1/models/{id}.
#include "server/answers.h"
#include "server/api_error.h"
#include "server/endpoints/endpoints.h"

namespace inferd {
namespace {

Json model_json(const ServedModel& model, const std::string& id) {
  Json out = Json::object();
  out["id"] = id;
  out["object"] = "model";
  out["created"] = model.created_unix_s;
  out["owned_by"] = "inferd";
  if (id != model.name) out["root"] = model.name;
  out["max_model_len"] = model.context_length;
  return out;
}

/// An adapter, as vLLM lists it: with the model it stands on.
Json adapter_json(const ServedAdapter& adapter) {
  Json out = Json::object();
  out["id"] = adapter.name;
  out["object"] = "model";
  out["created"] = adapter.created_unix_s;
  out["owned_by"] = "inferd";
  out["parent"] = adapter.base->name;
  out["max_model_len"] = adapter.base->context_length;
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// The id in a path, where clients write "/" as itself or as %2F. It is only ever compared with names.
std::string decode_id(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) throw model_not_found(text);
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

HttpResponse list_models(App& app, const HttpRequest&) {
  Json data = Json::array();
  for (const auto& model : app.models.all()) data.push_back(model_json(*model, model->name));
  for (const auto& [alias, model] : app.models.aliases()) data.push_back(model_json(*model, alias));
  for (const ServedAdapter& adapter : app.models.adapters()) data.push_back(adapter_json(adapter));
  Json body = Json::object();
  body["object"] = "list";
  body["data"] = std::move(data);
  return json_response(body, {});
}

HttpResponse get_model(App& app, const HttpRequest& request) {
  const std::string id = decode_id(request.path_rest);
  const ServedModel* model = app.models.find(id);
  if (model == nullptr) {
    if (const auto adapter = app.models.find_adapter(id)) return json_response(adapter_json(*adapter), {});
    throw model_not_found(id);
  }
  return json_response(model_json(*model, id), {});
}

}  // namespace inferd
