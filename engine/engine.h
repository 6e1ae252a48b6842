// Engine: the thread-safe face of one device group; owns the engine thread that steps its models in turn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/errors.h"
#include "engine/models/model.h"
#include "engine/options.h"
#include "engine/request.h"
#include "engine/token_stream.h"

namespace inferd {

class EngineCore;

/// What /metrics and /health read; a consistent copy.
struct DecoderStats {
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  std::int64_t kv_blocks_total = 0;
  std::int64_t kv_blocks_used = 0;  // referenced by a live sequence
  std::int64_t preemptions = 0;     // ever
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0;  // computed, ever
  std::int64_t cached_prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t cancelled = 0;
  std::int64_t kv_blocks_cached = 0;  // unreferenced, kept for their prefix
  std::int64_t finished = 0;          // ever, for whatever reason
  std::int64_t drafts = 0;            // guesses at next tokens, ever
  std::int64_t draft_tokens = 0;      // tokens in them
  std::int64_t accepted_draft_tokens = 0;
  std::int64_t queue_timeouts = 0;  // of those, ended by queue_wait_s
};

/// What an encoder reads: token ids with their specials.
struct EncodeInput {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> type_ids;  // 0 or 1 for each token, or empty: all 0
};

/// One embedding input's answer, or why there is none.
struct EncodeResult {
  std::vector<float> vector;                 // [embedding_dim]; of a reranker: one score
  bool ok = false;                           // false: see reason
  FinishReason reason = FinishReason::none;  // stop if ok; else cancelled, shutdown, engine_failed, or error (NaN/Inf)
};

/// A batch of encoder inputs being worked on; shared by the HTTP thread and the engine thread.
class EncodeTicket {
 public:
  virtual ~EncodeTicket() = default;
  /// Waits for all inputs or `timeout`; true when done.
  virtual bool wait(std::chrono::milliseconds timeout) = 0;
  virtual void cancel() = 0;
  /// Valid once wait returned true; one per input, in order.
  virtual std::vector<EncodeResult> take() = 0;
};

using ModelHandle = int;  // index of a decoder or encoder added to this engine

/// Serves the models of one device group. Thread-safe after start(). Owned by main; outlives every TokenStream it hands
/// out.
class Engine {
 public:
  explicit Engine(const Clock& clock);
  ~Engine();
  Engine(const Engine&) = delete;

  /// Before start(). The backend must outlive the engine. `draft`: as of EngineCore.
  ModelHandle add_decoder(std::unique_ptr<Model> model, Backend& backend, const EngineOptions& options,
                          std::unique_ptr<Model> draft = nullptr);
  ModelHandle add_encoder(std::unique_ptr<EncoderModel> model, Backend& backend, std::int64_t max_queued_inputs);
  void start();

  /// Queues a request without blocking. Rejects when the inbox is full, the prompt cannot fit, or draining.
  std::variant<std::shared_ptr<TokenStream>, Rejection> submit(ModelHandle decoder, Request request);
  /// Queues encoder inputs (token ids with their specials, each ≤ max_sequence_tokens) without blocking.
  std::variant<std::shared_ptr<EncodeTicket>, Rejection> encode(ModelHandle encoder, std::vector<EncodeInput> inputs);

  /// Takes an adapter up for a decoder and returns the number by which requests name it; waits for the engine thread to
  /// be between steps. Throws CheckpointError if it does not fit the model, MemoryError, ConfigError once the engine
  /// has stopped.
  std::uint64_t load_adapter(ModelHandle decoder, const LoraAdapter& adapter);
  /// From now on requests that name it are rejected; those already submitted end with it. False if it is not loaded.
  bool unload_adapter(ModelHandle decoder, std::uint64_t adapter);

  /// Tokens one request may have in all (prompt + output); of an encoder: tokens one input may have.
  std::int64_t context_length(ModelHandle model) const;
  const ModelInfo& info(ModelHandle model) const;
  DecoderStats stats(ModelHandle decoder) const;

  /// From now on every submit is rejected with draining.
  void begin_drain();
  /// True when nothing runs or waits.
  bool idle() const;
  /// Ends everything still alive with FinishReason::shutdown and joins the thread.
  void stop();

  /// When the engine thread last made progress (for the watchdog and /health); now, while it is parked for want of
  /// work.
  TimePoint last_progress() const;
  /// Why the engine thread gave up (a lost device, a broken invariant), or empty. From then on everything in flight
  /// has ended with FinishReason::engine_failed and every submit is rejected with draining.
  std::string failure() const;
  /// The exit code that failure asks for; ok without one.
  ExitCode failure_code() const;
  /// Size of the KV pool in bytes, for the log line; 0 for encoders.
  std::size_t kv_bytes(ModelHandle decoder) const;
  /// Bytes one token takes in the KV pool.
  std::size_t kv_bytes_per_token(ModelHandle decoder) const;
  /// Inputs of this encoder that wait or are being worked on.
  std::int64_t pending_inputs(ModelHandle encoder) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace inferd
