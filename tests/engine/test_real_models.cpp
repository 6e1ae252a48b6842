// EngineCore over real forwards on the CPU: company, chunks, prefix hits and preemption change no bit of an answer.
#include <filesystem>

#include "engine/engine_core.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/model_config.h"
#include "tests/catch.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

constexpr std::int64_t kContext = 96;

std::unique_ptr<Model> load_golden(const std::string& name, Backend& backend, const EngineOptions& options) {
  const auto checkpoint = Checkpoint::open(std::string(INFERD_SOURCE_DIR "/tests/golden/") + name);
  ModelOptions model_options;
  model_options.max_batch_tokens = options.max_batch_tokens;
  model_options.max_logit_rows = options.max_logit_rows;
  return load_model(*checkpoint, read_model_config(*checkpoint), backend, model_options).decoder;
}

struct RealCore {
  /// draft: of a golden checkpoint, "gguf/qwen2.Q8_0.gguf"; empty: none.
  RealCore(const std::string& name, const EngineOptions& options, const std::string& draft = "")
      : backend(make_cpu_backend({.threads = 2})) {
    auto model = load_golden("models/" + name, *backend, options);
    core = std::make_unique<EngineCore>(std::move(model), *backend, options, clock,
                                        draft.empty() ? nullptr : load_golden(draft, *backend, options));
  }
  std::shared_ptr<TokenStream> submit(const Request& request) {
    auto result = core->submit(request);
    REQUIRE(std::holds_alternative<std::shared_ptr<TokenStream>>(result));
    return std::get<std::shared_ptr<TokenStream>>(result);
  }
  Answer finish(const std::shared_ptr<TokenStream>& stream) {
    while (stream->finish_reason() == FinishReason::none) {
      core->step();
      core->check_integrity();
    }
    Answer answer;
    drain(*stream, &answer);
    return answer;
  }
  SystemClock clock;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<EngineCore> core;
};

constexpr TokenId kGmask = 422, kSop = 425;  // of the golden ChatGLM-6B

/// `whole`: a model whose context is computed in one piece; most prompts then end as its tokenizer ends them.
Request real_request(int i, std::int64_t vocab, bool whole = false) {
  Request request;
  for (int t = 0; t < 3 + (i * 11) % 45; ++t) {
    request.prompt.push_back(static_cast<TokenId>((i / 4 * 17 + t * 29 + 5) % vocab));
  }
  if (whole && i % 4 != 0) request.prompt.insert(request.prompt.end(), {kGmask, kSop});
  request.max_output_tokens = 12 + i;
  request.sampling.seed = i;
  request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.0f;
  request.top_logprobs = 3;
  return request;
}

EngineOptions options_with(std::int64_t batch_tokens, std::size_t kv_cache_bytes) {
  EngineOptions options;
  options.max_batch_tokens = batch_tokens;
  options.context_length = kContext;
  options.kv_cache_bytes = kv_cache_bytes;
  return options;
}

TEST_CASE("real forwards: the same answers alone, together, in small chunks, after preemption and on prefix hits") {
  for (const char* name : {"llama2", "llama3", "qwen2", "qwen3", "qwen1", "bloom", "chatglm1"}) {
    INFO(name);
    constexpr int kRequests = 16;
    const bool whole = std::string(name) == "chatglm1";
    EngineOptions alone_options = options_with(256, 0);
    alone_options.prefix_cache = false;
    RealCore alone(name, alone_options);
    const std::int64_t vocab = alone.core->info().vocab_size;
    std::vector<Answer> expected;
    for (int i = 0; i < kRequests; ++i) expected.push_back(alone.finish(alone.submit(real_request(i, vocab, whole))));
    const std::size_t block_bytes = alone.core->kv_plan().block_bytes;

    for (const auto& [batch_tokens, blocks] : {std::pair{256, 200}, {16, 200}, {40, 8}}) {
      INFO("batch of " << batch_tokens << " tokens, " << blocks << " blocks");
      RealCore together(name, options_with(batch_tokens, static_cast<std::size_t>(blocks) * block_bytes));
      std::vector<std::shared_ptr<TokenStream>> streams;
      for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < kRequests; ++i) streams.push_back(together.submit(real_request(i, vocab, whole)));
      }
      for (std::size_t i = 0; i < streams.size(); ++i) {
        const Answer answer = together.finish(streams[i]);
        CHECK(equal_events(answer.events, expected[i % kRequests].events));
      }
      if (blocks == 200) CHECK((together.core->stats().cached_prompt_tokens > 0) == !whole);
      if (blocks == 8 && !whole) CHECK(together.core->stats().preemptions > 0);
      CHECK(together.core->stats().kv_blocks_used == 0);
    }
  }
}

TEST_CASE("a prompt that is read both ways has no logprobs to give") {
  RealCore chatglm("chatglm1", options_with(16, 0));
  Request request = real_request(3, 400, true);
  request.prompt_logprobs = 0;
  const auto rejection = chatglm.core->check(request);
  REQUIRE(rejection.has_value());
  CHECK(rejection->kind == Rejection::Kind::no_prompt_logprobs);
  RealCore llama("llama2", options_with(16, 0));
  CHECK_FALSE(llama.core->check(request).has_value());
}

TEST_CASE("real forwards: speculation changes no bit of an answer, alone and together") {
  for (const char* name : {"llama2", "llama3", "qwen2", "qwen3"}) {
    INFO(name);
    constexpr int kRequests = 16;
    const auto options = [](SpeculationMode mode) {
      EngineOptions out = options_with(256, 0);
      out.speculation.mode = mode;
      return out;
    };
    RealCore plain(name, options(SpeculationMode::off));
    RealCore guessing(name, options(SpeculationMode::ngram));
    const std::int64_t vocab = plain.core->info().vocab_size;
    std::vector<Answer> expected;
    std::vector<Request> requests;
    for (int i = 0; i < kRequests; ++i) {
      Request request = real_request(i, vocab);
      // Prompts that repeat themselves, and likely tokens: a small vocabulary of five, by bias.
      for (std::size_t t = 0; t < request.prompt.size(); ++t) request.prompt[t] = request.prompt[t % 5];
      for (std::size_t t = 0; t < 5 && t < request.prompt.size(); ++t) {
        request.sampling.logit_bias.emplace_back(request.prompt[t], 20.0f);
      }
      requests.push_back(request);
      expected.push_back(plain.finish(plain.submit(request)));
    }
    for (int i = 0; i < kRequests; ++i) {
      CHECK(equal_events(guessing.finish(guessing.submit(requests[i])).events, expected[i].events));
    }
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (int i = 0; i < kRequests; ++i) streams.push_back(guessing.submit(requests[i]));
    for (int i = 0; i < kRequests; ++i) {
      const Answer answer = guessing.finish(streams[i]);
      CHECK(answer.events.size() == expected[i].events.size());
      CHECK(equal_events(answer.events, expected[i].events));
    }
    CHECK(guessing.core->stats().accepted_draft_tokens > 50);
    CHECK(guessing.core->stats().accepted_draft_tokens < guessing.core->stats().draft_tokens);
  }
}

TEST_CASE("real forwards: a draft model changes no bit of an answer, alone, together, in chunks and preempted") {
  struct Pair {
    const char* name;
    const char* draft;
    double accepted;  // least share of the guesses
  };
  for (const Pair& pair : {Pair{"qwen2", "models/qwen2", 1.0},
                           {"qwen2", "gguf/qwen2.Q8_0.gguf", 0.2},
                           {"llama3", "models/llama3_gptq4", 0.05},
                           {"qwen2", "models/llama3", 0.0}}) {
    INFO(pair.name << " and " << pair.draft);
    constexpr int kRequests = 17;
    RealCore plain(pair.name, options_with(256, 0));
    const std::int64_t vocab = plain.core->info().vocab_size;
    std::vector<Answer> expected;
    for (int i = 0; i < kRequests; ++i) expected.push_back(plain.finish(plain.submit(real_request(i, vocab))));
    for (const auto& [batch_tokens, blocks] : {std::pair{256, 200}, {16, 200}, {40, 8}}) {
      INFO("batch of " << batch_tokens << " tokens, " << blocks << " blocks");
      EngineOptions options = options_with(batch_tokens, 0);
      options.speculation.mode = SpeculationMode::draft;
      options.speculation.max_tokens = 4;
      // Both have the same shape: a block of the two takes twice as much.
      options.kv_cache_bytes = 2 * static_cast<std::size_t>(blocks) * plain.core->kv_plan().block_bytes;
      RealCore drafted(pair.name, options, pair.draft);
      REQUIRE(drafted.core->kv_plan().num_blocks == blocks);
      for (int i = 0; i < kRequests; ++i) {
        const Answer alone = drafted.finish(drafted.submit(real_request(i, vocab)));
        CHECK(equal_events(alone.events, expected[static_cast<std::size_t>(i)].events));
      }
      std::vector<std::shared_ptr<TokenStream>> streams;
      for (int i = 0; i < kRequests; ++i) streams.push_back(drafted.submit(real_request(i, vocab)));
      for (int i = 0; i < kRequests; ++i) {
        const Answer together = drafted.finish(streams[static_cast<std::size_t>(i)]);
        CHECK(equal_events(together.events, expected[static_cast<std::size_t>(i)].events));
      }
      const DecoderStats stats = drafted.core->stats();
      INFO(stats.accepted_draft_tokens << " of " << stats.draft_tokens << " accepted");
      CHECK(stats.draft_tokens > 100);
      CHECK(static_cast<double>(stats.accepted_draft_tokens) >=
            pair.accepted * static_cast<double>(stats.draft_tokens));
      if (blocks == 8) CHECK(stats.preemptions > 0);
    }
  }
}

TEST_CASE("draft models that cannot guess are refused by name") {
  EngineOptions options = options_with(64, 0);
  options.speculation.mode = SpeculationMode::draft;
  const auto refusal = [&](const std::string& name, const std::string& draft) {
    try {
      RealCore core(name, options, draft);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(refusal("llama3", "models/chatglm1").find("computes its context in one piece") != std::string::npos);
  CHECK(refusal("chatglm1", "models/llama3").find("(chatglm1) computes its context") != std::string::npos);
  options.kv_dtype = DType::q8_0;
  CHECK(refusal("llama3", "models/qwen2").find("q8_0 needs heads of a multiple of 32") != std::string::npos);
}

}  // namespace
}  // namespace inferd
