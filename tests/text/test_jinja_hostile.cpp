// Hostile templates: refused within time and memory. Garbage: refused without a crash.
#include <sys/resource.h>

#include <chrono>
#include <ctime>
#include <random>

#include "engine/text/jinja/limits.h"
#include "tests/catch.h"
#include "tests/text/jinja_support.h"

namespace inferd::test {
namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

long peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

// Generous, for sanitizers and busy machines: the render itself is stopped after 0.25 s of CPU time.
constexpr double kMaxSeconds = 2.0;
#if defined(__SANITIZE_ADDRESS__)
constexpr long kMaxGrowthKib = 1024 * 1024;
#else
constexpr long kMaxGrowthKib = 64 * 1024;
#endif

std::vector<std::string> hostile_templates() {
  const std::string doubling =
      "{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}";
  return {
      repeated("{% for i in range(100) %}", 12) + "x" + repeated("{% endfor %}", 12),
      "{% for i in range(1000000000) %}{% endfor %}",
      "{% for i in range(0, 9000000000000000000, 1) %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
      "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
      "{{ 'x' * 1000000000 }}",
      "{{ 1000000000 * 'x' }}",
      "{{ [0] * 1000000000 }}",
      "{{ 'x'.center(1000000000) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ '{:>1000000000}'.format(1) }}",
      "{{ 'x'|indent(1000000000, true) }}",
      "{{ 'a'|center(1000000000) }}",
      "{{ 2 ** 1000000000 }}",
      "{{ [1]|tojson(indent=1000000000) }}",
      repeated("{{ '", 1) + repeated("x", 1000) + "' * 10000 }}",
      doubling,
      doubling + "{{ ns.s }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[], k=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.k = [ns.k, "
      "ns.k] %}{% endfor %}{{ ns.l == ns.k }}",
      "{% set ns = namespace(t=()) %}{% for i in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}",
      "{% set l = [] %}{% for i in range(100000) %}{% for j in range(100000) %}{% set _ = l.append(i) %}{% endfor %}{% "
      "endfor %}",
      "{% set l = [1] %}{% set _ = l.append(l) %}{{ l }}",
      "{% set l = [1] %}{% set _ = l.append(l) %}{{ l|tojson }}",
      "{% for i in range(100000) %}{{ 'x' * 1000000 }}{% endfor %}",
      "{% for i in range(100000) %}" + std::string(1000, 'x') + "{% endfor %}",
      "{% set a %}{% for i in range(100000) %}" + std::string(1000, 'x') + "{% endfor %}{% endset %}",
      "{% set ns = namespace(s='') %}{% for i in range(100000) %}{% set ns.s = ns.s + "
      "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' %}{% endfor %}",
      "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
      "{{ ('a' * 1000000).replace('', 'b' * 100) }}",
      "{% for i in range(100000) %}{{ ('a' * 1000000).find('b') }}{% endfor %}",
      "{% for i in range(100000) %}{{ ('a' * 1000000).split('a')|length }}{% endfor %}",
      "{% for i in range(100000) %}{{ range(100000)|sort|length }}{% endfor %}",
      "{% for i in range(100000) %}{{ range(100000)|list|length }}{% endfor %}",
      "{% for i in range(100000) %}{{ range(100000)|sum }}{% endfor %}",
      "{{ ('a,' * 1000000).split(',')|tojson(indent=1000) }}",
      "{% for a in range(1000) %}{% macro m() %}{% for b in range(1000) %}{% endfor %}{% endmacro %}{{ m() }}{% endfor "
      "%}",
      "{% macro m(x) %}{{ caller(x + x) }}{% endmacro %}{% macro f(x) %}{% call(y) m(x) %}{{ f(y) }}{% endcall %}{% "
      "endmacro %}{{ f('ab') }}",
      "{% set x = 'abc' %}{% for i in range(100000) %}{% set y %}{% for j in range(1000) %}{{ x }}{% endfor %}{% "
      "endset %}{% endfor %}",
      "{{ strftime_now('%c' * 400) }}{{ strftime_now('%999999999d') }}{{ raise_exception('x' * 10000000) }}",
  };
}

std::vector<std::string> refused_when_parsed() {
  return {"{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}",
          "{{ " + repeated("[", 100000) + repeated("]", 100000) + " }}",
          "{{ " + repeated("{'a':", 100000) + "1" + repeated("}", 100000) + " }}",
          "{{ " + repeated("not ", 100000) + "x }}",
          "{{ " + repeated("-", 100000) + "1 }}",
          "{{ 1" + repeated(" + 1", 40000) + " }}",
          "{{ x" + repeated(".a", 40000) + " }}",
          "{{ x" + repeated("|upper", 40000) + " }}",
          "{{ x" + repeated("[0]", 30000) + " }}",
          "{{ x" + repeated("()", 30000) + " }}",
          "{{ " + repeated("a if b else ", 20000) + "c }}",
          "{{ x" + repeated(" is defined", 30000) + " }}",
          repeated("{% if x %}", 20000) + repeated("{% endif %}", 20000),
          repeated("{% for x in y %}", 10000),
          "{{ " + repeated("a and ", 40000) + "b }}",
          "{% set " + repeated("(", 20000) + "a" + repeated(")", 20000) + " = 1 %}",
          "{{ x[" + repeated("x[", 20000) + repeated("]", 20001) + " }}",
          std::string((1u << 20) + 1, 'x'),
          repeated("{{1}}", 200000),
          "\xff\xfe",
          "{{ '\xc3' }}",
          "{% include 'a' %}",
          "{% import 'a' as b %}",
          "{% extends 'a' %}",
          "{% from 'a' import b %}",
          "{% block a %}{% endblock %}",
          "{{ 99999999999999999999 }}"};
}

}  // namespace

TEST_CASE("hostile templates are stopped in time and memory", "[jinja]") {
  const long before = peak_kib();
  for (const std::string& source : hostile_templates()) {
    const double start = cpu_seconds();
    const Outcome outcome = render_json(source, Json::object());
    const double used = cpu_seconds() - start;
    INFO(source.substr(0, 200) << " -> " << outcome.text.substr(0, 200) << ", " << used << " s");
    CHECK(outcome.failed);
    CHECK(used < kMaxSeconds);
  }
  CHECK(peak_kib() - before < kMaxGrowthKib);
}

TEST_CASE("hostile syntax is refused when it is parsed", "[jinja]") {
  for (const std::string& source : refused_when_parsed()) {
    INFO(source.substr(0, 100));
    const double start = cpu_seconds();
    CHECK_THROWS_AS(jinja::Template(source), jinja::SyntaxError);
    CHECK(cpu_seconds() - start < kMaxSeconds);
  }
}

TEST_CASE("limits leave room for long conversations", "[jinja]") {
  Json messages = Json::array();
  for (int i = 0; i < 2000; ++i) {
    messages.push_back(
        {{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", std::string(1000, static_cast<char>('a' + i % 26))}});
  }
  const std::string chatml =
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content']|trim + '<|im_end|>\\n' }}{% endfor "
      "%}";
  const Outcome outcome = render_json(chatml, {{"messages", messages}});
  CHECK_FALSE(outcome.failed);
  CHECK(outcome.text.size() > 2'000'000);
}

TEST_CASE("deep values and cycles end without harm", "[jinja]") {
  CHECK_FALSE(render_json("{% set ns = namespace() %}{% set ns.self = ns %}{% set ns.l = [ns] %}{{ ns.self.l|length }}",
                          Json::object())
                  .failed);
  CHECK_FALSE(render_json("{% set d = {} %}{% set _ = d.update({'d': d}) %}{{ d|length }}", Json::object()).failed);
  CHECK_FALSE(
      render_json("{% macro m() %}x{% endmacro %}{% set ns = namespace(m=m) %}{{ ns.m() }}", Json::object()).failed);
  const std::string chain =
      "{% set ns = namespace(l=[]) %}{% for i in range(50000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|length }}";
  CHECK(render_json(chain, Json::object()).text == "1");
}

TEST_CASE("mutated templates never crash", "[jinja]") {
  std::vector<std::string> seeds;
  const Json snippets = read_golden("snippets.json");
  for (const Json& snippet : snippets["snippets"]) seeds.push_back(snippet["source"].get<std::string>());
  for (const auto& path : published_templates()) seeds.push_back(read_text(path));
  const Json golden = read_golden("cases.json");
  const auto variables = case_variables(golden, golden["cases"]["two_calls"]);
  const std::vector<std::string> pieces = {
      "{{",  "}}",  "{%",         "%}",        "{#",       "#}",       "-",    "(",      ")",           "[",
      "]",   "'",   "\"",         "|",         ".",        "if ",      "for ", "endfor", "endif",       "set ",
      "in ", "is ", "not ",       "*",         "loop",     "messages", "\\",   "\n",     "%",           "~",
      "{",   "}",   "namespace(", "macro m()", "caller()", "**",       ":",    "0",      "\xe2\x82\xac"};
  std::mt19937 random(20240607);
  const auto pick = [&random](std::size_t size) { return static_cast<std::size_t>(random() % size); };
  int parsed = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string source = seeds[pick(seeds.size())];
    // Pieces of long templates: the mutation is then more likely to matter.
    if (source.size() > 4000) source = source.substr(pick(source.size() - 3000), 3000);
    for (std::size_t edits = 1 + pick(6); edits > 0; --edits) {
      const std::size_t at = pick(source.size() + 1);
      if (pick(3) == 0)
        source.erase(at, 1 + pick(8));
      else
        source.insert(at, pieces[pick(pieces.size())]);
    }
    const Outcome outcome = render(source, variables);
    parsed += !outcome.failed;
  }
  CHECK(parsed > 50);
}

}  // namespace inferd::test
