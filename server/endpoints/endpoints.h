// The endpoints, one file each. All throw ApiError.
#pragma once

#include "server/app.h"
#include "server/http_types.h"

namespace inferd {

HttpResponse chat_completions(App& app, const HttpRequest& request);
HttpResponse completions(App& app, const HttpRequest& request);
HttpResponse embeddings(App& app, const HttpRequest& request);
HttpResponse rerank(App& app, const HttpRequest& request);
HttpResponse load_lora_adapter(App& app, const HttpRequest& request);
HttpResponse unload_lora_adapter(App& app, const HttpRequest& request);
HttpResponse list_models(App& app, const HttpRequest& request);
HttpResponse get_model(App& app, const HttpRequest& request);
HttpResponse tokenize(App& app, const HttpRequest& request);
HttpResponse detokenize(App& app, const HttpRequest& request);
HttpResponse health(App& app, const HttpRequest& request);
HttpResponse health_live(App& app, const HttpRequest& request);
HttpResponse metrics(App& app, const HttpRequest& request);
HttpResponse chat_page(App& app, const HttpRequest& request);

}  // namespace inferd
