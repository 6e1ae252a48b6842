// Prints a machine's fitness report: CPU, memory, GPU, port, and the model sizes that fit at each precision.
#include "server/commands/doctor.h"

#include <CLI/CLI.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <vector>

#include "config/arguments.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_topology.h"
#include "kernels/cpu/thread_pool.h"

namespace inferd {
namespace {

// Shapes of the Qwen2.5 line, whose sizes span the range; other families are close at equal size.
constexpr ModelSize kSizes[] = {{"0.5B", 0.494, 0.136, 12}, {"1.5B", 1.54, 0.233, 28}, {"3B", 3.09, 0.311, 36},
                                {"7B", 7.62, 1.090, 56},    {"14B", 14.8, 1.557, 192}, {"32B", 32.8, 1.557, 256},
                                {"72B", 72.7, 2.491, 320}};
// Q8_0 is also what quantization: int8 makes of BF16 weights while loading.
constexpr Precision kPrecisions[] = {
    {"BF16", 16.0, 16.0}, {"Q8_0, int8", 8.5, 8.5}, {"int4", 5.0, 8.5}, {"Q4_K_M", 4.85, 4.85}};
constexpr int kContextTokens = 4096;
constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

/// The value of `key` in a "key: value" file such as /proc/cpuinfo.
std::string field(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const std::size_t colon = line.find(':');
    const std::size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::size_t meminfo_bytes(std::string_view key) {
  return static_cast<std::size_t>(std::strtoull(field("/proc/meminfo", key).c_str(), nullptr, 10)) * 1024;
}

/// Empty if host:port can be listened on, else why not.
std::string port_problem(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return "not an IPv4 address";
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return std::strerror(errno);
  const int on = 1;
  setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool bound = bind(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const std::string problem = bound ? "" : std::strerror(errno);
  close(probe);
  return problem;
}

void print_gpus(const GpuList& gpus) {
  if (gpus.gpus.empty()) std::printf("GPU       %s\n", gpus.problem.c_str());
  for (const GpuInfo& gpu : gpus.gpus) {
    std::printf("GPU       %s, %.1f GiB, compute capability %d.%d%s%s\n", gpu.name.c_str(),
                static_cast<double>(gpu.memory_bytes) / kGib, gpu.arch / 10, gpu.arch % 10,
                gpu.problem.empty() ? "" : "; not used: ", gpu.problem.c_str());
  }
  if (gpus.cuda_version > 0) {
    std::printf("driver    supports CUDA %d.%d\n", gpus.cuda_version / 1000, gpus.cuda_version % 1000 / 10);
  }
}

/// Only `batch_invariant: false` wants it.
void print_cublaslt() {
  const BlasInfo blas = find_cublaslt();
  std::printf("cuBLASLt  %s\n", blas.problem.empty() ? (blas.version + " (for batch_invariant: false)").c_str()
                                                     : ("not there: " + blas.problem).c_str());
}

void print_fit_table(std::size_t ram_bytes, const GpuList& gpus) {
  std::size_t gpu_bytes = 0;
  for (const GpuInfo& gpu : gpus.gpus) gpu_bytes = std::max(gpu_bytes, gpu.memory_bytes / 10 * 9);
  std::printf("\nWhich sizes fit, with one request of %d tokens (yes: in memory; else what it takes):\n",
              kContextTokens);
  std::printf("%-8s", "model");
  for (const Precision& precision : kPrecisions) std::printf("%-24s", precision.label);
  std::printf("\n");
  for (const ModelSize& size : kSizes) {
    std::printf("%-8s", size.label);
    for (const Precision& precision : kPrecisions) {
      const std::size_t needed = serving_bytes(size, precision, kContextTokens);
      std::string cell = std::to_string(static_cast<int>(static_cast<double>(needed) / kGib * 10) / 10) + "." +
                         std::to_string(static_cast<int>(static_cast<double>(needed) / kGib * 10) % 10) + " GiB: RAM " +
                         (needed <= ram_bytes ? "yes" : "no");
      if (gpu_bytes > 0) cell += needed <= gpu_bytes ? ", GPU yes" : ", GPU no";
      std::printf("%-24s", cell.c_str());
    }
    std::printf("\n");
  }
  std::printf(
      "Take BF16/FP16 weights where they fit: small models lose the most by quantisation. Q8_0 is nearly lossless; "
      "Q4_K_M is for what fits no other way. int8 and int4 are made from BF16 files while loading (--quantization).\n");
}

}  // namespace

std::size_t serving_bytes(const ModelSize& size, const Precision& precision, int context_tokens) {
  constexpr double kWorkspaceBytes = 250e6;
  const double bits =
      (size.parameters - size.vocabulary) * precision.layer_bits + size.vocabulary * precision.vocabulary_bits;
  const double weights = bits * 1e9 / 8.0;
  const double kv = size.kv_kib_per_token * 1024.0 * context_tokens;
  return static_cast<std::size_t>(weights + kv + kWorkspaceBytes);
}

int run_doctor(std::span<const std::string> args) {
  std::string host = "127.0.0.1";
  int port = 8080;
  CLI::App app("inferd doctor: what this machine can serve", "inferd doctor");
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("--host", host, "address that serve is to listen on")->capture_default_str();
  app.add_option("--port", port, "and its port")->check(CLI::Range(1, 65535))->capture_default_str();
  if (const auto early = parse_arguments(app, args)) return early->print();
  const std::size_t available = meminfo_bytes("MemAvailable");
  const GpuList gpus = list_gpus();
  std::printf("CPU       %s\n", field("/proc/cpuinfo", "model name").c_str());
  const CpuLevel level = best_cpu_level();
  std::printf("          instruction level %s%s, %d threads\n", std::string(cpu_level_name(level)).c_str(),
              level == CpuLevel::portable ? " (no AVX2: slow)" : "", default_thread_count());
  std::printf("RAM       %.1f GiB, %.1f GiB available\n", static_cast<double>(meminfo_bytes("MemTotal")) / kGib,
              static_cast<double>(available) / kGib);
  print_gpus(gpus);
  if (!gpus.gpus.empty()) print_cublaslt();
  const std::string problem = port_problem(host, port);
  std::printf("port      %s:%d %s%s\n", host.c_str(), port,
              problem.empty() ? "is free" : "cannot be used: ", problem.c_str());
  print_fit_table(available, gpus);
  return 0;
}

}  // namespace inferd
