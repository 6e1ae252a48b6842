// ApiError: a refusal of a request in OpenAI's shape.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/json.h"
#include "engine/request.h"
#include "server/http_types.h"

namespace inferd {

/// Thrown while a request is read or answered; the dispatcher, or the stream's writer, turns it into JSON.
class ApiError : public std::runtime_error {
 public:
  ApiError(int http_status, std::string error_type, std::string error_code, std::string parameter,
           const std::string& message);
  int status;
  std::string type;
  std::string code;             // empty: null
  std::string param;            // empty: null
  int retry_after_s = 0;        // 0: no Retry-After header
  std::string limit;            // what limit was met, a name of LimitCounters; empty: none
  Json extra = Json::object();  // further members of the error object
};

/// 400 naming the field.
ApiError invalid_value(const std::string& param, const std::string& message);
/// 400 with code unsupported_value: understood, but not offered here.
ApiError unsupported_value(const std::string& param, const std::string& message);
/// 400 in OpenAI's words. `what` is "messages", "prompt" or "input".
ApiError context_length_exceeded(const std::string& what, std::int64_t context_length, std::int64_t given);
ApiError model_not_found(std::string_view model);
ApiError server_error(const std::string& message);
ApiError unavailable(const std::string& code, const std::string& message, int retry_after_s);

/// {"error":{…}}
Json error_body(const ApiError& error);
HttpResponse error_response(const ApiError& error);

}  // namespace inferd
