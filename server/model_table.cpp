// ModelTable: the served models and their aliases.
#include <algorithm>

#include "server/api_error.h"
#include "server/served_model.h"

namespace inferd {
namespace {

const char* kind_text(ModelKind kind) {
  switch (kind) {
    case ModelKind::generator:
      return "a text generation model";
    case ModelKind::embedder:
      return "an embedding model";
    case ModelKind::reranker:
      break;
  }
  return "a reranking model";
}

}  // namespace

void ModelTable::add(std::unique_ptr<ServedModel> model, const std::vector<std::string>& aliases) {
  for (const std::string& alias : aliases) aliases_[alias] = model.get();
  models_.push_back(std::move(model));
}

void ModelTable::add_alias(const std::string& alias, const std::string& name) { aliases_[alias] = find(name); }

const ServedModel* ModelTable::find(std::string_view name) const {
  for (const auto& model : models_) {
    if (model->name == name) return model.get();
  }
  const auto alias = aliases_.find(name);
  return alias == aliases_.end() ? nullptr : alias->second;
}

const ServedModel& ModelTable::of_kind(std::string_view name, ModelKind kind, const std::string& doing) const {
  if (name.empty() || name == "default") {
    for (const auto& model : models_) {
      if (model->kind == kind) return *model;
    }
    throw ApiError(404, "invalid_request_error", "model_not_found", "model", "No served model supports " + doing + ".");
  }
  const ServedModel* model = find(name);
  if (model == nullptr) {
    if (find_adapter(name))
      throw unsupported_value("model", "The adapter '" + std::string(name) + "' does not support " + doing + ".");
    throw model_not_found(name);
  }
  if (model->kind != kind) {
    throw unsupported_value("model", "The model '" + model->name + "' does not support " + doing + ": it is " +
                                         kind_text(model->kind) + ".");
  }
  return *model;
}

ModelRef ModelTable::decoder(std::string_view name, const std::string& doing) const {
  if (const auto adapter = find_adapter(name)) return {adapter->base, adapter->id};
  return {&of_kind(name, ModelKind::generator, doing), 0};
}

bool ModelTable::add_adapter(const ServedAdapter& adapter) {
  if (find(adapter.name) != nullptr || adapter.name == "default") return false;
  const std::lock_guard lock(adapters_mutex_);
  return adapters_.emplace(adapter.name, adapter).second;
}

std::optional<ServedAdapter> ModelTable::remove_adapter(std::string_view name) {
  const std::lock_guard lock(adapters_mutex_);
  const auto found = adapters_.find(name);
  if (found == adapters_.end()) return std::nullopt;
  ServedAdapter adapter = found->second;
  adapters_.erase(found);
  return adapter;
}

std::optional<ServedAdapter> ModelTable::find_adapter(std::string_view name) const {
  const std::lock_guard lock(adapters_mutex_);
  const auto found = adapters_.find(name);
  return found == adapters_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<ServedAdapter> ModelTable::adapters() const {
  const std::lock_guard lock(adapters_mutex_);
  std::vector<ServedAdapter> all;
  for (const auto& [name, adapter] : adapters_) all.push_back(adapter);
  return all;
}

const ServedModel& ModelTable::encoder(std::string_view name, const std::string& doing) const {
  return of_kind(name, ModelKind::embedder, doing);
}

const ServedModel& ModelTable::reranker(std::string_view name, const std::string& doing) const {
  return of_kind(name, ModelKind::reranker, doing);
}

const ServedModel& ModelTable::any(std::string_view name) const {
  if ((name.empty() || name == "default") && !models_.empty()) return *models_.front();
  const ServedModel* model = find(name);
  if (model == nullptr) {
    if (const auto adapter = find_adapter(name)) return *adapter->base;
    throw model_not_found(name);
  }
  return *model;
}

}  // namespace inferd
