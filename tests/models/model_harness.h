// What the tests of models share: golden files, a paged KV cache with scattered blocks, and steps over it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/models/model.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/model_config.h"
#include "kernels/backend.h"

namespace inferd::testing {

inline std::filesystem::path golden_dir() { return std::filesystem::path(INFERD_SOURCE_DIR) / "tests/golden"; }

inline Json read_golden(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("missing " + path.string());
  std::stringstream text;
  text << file.rdbuf();
  return parse_json(text.str(), {.max_bytes = 64u << 20, .max_depth = 64, .max_nodes = 5'000'000});
}

/// A two-dimensional little-endian f32 .npy file.
struct NpyMatrix {
  explicit NpyMatrix(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream stream;
    stream << file.rdbuf();
    const std::string bytes = stream.str();
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0 || bytes[6] != 1)
      throw std::runtime_error("not npy 1.x");
    const std::size_t header = static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
    const std::string text = bytes.substr(10, header);
    if (text.find("'<f4'") == std::string::npos || text.find("False") == std::string::npos)
      throw std::runtime_error("not f32");
    const std::size_t open = text.find('(');
    char comma = 0;
    std::istringstream(text.substr(open + 1)) >> rows >> comma >> columns;
    if (bytes.size() != 10 + header + rows * columns * 4) throw std::runtime_error("npy size");
    values.resize(rows * columns);
    std::memcpy(values.data(), bytes.data() + 10 + header, values.size() * 4);
  }
  std::size_t rows = 0, columns = 0;
  std::vector<float> values;
};

/// A folder of symbolic links to `folder`'s files, with `config` in place of config.json. Removed at the end.
class VariantFolder {
 public:
  VariantFolder(const std::filesystem::path& folder, const std::string& config) {
    std::string name = (std::filesystem::temp_directory_path() / "inferd_variant_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string file = entry.path().filename().string();
      if (file == "config.json") continue;
      std::filesystem::create_symlink(std::filesystem::absolute(entry.path()),
                                      path_ / (file == config ? "config.json" : file));
    }
  }
  ~VariantFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  VariantFolder(const VariantFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A CPU backend for tests: exact f32 activations unless told otherwise.
inline std::unique_ptr<Backend> test_backend(ActivationMode mode = ActivationMode::f32, int threads = 2,
                                             const std::string& isa = "auto") {
  CpuBackendOptions options;
  options.threads = threads;
  options.isa = isa;
  options.activations = mode;
  return make_cpu_backend(options);
}

/// A host array on the device.
class DeviceArray {
 public:
  DeviceArray(Backend& backend, const std::vector<std::int32_t>& values)
      : buffer_(backend.allocate(std::max<std::size_t>(1, values.size()) * 4)),
        count_(static_cast<std::int64_t>(values.size())) {
    if (!values.empty()) backend.upload(buffer_->data(), values.data(), values.size() * 4);
  }
  Tensor tensor() const { return Tensor(buffer_->data(), DType::i32, {count_}); }
  Tensor matrix(std::int64_t rows) const { return Tensor(buffer_->data(), DType::i32, {rows, count_ / rows}); }

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
  std::int64_t count_;
};

/// Rows of floats brought back from the device.
inline std::vector<std::vector<float>> download_rows(Backend& backend, const Tensor& tensor) {
  std::vector<std::vector<float>> rows(static_cast<std::size_t>(tensor.dim(0)));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].resize(static_cast<std::size_t>(tensor.dim(1)));
    backend.download(rows[i].data(), tensor.as<float>() + static_cast<std::int64_t>(i) * tensor.row_stride,
                     rows[i].size() * 4);
  }
  return rows;
}

/// A loaded checkpoint.
struct TestModel {
  TestModel(Backend& on, const std::filesystem::path& path, std::int64_t max_batch_tokens = 256,
            ModelOptions options = {})
      : backend(on), checkpoint(Checkpoint::open(path)), config(read_model_config(*checkpoint)) {
    options.max_batch_tokens = max_batch_tokens;
    options.max_logit_rows = max_batch_tokens;
    loaded = load_model(*checkpoint, config, on, options);
  }
  Backend& backend;
  std::unique_ptr<Checkpoint> checkpoint;
  ModelConfig config;
  LoadedModel loaded;
};

/// KV memory of all layers and the sequences in it. Blocks are handed out in a shuffled order; unwritten memory is NaN.
class Sequences {
 public:
  Sequences(Backend& backend, Model& model, DType kv_type, int blocks = 256, unsigned seed = 1)
      : backend_(backend), model_(model), free_(static_cast<std::size_t>(blocks)) {
    std::iota(free_.begin(), free_.end(), 0);
    std::mt19937 engine(seed);
    std::shuffle(free_.begin(), free_.end(), engine);
    const KvSpec spec = model.kv_spec();
    for (int layer = 0; layer < spec.num_layers; ++layer) {
      const bool fine = std::binary_search(spec.fine_layers.begin(), spec.fine_layers.end(), layer);
      const DType type = fine && (kv_type == DType::q8_0 || kv_type == DType::fp8) ? DType::f16 : kv_type;
      const std::size_t bytes = kv_bytes(type, std::int64_t{blocks} * spec.num_kv_heads * kBlock, spec.head_dim);
      const std::vector<std::byte> poison(bytes, std::byte{0xff});
      KvLayer kv;
      for (Tensor* tensor : {&kv.keys, &kv.values}) {
        memory_.push_back(backend.allocate(bytes));
        backend.upload(memory_.back()->data(), poison.data(), bytes);
        *tensor = Tensor(memory_.back()->data(), type, {blocks, spec.num_kv_heads, kBlock, spec.head_dim});
      }
      kv.block_size = kBlock;
      layers_.push_back(kv);
    }
  }

  /// What one sequence brings to a step. Sequence ids are chosen by the caller.
  struct Feed {
    int sequence = 0;
    std::vector<std::int32_t> tokens;
    bool all_logits = false;    // else the last row's only
    std::int32_t adapter = -1;  // slot
  };

  /// One forward; returns the asked rows of logits in order.
  std::vector<std::vector<float>> step(const std::vector<Feed>& feeds, const LayerHook& hook = {}) {
    std::vector<std::int32_t> tokens, positions, slots, starts = {0}, contexts, rows, blocks, rope_rows, prefixes,
                                                        adapters;
    std::size_t max_blocks = 0;
    BatchTensors batch;
    for (const Feed& feed : feeds) {
      State& state = state_of(feed.sequence);
      if (state.length == 0) state.traits = model_.prompt_traits(state.prompt.empty() ? feed.tokens : state.prompt);
      prefixes.push_back(state.traits.context);
      for (std::size_t i = 0; i < feed.tokens.size(); ++i) {
        if (state.length % kBlock == 0) {
          if (free_.empty()) throw std::runtime_error("out of KV blocks");
          state.blocks.push_back(free_.back());
          free_.pop_back();
        }
        if (feed.all_logits || i + 1 == feed.tokens.size()) rows.push_back(static_cast<std::int32_t>(tokens.size()));
        tokens.push_back(feed.tokens[i]);
        adapters.push_back(feed.adapter);
        const TokenPlace place = model_.place(state.traits, state.length);
        positions.push_back(place.position);
        blocks.push_back(place.block_position);
        rope_rows.push_back(place.rope_row);
        slots.push_back(state.blocks.back() * kBlock + state.length % kBlock);
        ++state.length;
      }
      starts.push_back(static_cast<std::int32_t>(tokens.size()));
      contexts.push_back(state.length);
      max_blocks = std::max(max_blocks, state.blocks.size());
      batch.max_query_len = std::max(batch.max_query_len, static_cast<std::int32_t>(feed.tokens.size()));
      batch.max_context_len = std::max(batch.max_context_len, state.length);
    }
    std::vector<std::int32_t> tables(feeds.size() * max_blocks, 0x7fffffff);
    for (std::size_t s = 0; s < feeds.size(); ++s) {
      const State& state = state_of(feeds[s].sequence);
      std::copy(state.blocks.begin(), state.blocks.end(), tables.begin() + static_cast<std::ptrdiff_t>(s * max_blocks));
    }
    const DeviceArray d_tokens(backend_, tokens), d_positions(backend_, positions), d_slots(backend_, slots);
    const DeviceArray d_starts(backend_, starts), d_contexts(backend_, contexts), d_tables(backend_, tables),
        d_rows(backend_, rows), d_blocks(backend_, blocks), d_rope_rows(backend_, rope_rows),
        d_prefixes(backend_, prefixes);
    const DeviceArray d_adapters(backend_, adapters);
    const bool adapted = std::any_of(feeds.begin(), feeds.end(), [](const Feed& feed) { return feed.adapter >= 0; });
    if (adapted) batch.adapters = d_adapters.tensor();
    if (model_.has_places()) {
      batch.block_positions = d_blocks.tensor();
      batch.rope_rows = d_rope_rows.tensor();
      batch.prefix_lens = d_prefixes.tensor();
    }
    batch.tokens = d_tokens.tensor();
    batch.positions = d_positions.tensor();
    batch.slots = d_slots.tensor();
    batch.query_starts = d_starts.tensor();
    batch.context_lens = d_contexts.tensor();
    batch.block_tables = d_tables.matrix(static_cast<std::int64_t>(feeds.size()));
    batch.num_tokens = static_cast<std::int32_t>(tokens.size());
    batch.num_sequences = static_cast<std::int32_t>(feeds.size());
    const Tensor logits = model_.forward(batch, layers_, d_rows.tensor(), hook);
    backend_.synchronize();
    return download_rows(backend_, logits);
  }

  /// Says what the whole prompt of a sequence will be, before its first part is fed.
  void announce(int sequence, const std::vector<std::int32_t>& prompt) { state_of(sequence).prompt = prompt; }

  /// Gives a sequence's blocks back.
  void drop(int sequence) {
    State& state = state_of(sequence);
    free_.insert(free_.end(), state.blocks.begin(), state.blocks.end());
    state = State(sequence);
  }

 private:
  static constexpr int kBlock = 16;
  struct State {
    explicit State(int number) : id(number) {}
    int id = 0;
    std::int32_t length = 0;
    std::vector<std::int32_t> blocks;
    std::vector<std::int32_t> prompt;  // if announced
    PromptTraits traits;
  };
  State& state_of(int id) {
    for (State& state : states_) {
      if (state.id == id) return state;
    }
    states_.emplace_back(id);
    return states_.back();
  }

  Backend& backend_;
  Model& model_;
  std::vector<std::int32_t> free_;
  std::vector<std::unique_ptr<DeviceBuffer>> memory_;
  std::vector<KvLayer> layers_;
  std::vector<State> states_;
};

/// Runs encoder inputs as one batch; returns one vector each.
inline std::vector<std::vector<float>> encode(Backend& backend, EncoderModel& model,
                                              const std::vector<std::vector<std::int32_t>>& inputs,
                                              const std::vector<std::vector<std::int32_t>>& types = {}) {
  std::vector<std::int32_t> tokens, positions, type_ids, starts = {0};
  for (const auto& each : types) type_ids.insert(type_ids.end(), each.begin(), each.end());
  BatchTensors batch;
  for (const auto& input : inputs) {
    for (std::size_t i = 0; i < input.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
    tokens.insert(tokens.end(), input.begin(), input.end());
    starts.push_back(static_cast<std::int32_t>(tokens.size()));
    batch.max_query_len = std::max(batch.max_query_len, static_cast<std::int32_t>(input.size()));
  }
  const DeviceArray d_tokens(backend, tokens), d_positions(backend, positions), d_starts(backend, starts);
  batch.tokens = d_tokens.tensor();
  batch.positions = d_positions.tensor();
  batch.query_starts = d_starts.tensor();
  const DeviceArray d_types(backend, type_ids);
  if (!type_ids.empty()) batch.type_ids = d_types.tensor();
  batch.num_tokens = static_cast<std::int32_t>(tokens.size());
  batch.num_sequences = static_cast<std::int32_t>(inputs.size());
  const Tensor out = model.encode(batch, {});
  backend.synchronize();
  return download_rows(backend, out);
}

inline std::int32_t argmax(const std::vector<float>& row) {
  return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

inline std::vector<std::int32_t> ids_of(const Json& array) { return array.get<std::vector<std::int32_t>>(); }

/// max|Δ| / max|reference|; infinite if anything is NaN.
inline double relative_error(const float* got, const std::vector<float>& expected, double scale) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    if (std::isnan(error)) return INFINITY;
    worst = std::max(worst, error);
  }
  return worst / scale;
}

}  // namespace inferd::testing
