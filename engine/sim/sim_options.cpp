// The spec of a sim model: key=value pairs.
#include <charconv>
#include <cmath>
#include <limits>

#include "base/errors.h"
#include "engine/sim/sim_model.h"

namespace inferd {
namespace {

[[noreturn]] void refuse(std::string_view key, const std::string& expected, std::string_view found) {
  throw ConfigError("sim model: " + std::string(key.substr(0, 32)) + ": expected " + expected + ", found '" +
                    std::string(found.substr(0, 32)) + "'");
}

double number(std::string_view key, std::string_view text, double low, double high) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high)) {
    refuse(key, "a number from " + std::to_string(low) + " to " + std::to_string(high), text);
  }
  return value;
}

std::int64_t integer(std::string_view key, std::string_view text, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    refuse(key, "an integer from " + std::to_string(low) + " to " + std::to_string(high), text);
  }
  return value;
}

void set_option(SimOptions* options, std::string_view key, std::string_view value) {
  constexpr std::int64_t kMillion = 1'000'000;
  if (key == "seed") {
    options->seed = static_cast<std::uint64_t>(integer(key, value, 0, std::numeric_limits<std::int64_t>::max()));
  } else if (key == "vocab") {
    options->vocab_size = integer(key, value, 2, kMillion);
  } else if (key == "context") {
    options->max_context = integer(key, value, 2, kMillion);
  } else if (key == "step_ms") {
    options->step_s = number(key, value, 0.0, 1e6) * 1e-3;
  } else if (key == "token_us") {
    options->token_s = number(key, value, 0.0, 1e6) * 1e-6;
  } else if (key == "layers") {
    options->layers = static_cast<int>(integer(key, value, 1, 1000));
  } else if (key == "eos") {
    options->eos_probability = number(key, value, 0.0, 1.0);
  } else if (key == "eos_id") {
    options->eos_token = static_cast<TokenId>(integer(key, value, 0, kMillion));
  } else if (key == "printable") {
    options->printable = integer(key, value, 0, 1) == 1;
  } else if (key == "poison") {
    options->poison_token = static_cast<TokenId>(integer(key, value, -1, kMillion));
  } else if (key == "echo") {
    options->echo = integer(key, value, 0, 1) == 1;
  } else if (key == "logit_rows") {
    options->max_logit_rows = integer(key, value, 1, 4096);
  } else if (key == "batch_tokens") {
    options->max_batch_tokens = integer(key, value, 1, kMillion);
  } else if (key == "dim") {
    options->embedding_dim = integer(key, value, 1, 65536);
  } else {
    refuse(key,
           "seed, vocab, context, step_ms, token_us, layers, eos, eos_id, printable, poison, echo, logit_rows, "
           "batch_tokens or dim",
           value);
  }
}

}  // namespace

SimOptions parse_sim_options(std::string_view spec) {
  SimOptions options;
  constexpr std::string_view kPrefix = "sim:";
  if (spec.substr(0, kPrefix.size()) == kPrefix) spec.remove_prefix(kPrefix.size());
  while (!spec.empty()) {
    const std::size_t comma = std::min(spec.find(','), spec.size());
    const std::string_view item = spec.substr(0, comma);
    spec.remove_prefix(std::min(comma + 1, spec.size()));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) refuse(item, "key=value", item);
    set_option(&options, item.substr(0, equals), item.substr(equals + 1));
  }
  return options;
}

}  // namespace inferd
