// Engine with its thread: many submitters, cancels, encoders beside decoders, draining and stopping, a failing device.
#include <sys/resource.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/errors.h"
#include "engine/engine.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

using namespace std::chrono_literals;

struct Server {
  explicit Server(const SimOptions& with = small_sim(), EngineOptions options = small_options(64))
      : sim(with), engine(clock) {
    decoder = engine.add_decoder(make_sim_model(sim), backend, options);
    encoder = engine.add_encoder(make_sim_encoder(sim), backend, 200);
    engine.start();
  }
  std::shared_ptr<TokenStream> submit(Request request) {
    auto result = engine.submit(decoder, std::move(request));
    REQUIRE(std::holds_alternative<std::shared_ptr<TokenStream>>(result));
    return std::get<std::shared_ptr<TokenStream>>(result);
  }
  SystemClock clock;
  SimBackend backend;
  SimOptions sim;
  Engine engine;
  ModelHandle decoder = 0, encoder = 0;
};

Answer read_all(TokenStream& stream) {
  Answer answer;
  for (;;) {
    TokenEvent event;
    switch (stream.pop(&event, 20s)) {
      case TokenStream::PopResult::token:
        answer.tokens.push_back(event.token);
        break;
      case TokenStream::PopResult::finished:
        answer.reason = stream.finish_reason();
        return answer;
      case TokenStream::PopResult::timeout:
        answer.reason = FinishReason::none;
        return answer;
    }
  }
}

template <typename Condition>
bool wait_until(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

TEST_CASE("eight threads submit; every answer is the model's own") {
  Server server;
  std::atomic<int> wrong{0}, answered{0}, refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        const Request request = make_request(1 + (t * 31 + i * 7) % 90, 30, t * 100 + i);
        auto result = server.engine.submit(server.decoder, request);
        auto* stream = std::get_if<std::shared_ptr<TokenStream>>(&result);
        if (stream == nullptr) {
          ++refused;
          continue;
        }
        const Answer answer = read_all(**stream);
        const Answer alone = answer_alone(server.sim, request, 256);
        if (answer.tokens != alone.tokens || answer.reason != alone.reason) ++wrong;
        ++answered;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(answered + refused == 320);
  CHECK(refused == 0);
  CHECK(wait_until([&] { return server.engine.idle(); }));
  CHECK(server.engine.stats(server.decoder).finished == 320);
  CHECK(server.engine.stats(server.decoder).kv_blocks_used == 0);
}

TEST_CASE("the submit inbox is bounded") {
  SimOptions sim = small_sim();
  sim.step_s = 0.05;
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(64);
  options.max_concurrent_requests = 2;
  options.max_queued_requests = 4;
  Server server(sim, options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  int refused = 0;
  for (int i = 0; i < 20; ++i) {
    auto result = server.engine.submit(server.decoder, make_request(5, 200, i));
    if (auto* stream = std::get_if<std::shared_ptr<TokenStream>>(&result)) {
      streams.push_back(*stream);
    } else {
      CHECK(std::get<Rejection>(result).kind == Rejection::Kind::queue_full);
      ++refused;
    }
  }
  CHECK(streams.size() == 6);
  CHECK(refused == 14);
  for (auto& stream : streams) stream->cancel();
  for (auto& stream : streams) CHECK(read_all(*stream).reason == FinishReason::cancelled);
}

TEST_CASE("cancels from other threads, and readers that vanish") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  sim.step_s = 0.0005;
  Server server(sim);
  std::vector<std::thread> threads;
  std::atomic<int> odd{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 15; ++i) {
        auto result = server.engine.submit(server.decoder, make_request(20 + i, 150, t * 50 + i));
        auto* held = std::get_if<std::shared_ptr<TokenStream>>(&result);
        if (held == nullptr) continue;
        auto stream = std::move(*held);
        TokenEvent event;
        for (int tokens = 0; tokens < i; ++tokens) stream->pop(&event, 20s);
        if (i % 3 == 0) continue;  // drops the stream
        stream->cancel();
        const Answer answer = read_all(*stream);
        if (answer.reason != FinishReason::cancelled && answer.reason != FinishReason::length) ++odd;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(odd == 0);
  CHECK(wait_until([&] { return server.engine.idle(); }));
  CHECK(server.engine.stats(server.decoder).kv_blocks_used == 0);
}

TEST_CASE("stop while running ends every stream exactly once") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  sim.step_s = 0.001;
  Server server(sim);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 40; ++i) streams.push_back(server.submit(make_request(30, 200, i)));
  auto encoded = server.engine.encode(server.encoder, encode_inputs(std::vector<std::vector<TokenId>>(150, {1, 2, 3})));
  std::this_thread::sleep_for(20ms);
  server.engine.stop();
  for (auto& stream : streams) {
    const FinishReason reason = read_all(*stream).reason;
    CHECK((reason == FinishReason::shutdown || reason == FinishReason::length));
  }
  auto ticket = std::get<std::shared_ptr<EncodeTicket>>(encoded);
  CHECK(ticket->wait(0ms));
  auto late = server.engine.submit(server.decoder, make_request(3, 3));
  CHECK(std::get<Rejection>(late).kind == Rejection::Kind::draining);
  server.engine.stop();
}

TEST_CASE("draining refuses the new and finishes the old") {
  SimOptions sim = small_sim();
  sim.step_s = 0.001;
  Server server(sim);
  const Request request = make_request(30, 100, 4);
  const auto stream = server.submit(request);
  server.engine.begin_drain();
  CHECK_FALSE(server.engine.idle());
  auto late = server.engine.submit(server.decoder, make_request(3, 3));
  CHECK(std::get<Rejection>(late).kind == Rejection::Kind::draining);
  auto late_input = server.engine.encode(server.encoder, encode_inputs({{1}}));
  CHECK(std::get<Rejection>(late_input).kind == Rejection::Kind::draining);
  CHECK(read_all(*stream).tokens == answer_alone(sim, request, 256).tokens);
  CHECK(wait_until([&] { return server.engine.idle(); }));
}

TEST_CASE("an engine that never started, and one that is destroyed with work left") {
  SystemClock clock;
  SimBackend backend;
  std::shared_ptr<TokenStream> stream;
  {
    Engine engine(clock);
    const ModelHandle decoder = engine.add_decoder(make_sim_model(small_sim()), backend, small_options(8));
    stream = std::get<std::shared_ptr<TokenStream>>(engine.submit(decoder, make_request(3, 3)));
    CHECK_FALSE(engine.idle());
    CHECK(engine.stats(decoder).waiting == 1);
    CHECK(engine.kv_bytes(decoder) == 8 * kSimBlockBytes);
    CHECK(engine.kv_bytes_per_token(decoder) == kSimBlockBytes / 16);
    CHECK(engine.context_length(decoder) == 128);
    CHECK(engine.info(decoder).vocab_size == 48);
  }
  CHECK(stream->finish_reason() == FinishReason::shutdown);
}

TEST_CASE("encoder inputs are answered while decoders stream, and never hold them up") {
  SimOptions decoder_sim = small_sim();
  decoder_sim.eos_probability = 0.0;
  decoder_sim.step_s = 0.001;
  SimOptions encoder_sim = small_sim();
  encoder_sim.step_s = 0.4;  // one batch: 20 layers of 20 ms
  encoder_sim.layers = 20;
  encoder_sim.max_batch_tokens = 64;
  SystemClock clock;
  SimBackend backend;
  Engine engine(clock);
  const ModelHandle decoder = engine.add_decoder(make_sim_model(decoder_sim), backend, small_options(64));
  const ModelHandle encoder = engine.add_encoder(make_sim_encoder(encoder_sim), backend, 100);
  engine.start();
  const std::vector<std::vector<TokenId>> inputs(6, std::vector<TokenId>(30, 5));  // three batches, 1.2 s
  auto ticket = std::get<std::shared_ptr<EncodeTicket>>(engine.encode(encoder, encode_inputs(inputs)));
  std::this_thread::sleep_for(30ms);
  const Request request = make_request(20, 20, 3);
  auto stream = std::get<std::shared_ptr<TokenStream>>(engine.submit(decoder, request));
  const Answer answer = read_all(*stream);
  CHECK_FALSE(ticket->wait(0ms));  // 20 tokens came during about 20 layers, not after all batches
  CHECK(answer.tokens == answer_alone(decoder_sim, request, 256).tokens);
  REQUIRE(ticket->wait(20s));
  for (const auto& result : ticket->take()) CHECK(result.vector == sim_embedding(encoder_sim, inputs[0]));
  CHECK(wait_until([&] { return engine.pending_inputs(encoder) == 0; }));
  auto refused = engine.encode(encoder, encode_inputs(std::vector<std::vector<TokenId>>(101, {1})));
  CHECK(std::get<Rejection>(refused).kind == Rejection::Kind::never_fits);
}

TEST_CASE("an idle engine uses no CPU and counts as making progress") {
  Server server;
  CHECK(read_all(*server.submit(make_request(5, 5))).reason != FinishReason::none);
  REQUIRE(wait_until([&] { return server.engine.idle(); }));
  std::this_thread::sleep_for(20ms);
  const auto cpu = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec * 1e3 + usage.ru_utime.tv_usec * 1e-3 + usage.ru_stime.tv_sec * 1e3 +
           usage.ru_stime.tv_usec * 1e-3;
  };
  const double before = cpu();
  std::this_thread::sleep_for(300ms);
  CHECK(cpu() - before < 30.0);
  CHECK(server.clock.now() - server.engine.last_progress() < 5s);
}

/// Fails at its n-th forward, as a lost device does.
class FailingModel final : public Model {
 public:
  FailingModel(std::unique_ptr<Model> inner, int good) : inner_(std::move(inner)), left_(good) {}
  const ModelInfo& info() const override { return inner_->info(); }
  KvSpec kv_spec() const override { return inner_->kv_spec(); }
  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& rows,
                 const LayerHook& hook) override {
    if (left_-- == 0) throw FatalError(ExitCode::gpu_lost, "device lost");
    return inner_->forward(batch, kv, rows, hook);
  }

 private:
  std::unique_ptr<Model> inner_;
  int left_;
};

TEST_CASE("a device that fails ends everything with an error, says so, and refuses the rest") {
  SystemClock clock;
  SimBackend backend;
  Engine engine(clock);
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  const ModelHandle decoder =
      engine.add_decoder(std::make_unique<FailingModel>(make_sim_model(sim), 5), backend, small_options(64));
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 10; ++i) {
    streams.push_back(std::get<std::shared_ptr<TokenStream>>(engine.submit(decoder, make_request(10, 50, i))));
  }
  engine.start();
  for (auto& stream : streams) CHECK(read_all(*stream).reason == FinishReason::engine_failed);
  CHECK(engine.failure() == "device lost");
  CHECK(engine.failure_code() == ExitCode::gpu_lost);
  auto late = engine.submit(decoder, make_request(3, 3));
  CHECK(std::get<Rejection>(late).kind == Rejection::Kind::draining);
  CHECK(wait_until([&] { return engine.idle(); }));
}

}  // namespace
}  // namespace inferd
