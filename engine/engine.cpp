// Engine: inboxes, the engine thread, and the numbers other threads may read.
#include "engine/engine.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/encoder_core.h"
#include "engine/engine_core.h"

namespace inferd {
namespace {

// While an encoder works, decoders get a step at each layer boundary once this long has passed since their last one.
constexpr std::chrono::milliseconds kDecodeSlice{10};

struct DecoderMail {
  Request request;
  std::shared_ptr<TokenStream> stream;
  TimePoint arrival;
};

/// One served model. The cores belong to the engine thread; what follows `inbox` is guarded by Impl::mutex.
struct Served {
  std::unique_ptr<EngineCore> decoder;
  std::unique_ptr<EncoderCore> encoder;
  std::vector<DecoderMail> inbox;
  std::vector<std::shared_ptr<EncodeJob>> jobs;
  std::int64_t in_inbox = 0;  // requests, or inputs of an encoder
  std::int64_t in_core = 0;
  DecoderStats stats;
  std::set<std::uint64_t> adapters;  // that requests may name

  std::int64_t alive() const { return in_inbox + in_core; }
};

}  // namespace

struct Engine::Impl {
  explicit Impl(const Clock& engine_clock) : clock(engine_clock) {}

  void run();
  bool turn();
  void turn_decoders();
  bool turn_encoder(Served& served);
  void drain_inbox(Served& served);
  void publish(Served& served);
  bool is_started() const {
    const std::lock_guard lock(mutex);
    return started;
  }
  void run_commands();
  void on_engine_thread(const std::function<void()>& command);
  void end_all(FinishReason reason);
  void note_progress() { progress_ns.store(clock.now().time_since_epoch().count(), std::memory_order_relaxed); }
  Served& at(ModelHandle model) const {
    INFERD_CHECK(model >= 0 && static_cast<std::size_t>(model) < models.size());
    return *models[static_cast<std::size_t>(model)];
  }

  const Clock& clock;
  std::vector<std::unique_ptr<Served>> models;  // fixed after start()
  std::size_t next_encoder = 0;
  TimePoint last_decode{};

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::packaged_task<void()>> commands;  // for the engine thread, between steps
  bool mail = false;
  bool stopping = false;
  bool draining = false;
  bool parked = false;
  bool started = false;
  std::string failure;
  ExitCode failure_code = ExitCode::ok;
  std::atomic<std::int64_t> progress_ns{0};
  std::thread thread;
};

void Engine::Impl::drain_inbox(Served& served) {
  std::vector<DecoderMail> requests;
  std::vector<std::shared_ptr<EncodeJob>> jobs;
  {
    const std::lock_guard lock(mutex);
    requests.swap(served.inbox);
    jobs.swap(served.jobs);
    served.in_core += served.in_inbox;
    served.in_inbox = 0;
  }
  for (DecoderMail& item : requests) {
    served.decoder->add(std::move(item.request), std::move(item.stream), item.arrival);
  }
  for (auto& job : jobs) served.encoder->add(std::move(job));
}

void Engine::Impl::publish(Served& served) {
  const std::lock_guard lock(mutex);
  if (served.decoder) {
    served.stats = served.decoder->stats();
    served.in_core = served.decoder->size();
  } else {
    served.in_core = served.encoder->size();
  }
}

/// What other threads asked for, after the requests they had sent before.
void Engine::Impl::run_commands() {
  std::vector<std::packaged_task<void()>> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(commands);
  }
  if (taken.empty()) return;
  for (const auto& served : models) drain_inbox(*served);
  for (auto& command : taken) command();
}

/// Runs `command` where steps run, and waits; what it throws is thrown here. The thread must have been started.
void Engine::Impl::on_engine_thread(const std::function<void()>& command) {
  std::packaged_task<void()> task(command);
  std::future<void> done = task.get_future();
  {
    const std::lock_guard lock(mutex);
    if (stopping || !failure.empty()) throw ConfigError("the engine has stopped");
    commands.push_back(std::move(task));
    mail = true;
  }
  wake.notify_one();
  done.get();
}

void Engine::Impl::turn_decoders() {
  for (const auto& served : models) {
    if (!served->decoder) continue;
    drain_inbox(*served);
    if (served->decoder->size() == 0) continue;
    served->decoder->step();
    publish(*served);
  }
  last_decode = clock.now();
}

bool Engine::Impl::turn_encoder(Served& served) {
  drain_inbox(served);
  const bool worked = served.encoder->step([this](int) {
    note_progress();
    if (clock.now() - last_decode >= kDecodeSlice) turn_decoders();
  });
  if (worked || served.encoder->size() == 0) publish(served);
  return worked;
}

/// One step of each decoder, then at most one encoder batch. True while there is work.
bool Engine::Impl::turn() {
  run_commands();
  turn_decoders();
  for (std::size_t tried = 0; tried < models.size(); ++tried) {
    Served& served = *models[next_encoder++ % models.size()];
    if (served.encoder && turn_encoder(served)) break;
  }
  note_progress();
  const std::lock_guard lock(mutex);
  for (const auto& served : models) {
    if (served->alive() > 0) return true;
  }
  return false;
}

void Engine::Impl::end_all(FinishReason reason) {
  run_commands();  // nobody waits for ever
  for (const auto& served : models) {
    drain_inbox(*served);
    if (served->decoder) served->decoder->finish_all(reason);
    if (served->encoder) served->encoder->finish_all(reason);
    publish(*served);
  }
}

void Engine::Impl::run() {
  try {
    for (;;) {
      {
        std::unique_lock lock(mutex);
        if (!mail && !stopping) {
          parked = true;
          wake.wait(lock, [this] { return mail || stopping; });
          parked = false;
          note_progress();
        }
        if (stopping) break;
        mail = false;
      }
      if (turn()) {
        const std::lock_guard lock(mutex);
        mail = true;
      }
    }
    end_all(FinishReason::shutdown);
  } catch (const std::exception& error) {
    spdlog::critical("engine stopped: {}", error.what());
    const auto* fatal = dynamic_cast<const FatalError*>(&error);
    {
      const std::lock_guard lock(mutex);
      draining = true;
      failure = error.what();
      failure_code = fatal != nullptr ? fatal->code : ExitCode::internal;
    }
    end_all(FinishReason::engine_failed);
  }
}

Engine::Engine(const Clock& clock) : impl_(std::make_unique<Impl>(clock)) {}

Engine::~Engine() { stop(); }

ModelHandle Engine::add_decoder(std::unique_ptr<Model> model, Backend& backend, const EngineOptions& options,
                                std::unique_ptr<Model> draft) {
  INFERD_CHECK(!impl_->thread.joinable());
  auto served = std::make_unique<Served>();
  served->decoder = std::make_unique<EngineCore>(std::move(model), backend, options, impl_->clock, std::move(draft));
  served->decoder->on_progress([impl = impl_.get()] { impl->note_progress(); });
  served->stats = served->decoder->stats();
  impl_->models.push_back(std::move(served));
  return static_cast<ModelHandle>(impl_->models.size()) - 1;
}

ModelHandle Engine::add_encoder(std::unique_ptr<EncoderModel> model, Backend& backend, std::int64_t max_queued_inputs) {
  INFERD_CHECK(!impl_->thread.joinable());
  auto served = std::make_unique<Served>();
  served->encoder = std::make_unique<EncoderCore>(std::move(model), backend, max_queued_inputs);
  impl_->models.push_back(std::move(served));
  return static_cast<ModelHandle>(impl_->models.size()) - 1;
}

void Engine::start() {
  INFERD_CHECK(!impl_->thread.joinable());
  impl_->note_progress();
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->started = true;
  }
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

std::variant<std::shared_ptr<TokenStream>, Rejection> Engine::submit(ModelHandle decoder, Request request) {
  Served& served = impl_->at(decoder);
  INFERD_CHECK(served.decoder != nullptr);
  if (const auto rejection = served.decoder->check(request)) return *rejection;
  auto stream = std::make_shared<TokenStream>();
  const TimePoint now = impl_->clock.now();
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->draining || impl_->stopping) return Rejection{Rejection::Kind::draining};
    if (request.adapter != 0 && !served.adapters.contains(request.adapter)) {
      return Rejection{Rejection::Kind::no_adapter};
    }
    if (served.alive() >= served.decoder->capacity()) return served.decoder->queue_full(served.alive());
    served.inbox.push_back({std::move(request), stream, now});
    ++served.in_inbox;
    impl_->mail = true;
  }
  impl_->wake.notify_one();
  return stream;
}

std::variant<std::shared_ptr<EncodeTicket>, Rejection> Engine::encode(ModelHandle encoder,
                                                                      std::vector<EncodeInput> inputs) {
  Served& served = impl_->at(encoder);
  INFERD_CHECK(served.encoder != nullptr);
  if (const auto rejection = served.encoder->check(inputs)) return *rejection;
  const auto count = static_cast<std::int64_t>(inputs.size());
  auto job = std::make_shared<EncodeJob>(std::move(inputs));
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->draining || impl_->stopping) return Rejection{Rejection::Kind::draining};
    const std::int64_t capacity = served.encoder->capacity();
    if (served.alive() + count > capacity) return Rejection{Rejection::Kind::queue_full, capacity, served.alive()};
    served.jobs.push_back(job);
    served.in_inbox += count;
    impl_->mail = true;
  }
  impl_->wake.notify_one();
  return std::shared_ptr<EncodeTicket>(std::move(job));
}

std::uint64_t Engine::load_adapter(ModelHandle decoder, const LoraAdapter& adapter) {
  Served& served = impl_->at(decoder);
  INFERD_CHECK(served.decoder != nullptr);
  std::uint64_t id = 0;
  const auto load = [&] { id = served.decoder->load_adapter(adapter); };
  if (impl_->is_started()) {
    impl_->on_engine_thread(load);
  } else {
    load();
  }
  const std::lock_guard lock(impl_->mutex);
  served.adapters.insert(id);
  return id;
}

bool Engine::unload_adapter(ModelHandle decoder, std::uint64_t adapter) {
  Served& served = impl_->at(decoder);
  {
    const std::lock_guard lock(impl_->mutex);
    if (served.adapters.erase(adapter) == 0) return false;
  }
  const auto retire = [&] { served.decoder->retire_adapter(adapter); };
  if (impl_->is_started()) {
    impl_->on_engine_thread(retire);
  } else {
    retire();
  }
  return true;
}

std::int64_t Engine::context_length(ModelHandle model) const {
  const Served& served = impl_->at(model);
  return served.decoder ? served.decoder->context_length() : served.encoder->max_input_tokens();
}

const ModelInfo& Engine::info(ModelHandle model) const {
  const Served& served = impl_->at(model);
  return served.decoder ? served.decoder->info() : served.encoder->info();
}

DecoderStats Engine::stats(ModelHandle decoder) const {
  const Served& served = impl_->at(decoder);
  const std::lock_guard lock(impl_->mutex);
  DecoderStats stats = served.stats;
  stats.waiting += served.in_inbox;
  return stats;
}

std::int64_t Engine::pending_inputs(ModelHandle encoder) const {
  const Served& served = impl_->at(encoder);
  const std::lock_guard lock(impl_->mutex);
  return served.alive();
}

void Engine::begin_drain() {
  const std::lock_guard lock(impl_->mutex);
  impl_->draining = true;
}

bool Engine::idle() const {
  const std::lock_guard lock(impl_->mutex);
  for (const auto& served : impl_->models) {
    if (served->alive() > 0) return false;
  }
  return true;
}

void Engine::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  if (impl_->thread.joinable()) {
    impl_->thread.join();
  } else {
    impl_->end_all(FinishReason::shutdown);  // never started: the inboxes may still hold requests
  }
}

TimePoint Engine::last_progress() const {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->parked) return impl_->clock.now();
  }
  return TimePoint(std::chrono::nanoseconds(impl_->progress_ns.load(std::memory_order_relaxed)));
}

std::string Engine::failure() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failure;
}

ExitCode Engine::failure_code() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failure_code;
}

std::size_t Engine::kv_bytes(ModelHandle decoder) const {
  const Served& served = impl_->at(decoder);
  return served.decoder ? served.decoder->kv_plan().bytes() : 0;
}

std::size_t Engine::kv_bytes_per_token(ModelHandle decoder) const {
  const Served& served = impl_->at(decoder);
  return served.decoder ? served.decoder->kv_plan().block_bytes / kKvBlockTokens : 0;
}

}  // namespace inferd
