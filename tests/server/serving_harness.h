// A whole server in the test's process: simulated model, engine, HTTP on a free loopback port, and a plain socket
// client.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "engine/sim/sim_backend.h"
#include "server/app.h"
#include "server/dispatcher.h"
#include "server/http_server.h"
#include "server/served_model.h"

namespace inferd::testing {

// The daemon sets its logger up before it starts threads. So do the tests: where two workers log first at once, the
// thread sanitizer, which does not see into the library, takes its making for a race.
inline const bool kLoggerMade = spdlog::default_logger() != nullptr;

struct ServingOptions {
  std::vector<ModelSpec> models = {{.name = "sim", .path = "sim:seed=1", .chat_template_file = {}, .aliases = {}}};
  HttpOptions http = {};
  AccessOptions access = {};
  ApiOptions api = {};
  EngineOptions engine = {};
  std::int64_t max_queued_inputs = 4096;
  bool start = true;  // false: stays in the state "loading"
};

inline ModelSpec sim_spec(const std::string& name, const std::string& path) {
  ModelSpec spec;
  spec.name = name;
  spec.path = path;
  return spec;
}

/// Members in the order of their lifetimes, as in the daemon.
class ServingFixture {
 public:
  explicit ServingFixture(ServingOptions options = {})
      : engine_(clock_),
        metrics_(names(options)),
        app(metrics_, options.api, options.access),
        dispatcher_(app),
        http(port_zero(options.http), dispatcher_) {
    LoadContext context{.engine = engine_,
                        .backend = nullptr,
                        .sim_backend = backend_,
                        .engine_options = options.engine,
                        .max_queued_inputs = options.max_queued_inputs,
                        .build = "test",
                        .progress = {}};
    for (const ModelSpec& spec : options.models) app.models.add(load_served_model(spec, context), spec.aliases);
    if (options.start) {
      engine_.start();
      app.state = ServerState::ready;
    }
    port = http.start();
  }
  ~ServingFixture() {
    engine_.stop();
    http.stop(2);
  }
  Engine& engine() { return engine_; }
  DecoderStats stats() { return engine_.stats(app.models.all().at(0)->handle); }

 private:
  static std::vector<std::string> names(const ServingOptions& options) {
    std::vector<std::string> out;
    for (const ModelSpec& spec : options.models) out.push_back(spec.name);
    return out;
  }
  static HttpOptions port_zero(HttpOptions options) {
    options.port = 0;
    if (options.max_connections == HttpOptions{}.max_connections) options.max_connections = 32;
    return options;
  }
  SystemClock clock_;
  SimBackend backend_;
  Engine engine_;
  Metrics metrics_;

 public:
  App app;

 private:
  Dispatcher dispatcher_;

 public:
  HttpServer http;
  int port = 0;
};

struct Answer {
  int status = 0;
  std::string head;  // status line and headers, as sent
  std::string body;  // chunks joined
  Json json() const { return parse_json(body); }
  /// The value of a header, matched without case; "" if absent.
  std::string header(const std::string& name) const {
    std::string lower;
    for (const char c : head) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto at = lower.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const auto begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

/// One connection.
class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void half_close() { ::shutdown(fd_, SHUT_WR); }
  bool send(const std::string& bytes) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<std::size_t>(n);
    }
    return true;
  }
  /// Reads until `enough` of the bytes so far, the end, or the timeout. True if enough came.
  template <typename Enough>
  bool read_until(Enough enough, double timeout_s = 10) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
    while (!enough(data)) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
      pollfd entry{fd_, POLLIN, 0};
      if (left <= 0 || ::poll(&entry, 1, static_cast<int>(left)) <= 0) return false;
      char buffer[16384];
      const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) {
        closed = true;
        return enough(data);
      }
      data.append(buffer, static_cast<std::size_t>(n));
    }
    return true;
  }
  /// Reads one whole answer (by length, by chunks, or to the end) off the connection.
  Answer read_answer(double timeout_s = 10, bool has_body = true) {
    Answer answer;
    const auto has_head = [](const std::string& text) { return text.find("\r\n\r\n") != std::string::npos; };
    if (!read_until(has_head, timeout_s)) return answer;
    const std::size_t body = data.find("\r\n\r\n") + 4;
    answer.head = data.substr(0, body);
    answer.status = std::stoi(answer.head.substr(9, 3));
    data.erase(0, body);
    if (!has_body) return answer;
    if (answer.header("transfer-encoding") == "chunked") {
      read_chunks(answer, timeout_s);
    } else if (const std::string length = answer.header("content-length"); !length.empty()) {
      const std::size_t bytes = std::stoul(length);
      read_until([&](const std::string& text) { return text.size() >= bytes; }, timeout_s);
      answer.body = data.substr(0, bytes);
      data.erase(0, std::min(bytes, data.size()));
    }
    return answer;
  }
  bool wait_closed(double timeout_s) {
    read_until([](const std::string&) { return false; }, timeout_s);
    return closed;
  }

  bool connected = false;
  bool closed = false;
  std::string data;

 private:
  void read_chunks(Answer& answer, double timeout_s) {
    for (;;) {
      if (!read_until([](const std::string& text) { return text.find("\r\n") != std::string::npos; }, timeout_s))
        return;
      const std::size_t line = data.find("\r\n");
      const std::size_t bytes = std::stoul(data.substr(0, line), nullptr, 16);
      if (!read_until([&](const std::string& text) { return text.size() >= line + 2 + bytes + 2; }, timeout_s)) return;
      answer.body += data.substr(line + 2, bytes);
      data.erase(0, line + 2 + bytes + 2);
      if (bytes == 0) return;
    }
  }
  int fd_;
};

inline std::string http_text(const std::string& method, const std::string& target, const std::string& body = "",
                             const std::string& headers = "Host: localhost\r\n") {
  std::string text = method + " " + target + " HTTP/1.1\r\n" + headers;
  if (!body.empty() || method == "POST") text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return text + "\r\n" + body;
}

inline Answer ask(int port, const std::string& method, const std::string& target, const std::string& body = "",
                  const std::string& headers = "Host: localhost\r\n") {
  Client client(port);
  client.send(http_text(method, target, body, headers));
  return client.read_answer(30, method != "HEAD");
}

/// The JSON of each "data: " line but [DONE].
inline std::vector<Json> events(const Answer& answer) {
  std::vector<Json> out;
  for (std::size_t at = 0; (at = answer.body.find("data: ", at)) != std::string::npos; at += 6) {
    const std::string line = answer.body.substr(at + 6, answer.body.find('\n', at) - at - 6);
    if (line != "[DONE]") out.push_back(parse_json(line));
  }
  return out;
}

template <typename Condition>
bool soon(Condition condition, double timeout_s = 5) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace inferd::testing
