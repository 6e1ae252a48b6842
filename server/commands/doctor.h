// `inferd doctor`: what this machine can serve.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <span>
#include <string>

namespace inferd {

/// One published model size and what it takes in memory.
struct ModelSize {
  const char* label;        // "7B"
  double parameters;        // billions
  double vocabulary;        // billions of them in the token embedding and the output matrix
  double kv_kib_per_token;  // f16 keys and values of all layers
};

/// Bits of a weight in the layers, and in the two matrices of the vocabulary.
struct Precision {
  const char* label;
  double layer_bits;
  double vocabulary_bits;
};

/// Bytes to serve a model of `size` at `precision` with one request of `context_tokens`, workspace included.
std::size_t serving_bytes(const ModelSize& size, const Precision& precision, int context_tokens);

/// Prints CPU and its instruction level, memory, GPUs and driver, whether the port is free, and which sizes fit.
/// args: [--host ADDRESS] [--port PORT]. Returns the exit code: 0, or 64 for wrong arguments.
int run_doctor(std::span<const std::string> args);

}  // namespace inferd
