// The sim model itself: its spec, its tokenizer, its clock, and the shape of its distribution.
#include <cmath>

#include "base/errors.h"
#include "engine/sim/sim_tokenizer.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

TEST_CASE("a spec is parsed, and what is wrong in it is named") {
  const SimOptions options =
      parse_sim_options("sim:seed=7,vocab=300,context=128,step_ms=0.5,token_us=20,eos=0.25,layers=3");
  CHECK(options.seed == 7);
  CHECK(options.vocab_size == 300);
  CHECK(options.max_context == 128);
  CHECK(options.step_s == Approx(0.0005));
  CHECK(options.token_s == Approx(0.00002));
  CHECK(options.eos_probability == 0.25);
  CHECK(options.layers == 3);
  CHECK(parse_sim_options("sim:").vocab_size == 512);
  CHECK(parse_sim_options("").vocab_size == 512);
  for (const char* bad : {"sim:seed", "sim:vocab=1", "sim:vocab=x", "sim:vocab=12x", "sim:context=99999999999999999999",
                          "sim:eos=2", "sim:step_ms=nan", "sim:colour=red", "sim:,", "sim:seed=-1", "sim:layers="}) {
    CHECK_THROWS_AS(parse_sim_options(bad), ConfigError);
  }
}

TEST_CASE("the tokenizer: bytes, and control tokens only in trusted text") {
  const ByteTokenizer tokenizer;
  MarkedText text = MarkedText::trusted("<|im_start|>user\n");
  text.append("é<|im_end|>", false);
  text.append("<|im_end|>", true);
  const auto ids = tokenizer.encode(text, true);
  CHECK(ids.front() == 256);
  CHECK(ids.back() == 257);
  CHECK(std::count(ids.begin(), ids.end(), 257) == 1);
  CHECK(tokenizer.decode(ids, true) == "user\né<|im_end|>");
  CHECK(tokenizer.decode(ids, false) == "<|im_start|>user\né<|im_end|><|im_end|>");
  CHECK(tokenizer.decode({0xC3}, true) == "\xEF\xBF\xBD");
  CHECK(tokenizer.special_id("<|endoftext|>") == 258);
  CHECK_FALSE(tokenizer.special_id("x").has_value());
  CHECK(tokenizer.token_bytes(400).empty());
  CHECK(tokenizer.token_bytes(-1).empty());
  const PairEncoding pair = tokenizer.encode_pair(MarkedText::untrusted("ab"), MarkedText::untrusted("c"));
  CHECK(pair.ids == std::vector<TokenId>{'a', 'b', 258, 'c'});
  CHECK(pair.type_ids == std::vector<std::int32_t>{0, 0, 0, 1});
  CHECK(tokenizer.vocab_size() == 259);
  CHECK(tokenizer.special().eos == 257);
}

TEST_CASE("an echo repeats the last message, after what the template wrote of the answer") {
  const SimOptions options = parse_sim_options("sim:echo=1");
  const auto next = [&](const std::string& prompt) {
    return echo_token(options, ByteTokenizer().encode(MarkedText::trusted(prompt), false));
  };
  const std::string before =
      "<|im_start|>system\nX<|im_end|>\n<|im_start|>user\nab\n<|im_end|>\n<|im_start|>assistant\n";
  CHECK(next(before) == 'a');
  CHECK(next(before + "a") == 'b');
  CHECK(next(before + "ab") == '\n');
  CHECK(next(before + "ab\n") == 257);
  CHECK(next(before + "ab\n.") == 257);
  CHECK(next("no marks") == 257);
  CHECK(next("<|im_start|>assistant\n") == 257);
  CHECK(next("<|im_start|>assistant") == 257);
  SimCore bench(small_options(512), options);
  Request request = make_request(0, 50, 1);
  request.prompt = ByteTokenizer().encode(MarkedText::trusted(before), false);
  request.stop_token_ids = {257};
  const auto stream = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*stream, &answer);
  CHECK(answer.tokens == std::vector<TokenId>{'a', 'b', '\n', 257});
}

TEST_CASE("the served sim speaks printable ASCII and ends now and then") {
  SimOptions sim = parse_sim_options("sim:eos=0.05");
  EngineOptions options = small_options(512);
  SimCore bench(options, sim);
  int stopped = 0;
  for (int i = 0; i < 40; ++i) {
    Request request = make_request(10, 200, i);
    request.stop_token_ids = {257};
    const auto stream = bench.submit(request);
    bench.run();
    Answer answer;
    drain(*stream, &answer);
    stopped += answer.reason == FinishReason::stop ? 1 : 0;
    for (const TokenId token : answer.tokens) CHECK((token == 257 || token == '\n' || (token >= ' ' && token <= '~')));
  }
  CHECK(stopped > 35);
}

TEST_CASE("eos has the probability asked for") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.3;
  SimHistory history(sim);
  history.push(5);
  std::vector<float> row(48);
  history.logits(row);
  double sum = 0.0;
  for (const float x : row) sum += std::exp(x);
  CHECK(std::exp(row[47]) / sum == Approx(0.3).margin(1e-5));
}

TEST_CASE("a step takes its time on the virtual clock") {
  SimOptions sim = small_sim();
  sim.step_s = 0.5;
  sim.token_s = 0.01;
  SimCore bench(small_options(16), sim);
  const TimePoint before = bench.clock.now();
  const auto stream = bench.submit(make_request(20, 1));
  bench.run();
  CHECK(std::chrono::duration<double>(bench.clock.now() - before).count() == Approx(0.7));
}

}  // namespace
}  // namespace inferd
