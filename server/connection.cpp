// Connection: one accepted socket with its limits, as the HTTP library's stream.
#include "server/connection.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace inferd {
namespace {

using Seconds = std::chrono::duration<double>;
using std::chrono::steady_clock;

constexpr double kMinBodyBytesPerSecond = 1024;

double seconds_since(steady_clock::time_point start) { return Seconds(steady_clock::now() - start).count(); }

int to_ms(double seconds) { return static_cast<int>(std::clamp(seconds * 1000.0, 0.0, 3.6e6)) + 1; }

/// Waits for one event on one descriptor, through signals. Returns revents, 0 on timeout.
short poll_one(int descriptor, short events, int timeout_ms) {
  pollfd entry{descriptor, events, 0};
  const auto deadline = steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    const int ready = ::poll(&entry, 1, timeout_ms);
    if (ready > 0) return entry.revents;
    if (ready == 0 || errno != EINTR) return 0;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
    if (left <= 0) return 0;
    timeout_ms = static_cast<int>(left);
  }
}

void address_text(const sockaddr_storage& address, std::string& ip, int& port) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address, sizeof v4);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &address, sizeof v6);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    port = ntohs(v6.sin6_port);
  }
  ip = text;
}

}  // namespace

Connection::Connection(int socket, const HttpOptions& options, int stop_event)
    : socket_(socket), options_(options), stop_event_(stop_event) {}

bool Connection::wait_for_request() {
  if (is_readable()) return true;
  const auto deadline = steady_clock::now() + Seconds(options_.keep_alive_s);
  for (;;) {
    pollfd entries[2] = {{socket_, POLLIN, 0}, {stop_event_, POLLIN, 0}};
    const double left = Seconds(deadline - steady_clock::now()).count();
    if (left <= 0) return false;
    const int ready = ::poll(entries, 2, to_ms(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || entries[1].revents != 0) return false;
    return (entries[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
  }
}

void Connection::begin_request() {
  in_headers_ = true;
  wrote_anything_ = false;
  violation_ = Violation::none;
  header_bytes_ = body_bytes_ = 0;
  header_lines_ = 0;
  phase_start_ = steady_clock::now();
  request = HttpRequest{};
  status = 0;
  client_left = write_stalled = false;
}

void Connection::begin_body() {
  in_headers_ = false;
  phase_start_ = steady_clock::now();
}

bool Connection::peer_gone() const {
  return (poll_one(socket_, POLLRDHUP, 0) & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool Connection::wait_readable() const {
  return is_readable() || poll_one(socket_, POLLIN, to_ms(options_.header_timeout_s)) != 0;
}

bool Connection::wait_writable() const {
  return (poll_one(socket_, POLLOUT, to_ms(options_.write_timeout_s)) & POLLOUT) != 0;
}

int Connection::read_wait_ms() {
  const double elapsed = seconds_since(phase_start_);
  if (in_headers_) {
    const double left = options_.header_timeout_s - elapsed;
    if (left <= 0) violation_ = Violation::header_timeout;
    return left <= 0 ? -1 : to_ms(left);
  }
  if (elapsed < options_.body_timeout_s) return to_ms(options_.body_timeout_s - elapsed);
  if (static_cast<double>(body_bytes_) < elapsed * kMinBodyBytesPerSecond) {
    violation_ = Violation::body_timeout;
    return -1;
  }
  return 1000;
}

bool Connection::fill() {
  if (violation_ != Violation::none) return false;
  for (;;) {
    const int wait_ms = read_wait_ms();
    if (wait_ms < 0) return false;
    if (poll_one(socket_, POLLIN, wait_ms) == 0) continue;  // read_wait_ms decides whether that was too long
    const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got > 0) {
      begin_ = 0;
      end_ = static_cast<std::size_t>(got);
      return true;
    }
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) continue;
    violation_ = Violation::closed;
    return false;
  }
}

void Connection::count(const char* data, std::size_t size) {
  if (!in_headers_) {
    body_bytes_ += size;
    return;
  }
  header_bytes_ += size;
  header_lines_ += static_cast<int>(std::count(data, data + size, '\n'));
  if (header_bytes_ > options_.max_header_bytes) violation_ = Violation::header_too_large;
}

ssize_t Connection::read(char* out, size_t size) {
  if (size == 0) return 0;
  if (!is_readable() && !fill()) return violation_ == Violation::closed ? 0 : -1;
  if (violation_ != Violation::none) return -1;
  const std::size_t taken = std::min(size, end_ - begin_);
  std::memcpy(out, buffer_.data() + begin_, taken);
  count(out, taken);
  begin_ += taken;
  return static_cast<ssize_t>(taken);
}

const char* Connection::buffered_data(size_t& size) const {
  size = violation_ == Violation::none ? end_ - begin_ : 0;
  return size > 0 ? buffer_.data() + begin_ : nullptr;
}

void Connection::consume_buffered(size_t size) {
  const std::size_t taken = std::min(size, end_ - begin_);
  count(buffer_.data() + begin_, taken);
  begin_ += taken;
}

ssize_t Connection::write(const char* data, size_t size) {
  wrote_anything_ = true;
  const auto start = steady_clock::now();
  std::size_t sent = 0;
  while (sent < size) {
    const ssize_t n = ::send(socket_, data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
      client_left = true;
      return -1;
    }
    const double left = options_.write_timeout_s - seconds_since(start);
    if (left <= 0) {
      write_stalled = true;
      return -1;
    }
    const short events = poll_one(socket_, POLLOUT, to_ms(left));
    if ((events & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
      client_left = true;
      return -1;
    }
  }
  return static_cast<ssize_t>(size);
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0) address_text(address, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0) address_text(address, ip, port);
}

void close_gently(int socket, int patience_ms) {
  ::shutdown(socket, SHUT_WR);
  char scratch[4096];
  const auto deadline = steady_clock::now() + std::chrono::milliseconds(patience_ms);
  std::size_t drained = 0;
  while (drained < (1u << 20)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
    pollfd entry{socket, POLLIN, 0};
    if (left < 0 || ::poll(&entry, 1, static_cast<int>(left)) <= 0) break;
    const ssize_t got = ::recv(socket, scratch, sizeof scratch, MSG_DONTWAIT);
    if (got <= 0) break;
    drained += static_cast<std::size_t>(got);
  }
  ::close(socket);
}

}  // namespace inferd
