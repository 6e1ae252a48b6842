// Cost of masks: a JSON text written token by token under its schema, in microseconds of CPU time. Usage: bench_grammar
// MODEL [SCHEMA_FILE TEXT_FILE]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "engine/grammar/grammar_state.h"
#include "engine/grammar/schema_grammar.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"

using namespace inferd;

namespace {

/// Of this thread, so that a machine with other work gives the same figures.
double cpu_micros() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

double micros_since(double start) { return cpu_micros() - start; }

constexpr const char* kSchema = R"({"type":"object","properties":{
  "name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"email":{"type":"string","format":"email"},
  "born":{"type":"string","format":"date"},"tags":{"type":"array","items":{"type":"string","maxLength":40}},
  "kind":{"enum":["customer","supplier","employee"]},"notes":{"anyOf":[{"type":"string"},{"type":"null"}]},
  "addresses":{"type":"array","items":{"$ref":"#/$defs/address"}}},"required":["name","age","email","born","tags","kind","notes","addresses"],
  "additionalProperties":false,"$defs":{"address":{"type":"object","properties":{"street":{"type":"string"},"number":{"type":"integer"},
  "city":{"type":"string"},"geo":{"type":"array","items":{"type":"number"},"minItems":2,"maxItems":2}},
  "required":["street","number","city","geo"],"additionalProperties":false}}})";

std::string sample() {
  std::string out = R"({
  "name": "Dr. Zoë Müller-Lüdenscheidt",
  "age": 47,
  "email": "zoe.mueller@example.org",
  "born": "1977-03-14",
  "tags": ["early adopter", "speaks German and 日本語", "prefers \"quiet\" rooms"],
  "kind": "customer",
  "notes": "She asked twice whether the invoice of last March (no. 2024-0317) could be sent again, and wants to be called back before noon.",
  "addresses": [)";
  for (int i = 0; i < 8; ++i) {
    out += std::string(i > 0 ? ", " : "") + R"({"street": "Lange Straße", "number": )" + std::to_string(10 + 7 * i) +
           R"(, "city": "Köln", "geo": [50.9375, -6.9603]})";
  }
  return out + "]\n}";
}

std::string read_file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void report(const char* what, std::vector<double> micros) {
  std::sort(micros.begin(), micros.end());
  const auto at = [&](double share) {
    return micros[static_cast<std::size_t>(share * static_cast<double>(micros.size() - 1))];
  };
  std::printf("%s: %zu masks, median %.1f us, 95%% %.1f us, 99%% %.1f us, most %.1f us\n", what, micros.size(), at(0.5),
              at(0.95), at(0.99), micros.back());
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2 && argc != 4) {
    std::fputs("usage: bench_grammar MODEL [SCHEMA_FILE TEXT_FILE]\n", stderr);
    return 64;
  }
  const auto checkpoint = Checkpoint::open(argv[1]);
  const auto tokenizer = load_tokenizer(*checkpoint);
  auto start = cpu_micros();
  const auto vocabulary = std::make_shared<const TokenTrie>(*tokenizer);
  std::printf("vocabulary: %lld tokens, %zu beginnings, %.1f ms\n", static_cast<long long>(vocabulary->vocab_size()),
              vocabulary->nodes().size(), micros_since(start) / 1000);
  const Json schema = Json::parse(argc == 4 ? read_file(argv[2]) : kSchema);
  const std::vector<TokenId> text =
      tokenizer->encode(MarkedText::untrusted(argc == 4 ? read_file(argv[3]) : sample()), false);
  start = cpu_micros();
  GrammarBuilder builder;
  JsonText json(builder);
  SchemaGrammar compiled(builder, json, schema, false);
  const GrammarExpr root = compiled.value();
  const auto grammar =
      std::make_shared<const TokenGrammar>(builder.build(root), vocabulary, std::vector<SymbolToken>());
  std::printf("schema: %zu nodes, %.2f ms\n", grammar->grammar().nodes.size(), micros_since(start) / 1000);
  start = cpu_micros();
  grammar->prepare();
  std::printf("prepared: %.1f ms\n", micros_since(start) / 1000);
  std::vector<double> accepts;
  for (const char* const round : {"first answer", "second answer"}) {
    GrammarState state(grammar);
    std::vector<double> micros;
    for (const TokenId token : text) {
      start = cpu_micros();
      const auto words = state.allowed(tokenizer->special().stop);
      micros.push_back(micros_since(start));
      const auto at = static_cast<std::size_t>(token);
      if ((words[at / 64] >> (at % 64) & 1) == 0) {
        std::fprintf(stderr, "bench_grammar: token %d ('%s') is not allowed\n", token,
                     tokenizer->token_bytes(token).c_str());
        return 1;
      }
      start = cpu_micros();
      state.accept(token);
      accepts.push_back(micros_since(start));
    }
    if (!state.complete()) std::fputs("bench_grammar: the text does not end where the schema's do\n", stderr);
    report(round, std::move(micros));
  }
  report("steps", std::move(accepts));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_grammar: %s\n", error.what());
  return 1;
}
