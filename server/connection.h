// Connection: one accepted socket with its limits, as the HTTP library's stream.
#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <string>

#include "server/http_types.h"
#include "server/options.h"

namespace inferd {

/// Why a request could not be read.
enum class Violation { none, closed, header_timeout, header_too_large, body_timeout };

/// Reads and writes one socket under the limits of HttpOptions. Used by one thread; does not own the descriptor.
class Connection final : public httplib::Stream {
 public:
  Connection(int socket, const HttpOptions& options, int stop_event);

  /// Waits for the next request up to the keep-alive time; false: idle too long, closed, or the server stops.
  bool wait_for_request();
  /// Starts the header clock of a request.
  void begin_request();
  /// The headers are complete: the body's clock starts.
  void begin_body();
  Violation violation() const { return violation_; }
  bool in_headers() const { return in_headers_; }
  int header_lines() const { return header_lines_; }
  bool wrote_anything() const { return wrote_anything_; }
  /// The peer closed, reset or half-closed the connection. A system call, no blocking.
  bool peer_gone() const;

  HttpRequest request;         // the one being served
  int status = 0;              // of its answer; 0: none yet
  bool client_left = false;    // the peer was gone before that answer was complete
  bool write_stalled = false;  // a piece of it was not accepted in time

  bool is_readable() const override { return begin_ < end_; }
  bool wait_readable() const override;
  bool wait_writable() const override;
  bool is_peer_alive() const override { return !peer_gone(); }
  ssize_t read(char* out, size_t size) override;
  /// Writes everything or fails: one piece must be accepted within write_timeout_s.
  ssize_t write(const char* data, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }
  time_t duration() const override { return 0; }
  const char* buffered_data(size_t& size) const override;
  void consume_buffered(size_t size) override;

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  int read_wait_ms();  // < 0: out of time
  bool fill();         // at least one byte into the buffer
  void count(const char* data, std::size_t size);

  const int socket_;
  const HttpOptions& options_;
  const int stop_event_;  // eventfd, readable once the server stops
  std::array<char, 4096> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  bool in_headers_ = true;
  bool wrote_anything_ = false;
  Violation violation_ = Violation::none;
  std::size_t header_bytes_ = 0, body_bytes_ = 0;
  int header_lines_ = 0;
  SteadyTime phase_start_{};
};

/// Reads what has already arrived, for up to `patience_ms`, and closes: the peer gets the answer rather than a reset.
void close_gently(int socket, int patience_ms);

}  // namespace inferd
