// Errors that end start-up, and the process exit codes they map to.
#pragma once

#include <stdexcept>
#include <string>

namespace inferd {

/// Process exit codes, a contract with service managers.
enum class ExitCode : int {
  ok = 0,          // drained
  usage = 64,      // bad command line
  bad_model = 65,  // a model file is missing, malformed or unsupported
  address_in_use = 69,
  internal = 70,
  no_memory = 71,
  model_vanished = 74,  // a mapped model file was truncated while serving
  gpu_lost = 75,
  bad_config = 78,
};

/// An error that ends the process with `code`; what() is the one line a person reads.
class FatalError : public std::runtime_error {
 public:
  FatalError(ExitCode exit_code, const std::string& message) : std::runtime_error(message), code(exit_code) {}
  const ExitCode code;
};

/// A bad command line or configuration value; names the key, what is allowed and what was found.
class ConfigError : public FatalError {
 public:
  explicit ConfigError(const std::string& message) : FatalError(ExitCode::bad_config, message) {}
};

/// A bad model file; the message names file, field, expected and found.
class CheckpointError : public FatalError {
 public:
  explicit CheckpointError(const std::string& message) : FatalError(ExitCode::bad_model, message) {}
  /// "FILE: FIELD: expected EXPECTED, found FOUND"
  CheckpointError(const std::string& file, const std::string& field, const std::string& expected,
                  const std::string& found)
      : CheckpointError(file + ": " + field + ": expected " + expected + ", found " + found) {}
};

/// Not enough memory for what was asked; the message gives needed and available bytes.
class MemoryError : public FatalError {
 public:
  explicit MemoryError(const std::string& message) : FatalError(ExitCode::no_memory, message) {}
};

}  // namespace inferd
