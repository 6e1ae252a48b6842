// ApiError: a refusal of a request in OpenAI's shape.
#include "server/api_error.h"

#include "base/utf8.h"

namespace inferd {

ApiError::ApiError(int http_status, std::string error_type, std::string error_code, std::string parameter,
                   const std::string& message)
    : std::runtime_error(message),
      status(http_status),
      type(std::move(error_type)),
      code(std::move(error_code)),
      param(std::move(parameter)) {}

ApiError invalid_value(const std::string& param, const std::string& message) {
  return {400, "invalid_request_error", "invalid_value", param, message};
}

ApiError unsupported_value(const std::string& param, const std::string& message) {
  return {400, "invalid_request_error", "unsupported_value", param, message};
}

ApiError context_length_exceeded(const std::string& what, std::int64_t context_length, std::int64_t given) {
  ApiError error(400, "invalid_request_error", "context_length_exceeded", what,
                 "This model's maximum context length is " + std::to_string(context_length) +
                     " tokens. However, your " + what + " resulted in " + std::to_string(given) +
                     " tokens. Please reduce the length of the " + what + ".");
  error.extra["n_prompt_tokens"] = given;
  error.extra["n_ctx"] = context_length;
  error.limit = "context_length";
  return error;
}

ApiError model_not_found(std::string_view model) {
  std::string shown = replace_invalid_utf8(model.substr(0, 128));
  return {404, "invalid_request_error", "model_not_found", "model", "The model '" + shown + "' does not exist."};
}

ApiError server_error(const std::string& message) { return {500, "server_error", "", "", message}; }

ApiError unavailable(const std::string& code, const std::string& message, int retry_after_s) {
  ApiError error(503, "server_error", code, "", message);
  error.retry_after_s = retry_after_s;
  return error;
}

Json error_body(const ApiError& error) {
  Json body = Json::object();
  body["message"] = error.what();
  body["type"] = error.type;
  body["param"] = error.param.empty() ? Json() : Json(error.param);
  body["code"] = error.code.empty() ? Json() : Json(error.code);
  for (const auto& [key, value] : error.extra.items()) body[key] = value;
  Json wrapped = Json::object();
  wrapped["error"] = std::move(body);
  return wrapped;
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = dump_json(error_body(error));
  if (error.retry_after_s > 0) response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace inferd
