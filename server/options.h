// Options of the HTTP server and the API; the serve command fills them from the settings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/quantize/quantize_plan.h"

namespace inferd {

/// Listening address and the limits of connections.
struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: a free one
  int max_connections = 1024;
  std::size_t max_body_bytes = 16u << 20;
  std::size_t max_header_bytes = 32u << 10;
  double header_timeout_s = 10;  // request line and headers
  double body_timeout_s = 60;    // then a body slower than 1 KiB/s is given up
  double keep_alive_s = 5;
  double write_timeout_s = 30;  // one piece of an answer
  std::vector<std::string> trusted_proxies;
};

/// Who may call, and from where.
struct AccessOptions {
  bool loopback_only = true;  // the listening address is a loopback address: check Host
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors_origins;
};

/// How request bodies are read and answers given.
struct ApiOptions {
  bool strict_fields = false;
  bool parse_special = true;            // control tokens in the text of /v1/completions and /tokenize
  std::int64_t default_max_tokens = 0;  // chat; 0: up to the context's end
  double request_deadline_s = 0;        // 0: none
  double sse_ping_s = 15;
  std::int64_t max_messages = 4096;
  std::int64_t max_tools = 128;
  std::string adapters_dir;  // folder that clients may load adapters from; empty: none
};

/// One model to be served.
struct ModelSpec {
  std::string name;
  std::string path;                 // a GGUF file, a Hugging Face folder, or "sim:…"
  std::string chat_template_file;   // empty: the model's own
  std::int64_t context_length = 0;  // 0: auto
  LoadQuantization quantization = LoadQuantization::none;
  std::string device = "auto";       // auto | cpu | cuda | cuda:N
  std::string gpu_layers = "auto";   // auto | all | a number
  std::int64_t tensor_parallel = 1;  // GPUs its matrices are divided between
  std::vector<std::string> aliases;
  std::string reasoning_parser = "auto";  // a name of server/reasoning_formats, "auto" (by the template) or "none"
  std::string tool_parser = "auto";       // a name of server/tool_formats, "auto" or "none"
  std::string draft_path{};               // of its draft model, as `path`; empty: none
  bool simulated() const { return path.starts_with("sim:") || path.starts_with("sim-encoder:"); }
};

}  // namespace inferd
