// The HTTP face over a simulated model: keys, hosts, origins, limits, overload, vanished clients, loading and draining.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/errors.h"
#include "tests/catch.h"
#include "tests/server/serving_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

ServingOptions slow_sim(const std::string& more = "") {
  ServingOptions options;
  options.models = {sim_spec("sim", "sim:seed=1,step_ms=10" + more)};
  return options;
}

const std::string kLong = R"({"prompt":"x","max_tokens":2000,"ignore_eos":true,"stream":true})";
const std::string kLongWhole = R"({"prompt":"x","max_tokens":2000,"ignore_eos":true})";

std::string key_file(const std::string& text) {
  const std::string path = "/tmp/inferd-test-keys-" + std::to_string(::getpid());
  std::ofstream(path) << text;
  ::chmod(path.c_str(), 0600);
  return path;
}

std::string keyed(const std::string& key) { return "Host: localhost\r\nAuthorization: Bearer " + key + "\r\n"; }

/// How often a limit was met, from /metrics; -1 without such a series.
int limit_hits(const ServingFixture& server, const std::string& limit) {
  const std::string text = ask(server.port, "GET", "/metrics").body;
  const std::string sample = "inferd:limit_hits_total{limit=\"" + limit + "\"} ";
  const auto at = text.find(sample);
  return at == std::string::npos ? -1 : std::stoi(text.substr(at + sample.size()));
}

}  // namespace

TEST_CASE("routes: unknown, wrong method, with and without /v1, nothing decoded") {
  ServingFixture server;
  const auto status = [&](const std::string& method, const std::string& target) {
    return ask(server.port, method, target).status;
  };
  CHECK(status("GET", "/v1/models") == 200);
  CHECK(status("GET", "/models") == 200);
  CHECK(status("GET", "/v1/models?x=1") == 200);
  CHECK(status("HEAD", "/health") == 200);
  CHECK(status("GET", "/") == 200);
  for (const std::string target : {"//v1/models", "/v1/../v1/models", "/v1/./models", "/%76%31/models", "/v1/Models",
                                   "/v1/models/", "/v1", "/etc/passwd", "/v1/completions/"}) {
    INFO(target);
    const Answer answer = ask(server.port, "GET", target);
    CHECK(answer.status == 404);
    CHECK(answer.json()["error"]["type"] == "invalid_request_error");
  }
  const Answer wrong = ask(server.port, "GET", "/v1/chat/completions");
  CHECK(wrong.status == 405);
  CHECK(wrong.header("allow") == "POST");
  CHECK(wrong.json()["error"]["code"] == "method_not_allowed");
  CHECK(ask(server.port, "DELETE", "/v1/models").status == 405);
}

TEST_CASE("request ids are kept if fit, else made") {
  ServingFixture server;
  CHECK(ask(server.port, "GET", "/health", "", "Host: localhost\r\nX-Request-Id: mine-42\r\n").header("x-request-id") ==
        "mine-42");
  const std::string odd =
      ask(server.port, "GET", "/health", "", "Host: localhost\r\nX-Request-Id: a b;c\r\n").header("x-request-id");
  CHECK(odd.starts_with("req-"));
  CHECK(odd != ask(server.port, "GET", "/health").header("x-request-id"));
}

TEST_CASE("keys: plain and hashed, scopes, and nothing else opens") {
  const std::string path = key_file(
      "# comment\nplain-key\nsha256:a4ae87b73fa5645e6aee415a6f72be4dcbd99d057a7b40cb1b867c181d179260\n");  // "hashed-key"
  ServingFixture server;
  server.app.set_keys(ApiKeys::read(path));
  const auto status = [&](const std::string& headers, const std::string& target = "/v1/models") {
    return ask(server.port, "GET", target, "", headers).status;
  };
  CHECK(status(keyed("plain-key")) == 200);
  CHECK(status(keyed("hashed-key")) == 200);
  CHECK(status("Host: localhost\r\nauthorization: bearer plain-key\r\n") == 200);
  for (const std::string& bad : std::vector<std::string>{
           "Host: localhost\r\n", keyed("plain-ke"), keyed("plain-key2"), keyed("PLAIN-KEY"),
           "Host: localhost\r\nAuthorization: Basic plain-key\r\n", "Host: localhost\r\nAuthorization: Bearer \r\n",
           "Host: localhost\r\nAuthorization: Bearer plain-key\r\nAuthorization: Bearer other\r\n"}) {
    INFO(bad);
    CHECK(status(bad) == 401);
    CHECK(status(bad, "/metrics") == 401);
    CHECK(status(bad, "/absent") == 401);
    CHECK(status(bad, "//v1/models") == 401);
    CHECK(status(bad, "/health") == 200);
    CHECK(status(bad, "/") == 200);
  }
  const Answer refused = ask(server.port, "GET", "/v1/models");
  CHECK(refused.json()["error"]["code"] == "invalid_api_key");
  CHECK(refused.header("www-authenticate") == "Bearer");
  ::unlink(path.c_str());
}

TEST_CASE("keys: scopes and bad files") {
  const auto refusal = [](const std::string& text) {
    const std::string path = key_file(text);
    std::string said = "accepted";
    try {
      ApiKeys::read(path);
    } catch (const ConfigError& error) {
      said = error.what();
    }
    ::unlink(path.c_str());
    return said;
  };
  CHECK(refusal("sha256:0c3ad2d0\n").find(":1: expected 64 hexadecimal") != std::string::npos);
  CHECK(refusal("# only\n").find("holds no key") != std::string::npos);
  CHECK(refusal("ok\nsha256:" + std::string(64, 'a') + ":root\n").find(":2: expected the scopes") != std::string::npos);
  CHECK(refusal("sha256:" + std::string(64, 'g') + "\n").find("64 hexadecimal") != std::string::npos);
  CHECK_THROWS_AS(ApiKeys::read("/no/such/file"), ConfigError);
  const std::string path =
      key_file("sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b:metrics\n");  // "secret"
  ServingFixture server;
  server.app.set_keys(ApiKeys::read(path));
  CHECK(ask(server.port, "GET", "/metrics", "", keyed("secret")).status == 200);
  const Answer refused = ask(server.port, "GET", "/v1/models", "", keyed("secret"));
  CHECK(refused.status == 403);
  CHECK(refused.json()["error"]["code"] == "insufficient_scope");
  ::unlink(path.c_str());
}

TEST_CASE("hosts: only this machine's names on loopback") {
  ServingOptions options;
  options.access.allowed_hosts = {"llm.example"};
  ServingFixture server(options);
  const auto status = [&](const std::string& host) { return ask(server.port, "GET", "/v1/models", "", host).status; };
  for (const std::string good :
       {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:99", "[::1]:8080", "llm.example", "llm.example:80"}) {
    INFO(good);
    CHECK(status("Host: " + good + "\r\n") == 200);
  }
  for (const std::string bad : {"evil.example", "localhost.evil.example", "128.0.0.1", "llm.example.evil"}) {
    INFO(bad);
    CHECK(status("Host: " + bad + "\r\n") == 403);
  }
  CHECK(status("Host: \r\n") == 400);
  CHECK(status("") == 400);
  CHECK(status("Host: localhost\r\nHost: evil.example\r\n") == 400);
}

TEST_CASE("origins: none by default, listed ones exactly, preflight without a key") {
  ServingOptions options;
  options.access.cors_origins = {"https://app.example"};
  ServingFixture server(options);
  server.app.set_keys(std::make_shared<const ApiKeys>(std::vector<ApiKey>{}));
  const std::string preflight =
      "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, x-stainless-os\r\n";
  const Answer good = ask(server.port, "OPTIONS", "/v1/chat/completions", "",
                          "Host: localhost\r\nOrigin: https://app.example\r\n" + preflight);
  CHECK(good.status == 204);
  CHECK(good.header("access-control-allow-origin") == "https://app.example");
  CHECK(good.header("access-control-allow-headers") == "authorization, x-stainless-os");
  CHECK(good.header("access-control-allow-credentials").empty());
  CHECK(good.header("vary") == "Origin");
  for (const std::string origin : {"https://evil.example", "null", "http://app.example", "https://app.example.evil"}) {
    INFO(origin);
    const Answer bad = ask(server.port, "GET", "/health", "", "Host: localhost\r\nOrigin: " + origin + "\r\n");
    CHECK(bad.status == 403);
    CHECK(bad.header("access-control-allow-origin").empty());
  }
  CHECK(ask(server.port, "GET", "/health", "", "Host: localhost:8080\r\nOrigin: http://localhost:8080\r\n").status ==
        200);
}

TEST_CASE("bodies: limits, framing, and what is no JSON") {
  ServingOptions options;
  options.http.max_body_bytes = 4096;
  ServingFixture server(options);
  const std::string post = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n";
  const auto answer = [&](const std::string& text) {
    Client client(server.port);
    client.send(text);
    return client.read_answer(5);
  };
  for (const std::string length : {"4097", "1000000000000000000"}) {
    const Answer refused = answer(post + "Content-Length: " + length + "\r\n\r\n");
    CHECK(refused.status == 413);
    CHECK(refused.json()["error"]["code"] == "request_too_large");
  }
  std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 5; ++i) chunked += "400\r\n" + std::string(1024, ' ') + "\r\n";
  CHECK(answer(chunked).status == 413);
  const std::string body = R"({"prompt":"x","max_tokens":1})";
  char size[16];
  std::snprintf(size, sizeof size, "%zx", body.size());
  CHECK(answer(post + "Transfer-Encoding: chunked\r\n\r\n" + size + "\r\n" + body + "\r\n0\r\n\r\n").status == 200);
  for (const std::string bad : {"Content-Length: 5abc\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n",
                                "Transfer-Encoding: gzip\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"}) {
    INFO(bad);
    CHECK(answer(post + bad + "\r\nhello").status == 400);
  }
  CHECK(answer(post + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc").status >= 400);
  CHECK(answer(post + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n\r\nabc").status == 415);
  CHECK(answer(post + "Content-Length: 3\r\n\r\nabc").status == 400);
  CHECK(answer(http_text("POST", "/v1/completions", body,
                         "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"))
            .status == 200);
}

TEST_CASE("headers: too many, too long, too slow") {
  ServingOptions options;
  options.http.header_timeout_s = 0.4;
  options.http.body_timeout_s = 0.4;
  ServingFixture server(options);
  const auto status = [&](const std::string& text) {
    Client client(server.port);
    client.send(text);
    return client.read_answer(5).status;
  };
  std::string many = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 101; ++i) many += "X-" + std::to_string(i) + ": 1\r\n";
  CHECK(status(many + "\r\n") == 431);
  std::string large = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 5; ++i) large += "X-" + std::to_string(i) + ": " + std::string(7000, 'y') + "\r\n";
  CHECK(status(large + "\r\n") == 431);
  CHECK(status("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: localhost\r\n\r\n") == 414);
  CHECK(status("GET /health HTTP/1.1\r\nHost: loc") == 408);
  CHECK(status("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{") == 408);
  CHECK(limit_hits(server, "max_header_bytes") == 3);
  CHECK(limit_hits(server, "header_timeout_s") == 1);
  CHECK(limit_hits(server, "body_timeout_s") == 1);
  CHECK(status("GARBAGE\r\n\r\n") == 400);
  CHECK(status("GET /health HTTP/2.0\r\n\r\n") == 400);
}

TEST_CASE("a connection serves requests one after another, pipelined ones too") {
  ServingFixture server;
  Client client(server.port);
  const std::string one = http_text("GET", "/health");
  client.send(one + one + http_text("POST", "/v1/completions", R"({"prompt":"x","max_tokens":1})") + one);
  for (int i = 0; i < 4; ++i) CHECK(client.read_answer(5).status == 200);
}

TEST_CASE("an idle connection is closed after keep_alive_s") {
  ServingOptions options;
  options.http.keep_alive_s = 0.2;
  ServingFixture server(options);
  Client client(server.port);
  client.send(http_text("GET", "/health"));
  CHECK(client.read_answer().status == 200);
  CHECK(client.wait_closed(3));
}

TEST_CASE("connections beyond the limit get 503, and places are freed") {
  ServingOptions options;
  options.http.max_connections = 4;
  options.http.keep_alive_s = 30;
  ServingFixture server(options);
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 4; ++i) held.push_back(std::make_unique<Client>(server.port));
  REQUIRE(soon([&] { return server.http.open_connections() == 4; }));
  const Answer refused = ask(server.port, "GET", "/health");
  CHECK(refused.status == 503);
  CHECK(refused.json()["error"]["code"] == "too_many_connections");
  held.clear();
  REQUIRE(soon([&] { return server.http.open_connections() == 0; }));
  CHECK(ask(server.port, "GET", "/health").status == 200);
  CHECK(limit_hits(server, "max_connections") == 1);
}

TEST_CASE("a full queue answers 429 at once with Retry-After, and counts it") {
  ServingOptions options = slow_sim();
  options.engine.max_concurrent_requests = 1;
  options.engine.max_queued_requests = 1;
  ServingFixture server(options);
  Client running(server.port), waiting(server.port);
  running.send(http_text("POST", "/v1/completions", kLong));
  REQUIRE(soon([&] { return server.stats().running == 1; }));
  waiting.send(http_text("POST", "/v1/completions", kLong));
  REQUIRE(soon([&] { return server.stats().waiting == 1; }));
  const auto began = std::chrono::steady_clock::now();
  const Answer refused = ask(server.port, "POST", "/v1/completions", R"({"prompt":"x"})");
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::milliseconds(500));
  CHECK(refused.status == 429);
  CHECK(refused.json()["error"]["code"] == "queue_full");
  CHECK(std::stoi(refused.header("retry-after")) >= 1);
  CHECK(limit_hits(server, "max_queued_requests") == 1);
  CHECK(ask(server.port, "GET", "/metrics").body.find("inferd:requests_rejected_total{model_name=\"sim\"} 1") !=
        std::string::npos);
}

TEST_CASE("a full encoder queue answers 429; only admitted inputs count as embedded") {
  ServingOptions options;
  options.models = {sim_spec("embed", "sim-encoder:dim=8,context=64,step_ms=2000")};
  options.max_queued_inputs = 3;
  ServingFixture server(options);
  const auto metric = [&](const std::string& name, int value) {
    return ask(server.port, "GET", "/metrics")
               .body.find(name + "{model_name=\"embed\"} " + std::to_string(value) + "\n") != std::string::npos;
  };
  Client running(server.port);
  running.send(http_text("POST", "/v1/embeddings", R"({"model":"embed","input":["ab","cd"]})"));
  REQUIRE(soon([&] { return metric("inferd:embedding_inputs_total", 2); }));
  const Answer refused = ask(server.port, "POST", "/v1/embeddings", R"({"model":"embed","input":["a","b"]})");
  CHECK(refused.status == 429);
  CHECK(refused.json()["error"]["code"] == "queue_full");
  CHECK(limit_hits(server, "max_queued_inputs") == 1);
  CHECK(metric("inferd:requests_rejected_total", 1));
  CHECK(metric("inferd:embedding_inputs_total", 2));
  CHECK(metric("vllm:prompt_tokens_total", 4));
  CHECK(ask(server.port, "POST", "/v1/embeddings", R"({"model":"embed","input":["a","b","c","d"]})").status == 400);
}

TEST_CASE("a client that leaves frees its place: in decode, queued, whole answers, half-closed") {
  ServingOptions options = slow_sim();
  options.engine.max_concurrent_requests = 1;
  ServingFixture server(options);
  for (const bool whole : {false, true}) {
    for (const bool half : {false, true}) {
      Client running(server.port), queued(server.port);
      running.send(http_text("POST", "/v1/completions", whole ? kLongWhole : kLong));
      REQUIRE(soon([&] { return server.stats().running == 1; }));
      queued.send(http_text("POST", "/v1/completions", whole ? kLongWhole : kLong));
      REQUIRE(soon([&] { return server.stats().waiting == 1; }));
      CHECK(server.stats().kv_blocks_used > 0);
      half ? queued.half_close() : queued.close();
      CHECK(soon([&] { return server.stats().waiting == 0; }, 1));
      half ? running.half_close() : running.close();
      CHECK(soon([&] { return server.stats().running == 0 && server.stats().kv_blocks_used == 0; }, 1));
    }
  }
  CHECK(server.stats().cancelled == 8);
  CHECK(ask(server.port, "POST", "/v1/completions", R"({"prompt":"x","max_tokens":1})").status == 200);
}

TEST_CASE("a reader that stops reading is dropped, and its request with it") {
  ServingOptions options;
  options.models = {sim_spec("sim", "sim:seed=1,context=1000000")};
  options.engine.kv_cache_bytes = 64 << 20;
  options.http.write_timeout_s = 0.3;
  ServingFixture server(options);
  Client client(server.port);
  client.send(http_text("POST", "/v1/completions",
                        R"({"prompt":"x","max_tokens":900000,"ignore_eos":true,"stream":true,"n":8})"));
  REQUIRE(soon([&] { return server.stats().running > 0; }));
  CHECK(soon([&] { return server.stats().running + server.stats().waiting == 0; }, 30));
}

TEST_CASE("while loading: alive, not ready, 503 with Retry-After") {
  ServingOptions options;
  options.start = false;
  ServingFixture server(options);
  CHECK(ask(server.port, "GET", "/health/live").status == 200);
  CHECK(ask(server.port, "GET", "/health").status == 503);
  CHECK(ask(server.port, "GET", "/metrics").status == 200);
  const Answer refused = ask(server.port, "POST", "/v1/completions", R"({"prompt":"x"})");
  CHECK(refused.status == 503);
  CHECK(refused.json()["error"]["code"] == "model_loading");
  CHECK(refused.header("retry-after") == "5");
}

TEST_CASE("draining: running streams end well, new requests get 503, the rest an error event") {
  ServingFixture server(slow_sim());
  Client shorter(server.port), longer(server.port);
  shorter.send(
      http_text("POST", "/v1/completions", R"({"prompt":"x","max_tokens":30,"ignore_eos":true,"stream":true})"));
  longer.send(http_text("POST", "/v1/completions", kLong));
  REQUIRE(soon([&] { return server.stats().running == 2; }));
  server.app.state = ServerState::draining;
  server.engine().begin_drain();
  CHECK(ask(server.port, "GET", "/health").status == 503);
  CHECK(ask(server.port, "GET", "/health/live").status == 200);
  const Answer refused = ask(server.port, "POST", "/v1/completions", R"({"prompt":"x"})");
  CHECK(refused.status == 503);
  CHECK(refused.header("connection") == "close");
  const Answer ended = shorter.read_answer();
  CHECK(ended.body.ends_with("data: [DONE]\n\n"));
  CHECK(events(ended).back()["choices"][0]["finish_reason"] == "length");
  server.engine().stop();
  const Answer cut = longer.read_answer();
  REQUIRE(cut.status == 200);
  CHECK(events(cut).back()["error"]["code"] == "shutting_down");
  CHECK(limit_hits(server, "drain_s") == 1);
}

TEST_CASE("a client that stops reading is given up after write_timeout_s, and its request ends") {
  ServingOptions options;
  options.http.write_timeout_s = 0.5;
  options.models = {sim_spec("sim", "sim:seed=1,context=4096")};
  ServingFixture server(options);
  Client deaf(server.port);
  deaf.send(http_text("POST", "/v1/completions",
                      R"({"prompt":"x","max_tokens":4000,"ignore_eos":true,"stream":true,"n":8,"logprobs":20})"));
  CHECK(soon([&] { return limit_hits(server, "write_timeout_s") == 1; }));
  CHECK(soon([&] { return server.stats().running == 0; }));
}

TEST_CASE("deadlines: a stream gets an error event, a whole answer 503") {
  ServingOptions options = slow_sim();
  options.api.request_deadline_s = 0.3;
  ServingFixture server(options);
  const Answer whole = ask(server.port, "POST", "/v1/completions", kLongWhole);
  CHECK(whole.status == 503);
  CHECK(whole.json()["error"]["code"] == "request_timeout");
  const Answer streamed = ask(server.port, "POST", "/v1/completions", kLong);
  CHECK(streamed.status == 200);
  CHECK(events(streamed).back()["error"]["code"] == "request_timeout");
  CHECK(limit_hits(server, "request_deadline_s") == 2);
  CHECK(limit_hits(server, "queue_wait_s") == 0);
}

TEST_CASE("a silent stream gets comment lines") {
  ServingOptions options;
  options.models = {sim_spec("sim", "sim:seed=1,step_ms=700")};
  options.api.sse_ping_s = 0.2;
  ServingFixture server(options);
  const Answer answer =
      ask(server.port, "POST", "/v1/completions", R"({"prompt":"x","max_tokens":2,"ignore_eos":true,"stream":true})");
  CHECK(answer.status == 200);
  CHECK(answer.body.find(": ping\n\n") != std::string::npos);
  CHECK(answer.body.ends_with("data: [DONE]\n\n"));
}

TEST_CASE("a request that waits too long for its first step ends with 503") {
  ServingOptions options = slow_sim();
  options.engine.max_concurrent_requests = 1;
  options.engine.queue_wait_s = 0.2;
  ServingFixture server(options);
  Client running(server.port);
  running.send(http_text("POST", "/v1/completions", kLong));
  REQUIRE(soon([&] { return server.stats().running == 1; }));
  const Answer late = ask(server.port, "POST", "/v1/completions", kLongWhole);
  CHECK(late.status == 503);
  CHECK(late.json()["error"]["code"] == "request_timeout");
  CHECK(limit_hits(server, "queue_wait_s") == 1);
  CHECK(limit_hits(server, "request_deadline_s") == 0);
}

TEST_CASE("every limit of a body is counted under its name") {
  ServingOptions options;
  options.models = {sim_spec("sim", "sim:seed=1,context=4096"), sim_spec("embed", "sim-encoder:dim=8,context=64")};
  options.api.max_messages = 2;
  options.api.max_tools = 2;
  options.http.max_body_bytes = 20'000;
  ServingFixture server(options);
  const auto many = [](int count, const std::string& item) {
    std::string list = "[";
    for (int i = 0; i < count; ++i) list += (i > 0 ? "," : "") + item;
    return list + "]";
  };
  const std::string user = R"({"role":"user","content":"x"})";
  const std::string tool = R"({"type":"function","function":{"name":"f"}})";
  std::string bias = "{", arguments = "{";
  for (int i = 0; i < 1025; ++i) bias += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
  for (int i = 0; i < 33; ++i) arguments += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
  struct Case {
    const char *limit, *route;
    std::string body;
    int status = 400;
  };
  const Case cases[] = {
      {"max_messages", "chat/completions", R"({"messages":)" + many(3, user) + "}"},
      {"max_tools", "chat/completions", R"({"messages":)" + many(1, user) + R"(,"tools":)" + many(3, tool) + "}"},
      {"chat_template_kwargs", "chat/completions",
       R"({"messages":)" + many(1, user) + R"(,"chat_template_kwargs":)" + arguments + "}}"},
      {"top_logprobs", "chat/completions",
       R"({"messages":)" + many(1, user) + R"(,"logprobs":true,"top_logprobs":21})"},
      {"logprobs", "completions", R"({"prompt":"x","logprobs":21})"},
      {"prompt_logprobs", "completions", R"({"prompt":"x","prompt_logprobs":21})"},
      {"n", "completions", R"({"prompt":"x","n":9})"},
      {"stop", "completions", R"({"prompt":"x","stop":)" + many(17, "\"a\"") + "}"},
      {"stop_token_ids", "completions", R"({"prompt":"x","stop_token_ids":)" + many(257, "1") + "}"},
      {"logit_bias", "completions", R"({"prompt":"x","logit_bias":)" + bias + "}}"},
      {"prompt", "completions", R"({"prompt":)" + many(129, "\"a\"") + "}"},
      {"json", "completions", std::string(65, '[')},
      {"context_length", "completions", R"({"prompt":")" + std::string(9000, 'x') + "\"}"},
      {"input", "embeddings", R"({"model":"embed","input":)" + many(2049, "\"a\"") + "}"},
      {"documents", "rerank", R"({"query":"q","documents":)" + many(2049, "\"a\"") + "}"},
      {"max_body_bytes", "completions", std::string(20'001, ' '), 413},
  };
  for (const Case& c : cases) {
    INFO(c.limit);
    CHECK(limit_hits(server, c.limit) == 0);
    const Answer answer = ask(server.port, "POST", std::string("/v1/") + c.route, c.body);
    INFO(answer.body);
    CHECK(answer.status == c.status);
    CHECK(limit_hits(server, c.limit) == 1);
  }
}

TEST_CASE("more token ids than /detokenize takes are counted") {
  ServingOptions options;
  options.http.max_body_bytes = 4'000'000;
  ServingFixture server(options);
  std::string ids = "1";
  for (int i = 0; i < 500'000; ++i) ids += ",1";
  CHECK(ask(server.port, "POST", "/detokenize", R"({"tokens":[)" + ids + "]}").status == 400);
  CHECK(limit_hits(server, "tokens") == 1);
}

TEST_CASE("metrics count what was served") {
  ServingFixture server;
  ask(server.port, "POST", "/v1/completions", R"({"prompt":"abc","max_tokens":5,"ignore_eos":true})");
  REQUIRE(soon([&] { return server.stats().running == 0; }));  // the client has its answer before the step ends
  const std::string text = ask(server.port, "GET", "/metrics").body;
  for (const std::string sample :
       {"vllm:prompt_tokens_total{model_name=\"sim\"} 3", "vllm:generation_tokens_total{model_name=\"sim\"} 5",
        "vllm:request_success_total{model_name=\"sim\",finished_reason=\"length\"} 1",
        "vllm:time_to_first_token_seconds_count{model_name=\"sim\"} 1",
        "vllm:inter_token_latency_seconds_count{model_name=\"sim\"} 4",
        "vllm:num_requests_running{model_name=\"sim\"} 0", "inferd:http_responses_total{class=\"4xx\"} 0"}) {
    INFO(sample << "\n" << text);
    CHECK(text.find(sample) != std::string::npos);
  }
  // An answer is counted once it is written, which its reader may notice first.
  CHECK(soon([&] {
    return ask(server.port, "GET", "/metrics").body.find("inferd:http_responses_total{class=\"2xx\"} 0") ==
           std::string::npos;
  }));
}

TEST_CASE("a port in use is refused, not shared") {
  ServingFixture server;
  HttpOptions options;
  options.port = server.port;
  options.max_connections = 1;
  App& app = server.app;
  Dispatcher dispatcher(app);
  HttpServer second(options, dispatcher);
  try {
    second.start();
    FAIL("two servers share a port");
  } catch (const FatalError& error) {
    CHECK(error.code == ExitCode::address_in_use);
  }
}
