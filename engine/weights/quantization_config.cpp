// Reading quantisation settings in the dialects of the tools that write them.
#include "engine/weights/quantization_config.h"

#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxGroup = std::int64_t{1} << 24;
constexpr const char* kUnquantised = "; get the unquantised model, a GGUF file, or one quantised with GPTQ or AWQ";

[[noreturn]] void refuse(const std::string& file, const std::string& field, const std::string& expected,
                         const std::string& found) {
  throw CheckpointError(file, field, expected, log_safe(found) + kUnquantised);
}

std::int64_t read_group_size(const JsonFields& fields, const std::string& file, JsonFields::Names names) {
  const std::int64_t size = fields.integer(names, -1, kMaxGroup).value_or(-1);
  if (size == 0 || (size > 0 && size % 32 != 0)) {
    throw CheckpointError(file, std::string(*names.begin()), "-1 or a multiple of 32", std::to_string(size));
  }
  return size;
}

QuantizationConfig read_gptq(const JsonFields& fields, const std::string& file) {
  QuantizationConfig config{.method = QuantMethod::gptq, .file = file};
  const std::int64_t bits = fields.require_integer({"bits"}, 1, 64);
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    throw CheckpointError(file, "bits", "2, 3, 4 or 8", std::to_string(bits));
  }
  const std::string layout = fields.string({"checkpoint_format"}).value_or("gptq");
  if (fields.boolean({"is_marlin_format"}).value_or(false)) {
    refuse(file, "is_marlin_format", "the layout \"gptq\" or \"gptq_v2\"", "\"marlin\"");
  }
  if (layout != "gptq" && layout != "gptq_v2") {
    refuse(file, "checkpoint_format", "\"gptq\" or \"gptq_v2\"", "\"" + layout + "\"");
  }
  config.group_size = read_group_size(fields, file, {"group_size"});
  config.bits = static_cast<int>(bits);
  const Json* overrides = fields.object("dynamic");
  if (overrides != nullptr && !overrides->empty()) {  // modules with settings of their own: their shapes tell
    config.bits = 0;
    config.group_size = 0;
  }
  config.zeros_less_one = layout == "gptq";
  config.label = "GPTQ " + std::to_string(bits) + " bit";
  return config;
}

QuantizationConfig read_awq(const JsonFields& fields, const std::string& file) {
  QuantizationConfig config{.method = QuantMethod::awq, .file = file};
  const std::int64_t bits = fields.require_integer({"bits", "w_bit"}, 1, 64);
  if (bits != 4) throw CheckpointError(file, "bits", "4", std::to_string(bits));
  std::string version = fields.string({"version"}).value_or("gemm");
  std::transform(version.begin(), version.end(), version.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (version != "gemm") refuse(file, "version", "\"gemm\"", "\"" + version + "\"");
  if (!fields.boolean({"zero_point"}).value_or(true)) refuse(file, "zero_point", "true", "false");
  config.group_size = read_group_size(fields, file, {"group_size", "q_group_size"});
  config.bits = 4;
  config.label = "AWQ 4 bit";
  return config;
}

/// Sizes of rectangles that share a scale, under `name`: outputs and inputs. All groups must have the same.
void read_block(const JsonFields& fields, const std::string& file, const std::string& prefix, const char* name,
                QuantizationConfig* config) {
  const std::vector<std::int64_t> sizes = fields.integers({name}, 1, kMaxGroup);
  if (sizes.empty() && config->block_rows == 0) return;
  const bool other = config->block_rows > 0 && sizes != std::vector{config->block_rows, config->block_columns};
  if (sizes.size() != 2 || other) {
    throw CheckpointError(file, prefix + name, "two sizes, the same everywhere",
                          std::to_string(sizes.size()) + (other ? ", others than before" : ""));
  }
  config->block_rows = sizes[0];
  config->block_columns = sizes[1];
}

QuantizationConfig read_fp8(const JsonFields& fields, const std::string& file) {
  QuantizationConfig config{.method = QuantMethod::fp8, .file = file, .bits = 8, .label = "FP8"};
  const std::string format = fields.string({"fmt"}).value_or("e4m3");
  if (format != "e4m3") refuse(file, "fmt", "\"e4m3\"", "\"" + format + "\"");
  read_block(fields, file, "", "weight_block_size", &config);
  return config;
}

/// What a group of compressed-tensors says about weights must be something the tensors can be read by. floats: the
/// format may have FP8.
void check_scheme(const Json& scheme, const std::string& file, const std::string& prefix, bool floats,
                  QuantizationConfig* config) {
  const JsonFields fields(scheme, file, prefix);
  const std::string type = fields.string({"type"}).value_or("int");
  if (type != "int" && !(floats && type == "float")) {
    refuse(file, prefix + "type", floats ? "\"int\" or \"float\"" : "\"int\"", "\"" + type + "\"");
  }
  const std::int64_t bits = fields.require_integer({"num_bits"}, 1, 64);
  const bool is_float = type == "float";
  if (bits != 8 && (bits != 4 || is_float)) {
    throw CheckpointError(file, prefix + "num_bits", is_float ? "8" : "4 or 8", std::to_string(bits));
  }
  const std::string strategy = fields.string({"strategy"}).value_or("channel");
  if (is_float && strategy == "block") return read_block(fields, file, prefix, "block_structure", config);
  if (strategy != "tensor" && strategy != "channel" && strategy != "group") {
    refuse(file, prefix + "strategy", "\"tensor\", \"channel\" or \"group\"", "\"" + strategy + "\"");
  }
}

/// Whether a group of compressed-tensors rounds activations to int8 as one scale a token can do as well or better.
bool rounds_to_int8(const Json& group, const std::string& file, const std::string& prefix) {
  const Json* inputs = JsonFields(group, file, prefix).object("input_activations");
  if (inputs == nullptr) return false;
  const JsonFields fields(*inputs, file, prefix + "input_activations.");
  const std::string strategy = fields.string({"strategy"}).value_or("tensor");
  return fields.string({"type"}).value_or("int") == "int" && fields.integer({"num_bits"}, 1, 64).value_or(8) == 8 &&
         fields.boolean({"symmetric"}).value_or(true) && (strategy == "token" || strategy == "tensor");
}

QuantizationConfig read_compressed(const JsonFields& fields, const std::string& file) {
  QuantizationConfig config{.method = QuantMethod::compressed_tensors, .file = file};
  const std::string format = fields.string({"format"}).value_or("");
  const bool floats = format == "float-quantized" || format == "naive-quantized";
  if (format != "pack-quantized" && format != "int-quantized" && !floats) {
    refuse(file, "format", "\"int-quantized\", \"pack-quantized\" or \"float-quantized\"", "\"" + format + "\"");
  }
  for (const char* extra : {"sparsity_config", "transform_config"}) {
    const Json* settings = fields.object(extra);
    if (settings == nullptr || settings->empty()) continue;
    const auto sparse = settings->find("format");
    if (sparse != settings->end() && *sparse == "dense") continue;
    refuse(file, extra, "none", "one");
  }
  const Json* groups = fields.object("config_groups");
  if (groups == nullptr || groups->empty()) throw CheckpointError(file, "config_groups", "at least one group", "none");
  config.int8_activations = true;
  for (const auto& [name, group] : groups->items()) {
    const std::string prefix = "config_groups." + log_safe(name) + ".";
    const Json* weights = JsonFields(group, file, prefix).object("weights");
    if (weights == nullptr) throw CheckpointError(file, prefix + "weights", "an object", "none");
    check_scheme(*weights, file, prefix + "weights.", floats, &config);
    config.int8_activations = config.int8_activations && rounds_to_int8(group, file, prefix);
  }
  config.label = format == "pack-quantized"    ? "compressed-tensors, packed"
                 : format == "float-quantized" ? "compressed-tensors, FP8"
                                               : "compressed-tensors, int8";
  return config;
}

QuantizationConfig read_bitsandbytes(const JsonFields& fields, const std::string& file) {
  if (fields.boolean({"load_in_4bit", "_load_in_4bit"}).value_or(false)) {
    const std::string type = fields.string({"bnb_4bit_quant_type"}).value_or("fp4");
    if (type != "nf4" && type != "fp4") refuse(file, "bnb_4bit_quant_type", "\"nf4\" or \"fp4\"", "\"" + type + "\"");
    return {.method = QuantMethod::bitsandbytes_4bit, .file = file, .bits = 4, .label = "bitsandbytes " + type};
  }
  return {.method = QuantMethod::bitsandbytes_int8, .file = file, .bits = 8, .label = "bitsandbytes int8"};
}

QuantizationConfig read_settings(const Json& settings, const std::string& file, const std::string& usual_method) {
  const JsonFields fields(settings, file);
  std::string method = fields.string({"quant_method"}).value_or(usual_method);
  if (method.empty() && (fields.has("load_in_8bit") || fields.has("load_in_4bit"))) method = "bitsandbytes";
  if (method == "gptq") return read_gptq(fields, file);
  if (method == "awq") return read_awq(fields, file);
  if (method == "compressed-tensors") return read_compressed(fields, file);
  if (method == "bitsandbytes") return read_bitsandbytes(fields, file);
  if (method == "fp8") return read_fp8(fields, file);
  refuse(file, "quant_method", "gptq, awq, compressed-tensors, bitsandbytes or fp8", "\"" + method + "\"");
}

}  // namespace

QuantizationConfig read_quantization_config(const Checkpoint& checkpoint) {
  if (checkpoint.format() == CheckpointFormat::gguf) return {};
  const auto path_of = [&](const char* file) {
    return log_safe((std::filesystem::path(checkpoint.path()) / file).string());
  };
  if (const auto root = checkpoint.json("config.json"); root && root->is_object()) {
    const auto found = root->find("quantization_config");
    if (found != root->end() && !found->is_null()) {
      return read_settings(*found, path_of("config.json") + ": quantization_config", "");
    }
  }
  if (const auto root = checkpoint.json("quantize_config.json")) {
    return read_settings(*root, path_of("quantize_config.json"), "gptq");
  }
  if (const auto root = checkpoint.json("quant_config.json")) {
    return read_settings(*root, path_of("quant_config.json"), "awq");
  }
  return {};
}

}  // namespace inferd
