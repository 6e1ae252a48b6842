// HttpServer: cpp-httplib parses and frames; connections, limits, threads and routing are ours.
#include "server/http_server.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "base/errors.h"
#include "base/log.h"
#include "server/connection.h"
#include "server/worker_pool.h"

namespace inferd {
namespace {

using std::chrono::steady_clock;

constexpr int kRequestsPerConnection = 1000;
constexpr int kClientClosedRequest = 499;
constexpr int kSendBufferBytes = 256 << 10;  // what a slow reader can make us hold in the kernel
constexpr char kOnlyPath[] = "/";            // the library routes nothing: every request is given this path

// The connection this thread serves, for the library's callbacks, which are not told.
thread_local Connection* current_connection = nullptr;
// Set while the accepting thread turns away a connection above the limit.
thread_local bool refusing_connection = false;

constexpr std::string_view kBusyBody =
    "{\"error\":{\"message\":\"Too many open connections, try again.\",\"type\":\"server_error\",\"param\":null,"
    "\"code\":\"too_many_connections\"}}";

/// A ByteSink over the library's.
class LibrarySink final : public ByteSink {
 public:
  LibrarySink(httplib::DataSink& sink, Connection& connection) : sink_(sink), connection_(connection) {}
  bool write(std::string_view bytes) override { return ok_ = ok_ && sink_.write(bytes.data(), bytes.size()); }
  bool client_gone() override {
    if (ok_ && connection_.peer_gone()) {
      connection_.client_left = true;
      ok_ = false;  // so that what was cut short is not ended as if it were whole
    }
    return !ok_;
  }
  bool ok() const { return ok_; }

 private:
  httplib::DataSink& sink_;
  Connection& connection_;
  bool ok_ = true;
};

/// Hands accepted connections to the pool; a connection above the limit is turned away on the spot.
class PoolQueue final : public httplib::TaskQueue {
 public:
  explicit PoolQueue(WorkerPool& pool) : pool_(pool) {}
  bool enqueue(std::function<void()> serve) override {
    if (pool_.try_run(serve)) return true;
    refusing_connection = true;
    serve();
    refusing_connection = false;
    return true;
  }
  void shutdown() override {}  // the pool outlives the listener, which may be opened anew

 private:
  WorkerPool& pool_;
};

/// A whole answer as text, for connections the library is not to write to any more.
std::string plain_answer(int status, const std::string& body, const std::string& more_headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " " + httplib::status_message(status) +
         "\r\nContent-Type: application/json\r\nConnection: close\r\n" + more_headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// Appends, growing by doubling up to half of `limit` and then to all of it: old and new room together take at most
/// 1.5 limits, where a string's own growth would take up to three.
void append_within(std::string& body, const char* data, std::size_t size, std::size_t limit) {
  const std::size_t needed = body.size() + size;
  if (needed > body.capacity()) {
    const std::size_t grown = std::max(2 * body.capacity(), needed);
    body.reserve(grown <= limit / 2 ? grown : limit);
  }
  body.append(data, size);
}

bool fit_request_id(const std::string& id) {
  constexpr char kFit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";
  return !id.empty() && id.size() <= 128 && id.find_first_not_of(kFit) == std::string::npos;
}

}  // namespace

struct HttpServer::Impl final : public httplib::Server {
  Impl(const HttpOptions& http_options, HttpDispatcher& http_dispatcher)
      : options(http_options),
        dispatcher(http_dispatcher),
        pool(http_options.max_connections),
        stop_event(::eventfd(0, EFD_CLOEXEC)) {
    configure();
  }
  ~Impl() override { ::close(stop_event); }

  void configure();
  void serve_connection(Connection& connection);
  bool process_and_close_socket(socket_t socket) override;
  void take_over(const httplib::Request& source, HttpRequest& out) const;
  void answer(HttpResponse response, httplib::Response& out);
  void handle(const httplib::Request& source, httplib::Response& out, const httplib::ContentReader* reader);
  HandlerResponse on_error(const httplib::Request& source, httplib::Response& out);
  void answer_violation(Connection& connection);
  void listen_until_stopped();
  int violation_status(const Connection& connection, int status) const;

  const HttpOptions options;
  HttpDispatcher& dispatcher;
  WorkerPool pool;
  const int stop_event;
  int port = 0;
  std::atomic<bool> stopping{false};
  std::atomic<int> active{0};
  std::atomic<int> restart_count{0};
  std::atomic<std::uint64_t> next_id{0};
  std::uint64_t id_salt = 0;
  std::mutex sockets_mutex;
  std::set<int> sockets;
  std::thread listener;
};

void HttpServer::Impl::configure() {
  ::getentropy(&id_salt, sizeof id_salt);
  set_payload_max_length(options.max_body_bytes);
  set_tcp_nodelay(true);
  set_keep_alive_max_count(kRequestsPerConnection);
  set_keep_alive_timeout(static_cast<time_t>(options.keep_alive_s));
  if (!options.trusted_proxies.empty()) set_trusted_proxies(options.trusted_proxies);
  // the library's default is SO_REUSEPORT, with which two servers would share a port unnoticed
  set_socket_options([](socket_t socket) { httplib::set_socket_opt(socket, SOL_SOCKET, SO_REUSEADDR, 1); });
  new_task_queue = [this] { return new PoolQueue(pool); };
  const auto plain = [this](const httplib::Request& in, httplib::Response& out) { handle(in, out, nullptr); };
  const auto with_body = [this](const httplib::Request& in, httplib::Response& out,
                                const httplib::ContentReader& reader) { handle(in, out, &reader); };
  Get(kOnlyPath, plain);
  Options(kOnlyPath, plain);
  Post(kOnlyPath, HandlerWithContentReader(with_body));
  Put(kOnlyPath, HandlerWithContentReader(with_body));
  Patch(kOnlyPath, HandlerWithContentReader(with_body));
  Delete(kOnlyPath, HandlerWithContentReader(with_body));
  set_pre_routing_handler([this](const httplib::Request& in, httplib::Response& out) {
    Connection& connection = *current_connection;
    take_over(in, connection.request);
    auto refusal = dispatcher.admit(connection.request);
    // the library would first wait for a body that is to be refused anyway
    const bool too_large = in.get_header_value_u64("Content-Length") > options.max_body_bytes;
    if (!refusal && too_large) refusal = dispatcher.protocol_error(413, connection.request);
    if (!refusal) return HandlerResponse::Unhandled;
    answer(std::move(*refusal), out);
    return HandlerResponse::Handled;
  });
  set_error_handler([this](const httplib::Request& in, httplib::Response& out) { return on_error(in, out); });
  set_exception_handler([this](const httplib::Request&, httplib::Response& out, std::exception_ptr) {
    answer(dispatcher.protocol_error(500, current_connection->request), out);
  });
}

void HttpServer::Impl::take_over(const httplib::Request& source, HttpRequest& out) const {
  out.method = source.method;
  out.path = source.target.substr(0, source.target.find('?'));
  out.remote_addr = source.remote_addr;
  const std::string client_id = source.get_header_value("x-request-id");
  if (fit_request_id(client_id)) out.id = client_id;
  // a header sent twice is no header: nobody may choose which of two keys or hosts counts
  out.header = [&source](std::string_view name) {
    const std::string key(name);
    return source.get_header_value_count(key) == 1 ? source.get_header_value(key) : std::string();
  };
  Connection* connection = current_connection;
  out.client_gone = [connection] { return connection->peer_gone(); };
}

/// Reads the body, if the route takes one, and answers.
void HttpServer::Impl::handle(const httplib::Request& source, httplib::Response& out,
                              const httplib::ContentReader* reader) {
  Connection& connection = *current_connection;
  HttpRequest& request = connection.request;
  if (reader != nullptr) {
    if (source.is_multipart_form_data()) {
      answer(dispatcher.protocol_error(415, request), out);
      return;
    }
    bool too_large = false;
    const bool complete = (*reader)([&](const char* data, std::size_t size) {
      too_large = size > options.max_body_bytes - request.body.size();
      if (!too_large) append_within(request.body, data, size, options.max_body_bytes);
      return !too_large;
    });
    if (!complete) {
      std::string().swap(request.body);
      const int status = too_large || out.status == 413 ? 413 : out.status == 415 ? 415 : 400;
      answer(dispatcher.protocol_error(violation_status(connection, status), request), out);
      return;
    }
  }
  HttpResponse response = dispatcher.handle(request);
  std::string().swap(request.body);  // not held while an answer streams or the connection idles (= {} would keep it)
  answer(std::move(response), out);
}

/// Puts our answer into the library's, and arranges for the log line after its last byte.
void HttpServer::Impl::answer(HttpResponse response, httplib::Response& out) {
  Connection& connection = *current_connection;
  dispatcher.finish_headers(connection.request, response);
  out.status = connection.status = response.status;
  if (response.status == kClientClosedRequest) connection.client_left = true;
  for (const auto& [name, value] : response.headers) out.set_header(name, value);
  if (!response.stream) {
    if (response.status != 204) out.set_content(std::move(response.body), response.content_type);
    return;
  }
  const auto provider = [stream = std::move(response.stream)](std::size_t, httplib::DataSink& library_sink) {
    LibrarySink sink(library_sink, *current_connection);
    try {
      stream(sink);
    } catch (const std::exception& error) {
      spdlog::error("stream ended early: {}", log_safe(error.what()));
      return false;
    }
    if (sink.ok()) library_sink.done();
    return sink.ok();
  };
  out.set_chunked_content_provider(response.content_type, provider);
}

int HttpServer::Impl::violation_status(const Connection& connection, int status) const {
  switch (connection.violation()) {
    case Violation::header_timeout:
    case Violation::body_timeout:
      return 408;
    case Violation::header_too_large:
      return 431;
    case Violation::closed:
    case Violation::none:
      break;
  }
  constexpr int kLinesOfFullHeader = 102;  // request line, 100 headers, blank line
  if (status == 400 && connection.in_headers() && connection.header_lines() >= kLinesOfFullHeader) return 431;
  return status;
}

/// Gives the library's own refusals (bad request line, headers, lengths) our JSON body.
httplib::Server::HandlerResponse HttpServer::Impl::on_error(const httplib::Request&, httplib::Response& out) {
  if (!out.body.empty() || out.content_provider_) return HandlerResponse::Unhandled;
  Connection& connection = *current_connection;
  const int status = violation_status(connection, out.status);
  answer(dispatcher.protocol_error(status, connection.request), out);
  return HandlerResponse::Handled;
}

bool HttpServer::Impl::process_and_close_socket(socket_t socket) {
  if (refusing_connection) {
    dispatcher.refused_connection();
    const std::string text = plain_answer(503, std::string(kBusyBody), "Retry-After: 1\r\n");
    [[maybe_unused]] const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    close_gently(socket, 0);
    return true;
  }
  {
    const std::lock_guard lock(sockets_mutex);
    sockets.insert(socket);
  }
  httplib::set_socket_opt(socket, SOL_SOCKET, SO_SNDBUF, kSendBufferBytes);
  Connection connection(socket, options, stop_event);
  current_connection = &connection;
  serve_guarded([&] {
    serve_connection(connection);
    return true;
  });
  current_connection = nullptr;
  {
    const std::lock_guard lock(sockets_mutex);
    sockets.erase(socket);
  }
  close_gently(socket, 50);
  return true;
}

void HttpServer::Impl::serve_connection(Connection& connection) {
  std::string remote_ip, local_ip;
  int remote_port = 0, local_port = 0;
  connection.get_remote_ip_and_port(remote_ip, remote_port);
  connection.get_local_ip_and_port(local_ip, local_port);
  const auto setup = [&](httplib::Request& request) {
    connection.begin_body();
    request.path = kOnlyPath;
    request.ranges.clear();
  };
  for (int served = 1; served <= kRequestsPerConnection && !stopping; ++served) {
    if (!connection.wait_for_request()) return;
    connection.begin_request();
    char id[40];
    std::snprintf(id, sizeof id, "req-%016llx",
                  static_cast<unsigned long long>(id_salt + next_id++ * 0x9e3779b97f4a7c15ull));
    connection.request.id = id;
    const auto start = steady_clock::now();
    active++;
    bool closed = false, kept = false;
    try {
      kept = process_request(connection, remote_ip, remote_port, local_ip, local_port,
                             served == kRequestsPerConnection || stopping, closed, setup);
      answer_violation(connection);
    } catch (...) {
      active--;
      throw;
    }
    active--;
    const bool left_while_sending = connection.violation() == Violation::closed && !connection.in_headers();
    if (connection.write_stalled) dispatcher.write_timed_out();
    if (connection.client_left || left_while_sending) dispatcher.client_left();
    if (connection.status != 0) {
      dispatcher.finished(connection.request, connection.status,
                          std::chrono::duration<double>(steady_clock::now() - start).count());
    }
    if (!kept || closed) return;
  }
}

/// Where the library hung up without a word (headers too slow or too large), says why.
void HttpServer::Impl::answer_violation(Connection& connection) {
  const Violation violation = connection.violation();
  if (connection.wrote_anything() || violation == Violation::none || violation == Violation::closed) return;
  connection.status = violation_status(connection, 400);
  const HttpResponse response = dispatcher.protocol_error(connection.status, connection.request);
  const std::string text = plain_answer(connection.status, response.body);
  connection.write(text.data(), text.size());
}

void HttpServer::Impl::listen_until_stopped() {
  while (!stopping) {
    listen_after_bind();
    if (stopping) return;
    spdlog::error("the listener on port {} ended by itself; opening it again", port);
    restart_count++;
    while (!stopping) {
      Server::stop();  // also lifts the mark that keeps a failed listener from being bound again
      if (bind_to_port(options.host, port)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
}

HttpServer::HttpServer(const HttpOptions& options, HttpDispatcher& dispatcher)
    : impl_(std::make_unique<Impl>(options, dispatcher)) {}

HttpServer::~HttpServer() { stop(0); }

int HttpServer::start() {
  Impl& impl = *impl_;
  if (impl.options.port == 0) {
    impl.port = impl.bind_to_any_port(impl.options.host);
  } else {
    impl.port = impl.bind_to_port(impl.options.host, impl.options.port) ? impl.options.port : -1;
  }
  if (impl.port <= 0) {
    throw FatalError(ExitCode::address_in_use, "cannot listen on " + impl.options.host + " port " +
                                                   std::to_string(impl.options.port) +
                                                   ": in use, not permitted, or no such address");
  }
  impl.listener = std::thread([this] { impl_->listen_until_stopped(); });
  return impl.port;
}

int HttpServer::active_requests() const { return impl_->active; }
int HttpServer::open_connections() const { return impl_->pool.busy(); }
int HttpServer::restarts() const { return impl_->restart_count; }

void HttpServer::stop(double grace_s) {
  Impl& impl = *impl_;
  const auto deadline = steady_clock::now() + std::chrono::duration<double>(grace_s);
  while (impl.active > 0 && steady_clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  impl.stopping = true;
  impl.Server::stop();
  if (impl.listener.joinable()) impl.listener.join();
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(impl.stop_event, &one, sizeof one);
  {
    const std::lock_guard lock(impl.sockets_mutex);
    for (const int socket : impl.sockets) ::shutdown(socket, SHUT_RDWR);
  }
  impl.pool.join();
}

}  // namespace inferd
