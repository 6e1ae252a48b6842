// The view over source and cache, and the work of filling the cache.
#include "engine/quantize/quantized_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <vector>

#include "base/errors.h"
#include "base/log.h"
#include "engine/quantize/quantized_file.h"
#include "engine/quantize/row_quantizer.h"
#include "engine/weights/summary.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

/// Goes into every key: raise it when the same weights come to other blocks.
constexpr std::string_view kMethod = "1";
constexpr std::size_t kPanelBytes = 32u << 20;  // of blocks computed, then written
constexpr std::int64_t kTaskRows = 16;

class QuantizedCheckpoint final : public Checkpoint {
 public:
  QuantizedCheckpoint(std::unique_ptr<Checkpoint> source, const QuantizePlan& plan,
                      std::shared_ptr<const MappedFile> file, std::string label)
      : source_(std::move(source)), file_(std::move(file)), label_(std::move(label)) {
    tensors_.assign(source_->tensors().begin(), source_->tensors().end());
    for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
    for (const PlannedTensor& planned : plan.tensors) {
      StoredTensor& tensor = tensors_[index_.find(planned.source->name)->second];
      tensor.dtype = planned.dtype;
      tensor.data = file_ ? file_->bytes().data() + kQuantizedHeaderBytes + planned.offset : nullptr;
      tensor.bytes = planned.bytes;
    }
  }

  CheckpointFormat format() const override { return source_->format(); }
  const std::string& path() const override { return source_->path(); }
  const GgufMetadata* metadata() const override { return source_->metadata(); }
  std::optional<Json> json(std::string_view file) const override { return source_->json(file); }
  std::optional<std::string> read_file(std::string_view file, std::size_t max_bytes) const override {
    return source_->read_file(file, max_bytes);
  }
  std::span<const StoredTensor> tensors() const override { return tensors_; }
  const StoredTensor* find(std::string_view name) const override {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }
  void release(const StoredTensor& tensor) const override {
    const auto mapped = file_ ? file_->bytes() : std::span<const std::byte>();
    if (tensor.data >= mapped.data() && tensor.data < mapped.data() + mapped.size()) {
      file_->release_pages(tensor.data, tensor.bytes);
    } else {
      source_->release(tensor);
    }
  }
  std::string_view quantized_at_load() const override { return label_; }

 private:
  std::unique_ptr<Checkpoint> source_;
  std::shared_ptr<const MappedFile> file_;  // or null: planned only
  std::string label_;                       // "int4 from BF16"
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// What the blocks depend on: the method, the plan, and every byte of the matrices.
Digest content_key(const Checkpoint& source, const QuantizePlan& plan, ThreadPool& pool) {
  std::string label(kMethod);
  std::vector<std::span<const std::byte>> parts;
  for (const PlannedTensor& planned : plan.tensors) {
    const StoredTensor& tensor = *planned.source;
    label += "\n" + tensor.name + " " + std::string(dtype_info(tensor.dtype).name) + " " +
             std::to_string(planned.rows) + " " + std::to_string(planned.columns) + " " +
             std::string(dtype_info(planned.dtype).name) + " " + std::to_string(planned.offset);
    parts.emplace_back(tensor.data, tensor.bytes);
  }
  const Digest key = digest_of(label, parts, pool);
  for (const PlannedTensor& planned : plan.tensors) source.release(*planned.source);
  return key;
}

/// Logs each tenth of the work, and passes progress on.
class ProgressLine {
 public:
  ProgressLine(const QuantizeOptions& options, std::size_t total) : options_(options), total_(total) {}
  void add(std::size_t bytes) {
    done_ += bytes;
    if (options_.progress) options_.progress(done_, total_);
    const std::size_t tenth = done_ / (total_ / 10 + 1);
    if (tenth <= logged_) return;
    logged_ = tenth;
    spdlog::info("quantising {}: {}%", log_safe(options_.model), tenth * 10);
  }

 private:
  const QuantizeOptions& options_;
  std::size_t total_, done_ = 0, logged_ = 0;
};

/// Rows [first, first + rows) of the planned tensor to `out`.
void quantize_rows(const PlannedTensor& planned, std::int64_t first, std::int64_t rows, std::byte* out,
                   ThreadPool& pool) {
  const StoredTensor& tensor = *planned.source;
  const std::int64_t columns = planned.columns;
  const std::size_t from_bytes = row_bytes(tensor.dtype, columns), to_bytes = row_bytes(planned.dtype, columns);
  std::vector<std::vector<float>> widened(static_cast<std::size_t>(pool.size()),
                                          std::vector<float>(static_cast<std::size_t>(columns)));
  std::atomic<std::int64_t> bad{-1};
  pool.run((rows + kTaskRows - 1) / kTaskRows, [&](std::int64_t task, int worker) {
    float* values = widened[static_cast<std::size_t>(worker)].data();
    for (std::int64_t row = task * kTaskRows; row < std::min(rows, (task + 1) * kTaskRows); ++row) {
      dequantize_row(tensor.dtype, tensor.data + static_cast<std::size_t>(first + row) * from_bytes, values, columns);
      if (!quantize_row(planned.dtype, values, columns, out + static_cast<std::size_t>(row) * to_bytes)) {
        bad = first + row;
      }
    }
  });
  if (bad >= 0) {
    throw CheckpointError(tensor.file, log_safe(tensor.name) + " row " + std::to_string(bad.load()),
                          "finite weights of at most 65504", "another");
  }
}

/// All blocks of the plan, panel by panel; never more than a panel of them in memory.
void make_payload(const Checkpoint& source, const QuantizePlan& plan, const QuantizeOptions& options, ThreadPool& pool,
                  const PayloadSink& sink) {
  std::size_t total = 0;
  for (const PlannedTensor& planned : plan.tensors) total += planned.source->bytes;
  ProgressLine progress(options, total);
  std::vector<std::byte> panel;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& planned = plan.tensors[i];
    const StoredTensor& tensor = *planned.source;
    const std::size_t to_bytes = row_bytes(planned.dtype, planned.columns);
    const auto panel_rows = std::max<std::int64_t>(1, static_cast<std::int64_t>(kPanelBytes / to_bytes));
    for (std::int64_t row = 0; row < planned.rows; row += panel_rows) {
      const std::int64_t rows = std::min(panel_rows, planned.rows - row);
      panel.resize(static_cast<std::size_t>(rows) * to_bytes);
      quantize_rows(planned, row, rows, panel.data(), pool);
      sink(panel.data(), panel.size());
      progress.add(static_cast<std::size_t>(rows) * row_bytes(tensor.dtype, planned.columns));
    }
    const std::size_t next = i + 1 < plan.tensors.size() ? plan.tensors[i + 1].offset : plan.payload_bytes;
    panel.assign(next - planned.offset - planned.bytes, std::byte{0});
    sink(panel.data(), panel.size());
    source.release(tensor);
  }
}

/// Tells the files of one model from those of others, whatever it holds at the time.
Digest source_key(const Checkpoint& source, ThreadPool& pool) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(source.path(), error);
  return digest_of(error ? source.path() : real.string(), {}, pool);
}

std::string label_of(const Checkpoint& source, LoadQuantization to) {
  return std::string(load_quantization_name(to)) + " from " + quantization_name(source);
}

void advise(const Checkpoint& source, const QuantizeOptions& options) {
  const std::int64_t parameters = parameter_count(source);
  if (parameters >= kSmallModelParameters) return;
  spdlog::warn(
      "model {} has {:.0f} M parameters: small models should not be quantised, they lose the most; quantization: none "
      "keeps its weights as they are",
      log_safe(options.model), static_cast<double>(parameters) / 1e6);
}

/// The blocks, from the cache or made anew.
std::shared_ptr<const MappedFile> blocks_of(const Checkpoint& source, const QuantizePlan& plan,
                                            const QuantizeOptions& options, ThreadPool& pool) {
  const Digest key = content_key(source, plan, pool);
  const PayloadMaker make = [&](const PayloadSink& sink) { make_payload(source, plan, options, pool, sink); };
  if (options.cache.dir.empty()) return quantize_in_memory(key, make, pool);
  const std::string name = std::string(load_quantization_name(options.to)) + "-" + hex_text(key) + ".weights";
  const std::filesystem::path path = options.cache.dir / name;
  const std::string shown = log_safe(path.string());
  std::string problem;
  if (auto cached = open_quantized_file(path, key, plan.payload_bytes, pool, &problem)) {
    spdlog::info("model {}: {} weights from {}", log_safe(options.model), load_quantization_name(options.to), shown);
    touch_quantized_file(path);
    return cached;
  }
  if (!problem.empty()) spdlog::warn("{} is not used and made anew: {}", shown, problem);
  spdlog::info("quantising {} to {} on {} threads", log_safe(options.model), load_quantization_name(options.to),
               pool.size());
  try {
    write_quantized_file(path, key, source_key(source, pool), make, pool);
    if (auto written = open_quantized_file(path, key, plan.payload_bytes, pool, &problem)) {
      prune_cache(path, options.cache.limit);
      return written;
    }
    throw CacheWriteError(shown + ": written, but " + (problem.empty() ? "gone" : problem));
  } catch (const CacheWriteError& error) {
    spdlog::warn("quantised weights cannot be kept, the next start computes them again: {}", error.what());
  }
  return quantize_in_memory(key, make, pool);
}

}  // namespace

std::unique_ptr<Checkpoint> quantize_checkpoint(std::unique_ptr<Checkpoint> source, const QuantizeOptions& options) {
  const QuantizePlan plan = plan_quantization(*source, options.to);
  advise(*source, options);
  ThreadPool pool(options.threads > 0 ? options.threads : default_thread_count());
  auto file = blocks_of(*source, plan, options, pool);
  spdlog::info("model {}: {} of weights became {} ({} matrices to {})", log_safe(options.model),
               megabytes(plan.bytes_before), megabytes(plan.bytes_after), plan.tensors.size(),
               load_quantization_name(options.to));
  std::string label = label_of(*source, options.to);
  return std::make_unique<QuantizedCheckpoint>(std::move(source), plan, std::move(file), std::move(label));
}

std::unique_ptr<Checkpoint> planned_checkpoint(std::unique_ptr<Checkpoint> source, LoadQuantization to) {
  const QuantizePlan plan = plan_quantization(*source, to);
  std::string label = label_of(*source, to);
  return std::make_unique<QuantizedCheckpoint>(std::move(source), plan, nullptr, std::move(label));
}

}  // namespace inferd
