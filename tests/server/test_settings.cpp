// Settings: where values come from, what is refused and how it is said, and that inferd.yaml tells the truth.
#include <unistd.h>

#include <fstream>
#include <map>
#include <sstream>

#include "base/errors.h"
#include "config/command_line.h"
#include "config/load_settings.h"
#include "config/settings.h"
#include "config/yaml_file.h"
#include "tests/catch.h"

using namespace inferd;

namespace {

Environment environment(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const std::string& name) -> std::optional<std::string> {
    const auto it = values.find(name);
    return it == values.end() ? std::nullopt : std::optional(it->second);
  };
}

ServeFlags flags(std::vector<std::string> args) {
  ParsedFlags parsed = parse_serve_flags(args);
  INFO(parsed.early_exit.message);
  REQUIRE(parsed.flags);
  return *parsed.flags;
}

Settings from_yaml(const std::string& text) {
  Settings settings = default_settings();
  apply_yaml_text(settings, text, "c.yaml");
  finish_settings(settings);
  return settings;
}

std::string refusal(const std::string& yaml) {
  try {
    from_yaml(yaml);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

bool contains(const std::string& text, const std::string& part) {
  UNSCOPED_INFO("text: " << text.substr(0, 300) << "\nlooked for: " << part);
  return text.find(part) != std::string::npos;
}

std::string write_file(const std::string& name, const std::string& text) {
  const std::string path = std::string("/tmp/inferd-test-") + std::to_string(::getpid()) + "-" + name;
  std::ofstream(path) << text;
  return path;
}

}  // namespace

TEST_CASE("defaults are those of the contract") {
  const Settings s = default_settings();
  CHECK(s.host == "127.0.0.1");
  CHECK(s.port == 8080);
  CHECK(s.max_concurrent_requests == 0);
  CHECK(s.max_queued_requests == 256);
  CHECK(s.max_connections == 1024);
  CHECK(s.drain_s == 120);
  CHECK(s.request_deadline_s == 0);
  CHECK(s.queue_wait_s == 600);
  CHECK(s.stuck_s == 60);
  CHECK(s.max_body_bytes == 16 << 20);
  CHECK(s.allowed_hosts.empty());
}

TEST_CASE("flag beats variable beats file beats default") {
  const std::string file =
      write_file("precedence.yaml", "port: 1001\nmax_batch_tokens: 1002\nthreads: 3\nhost: 127.0.0.2\n");
  const Settings s = load_settings(flags({"--config", file, "--port", "3001"}),
                                   environment({{"INFERD_PORT", "2001"}, {"INFERD_MAX_BATCH_TOKENS", "2002"}}));
  CHECK(s.port == 3001);
  CHECK(s.max_batch_tokens == 2002);
  CHECK(s.threads == 3);
  CHECK(s.host == "127.0.0.2");
  CHECK(s.keep_alive_s == 5);
  ::unlink(file.c_str());
}

TEST_CASE("every key has a flag and a variable that set it") {
  for (const SettingKey& key : setting_keys()) {
    std::string value = "auto";
    switch (key.type) {
      case KeyType::text:
        value = key.name == "device" ? "cpu" : key.name == "gpu_layers" ? "7" : "text";
        break;
      case KeyType::choice:
        value = std::string(key.choices.substr(key.choices.rfind('|') + 1));
        break;
      case KeyType::integer:
      case KeyType::bytes:
      case KeyType::number:
        value = std::to_string(static_cast<long long>(key.min) + 1);
        break;
      case KeyType::boolean:
        value = key.default_text == "true" ? "false" : "true";
        break;
      case KeyType::list:
        value = key.name == "aliases" ? "a=b,c=d" : key.name == "cors_origins" ? "https://a,*" : "a,b";
        break;
    }
    INFO(key.name << " = " << value);
    const ServeFlags parsed = flags({flag_name(key.name) + "=" + value});
    REQUIRE(parsed.values.size() == 1);
    CHECK(parsed.values[0] == std::pair<std::string, std::string>(key.name, value));
    Settings by_default = default_settings(), set = default_settings();
    set_value(set, key, value, "test");
    std::visit([&](auto field) { CHECK(set.*field != by_default.*field); }, key.field);
  }
}

TEST_CASE("inferd.yaml lists every key with its default and meaning") {
  std::ifstream in(std::string(INFERD_SOURCE_DIR) + "/config/inferd.yaml");
  REQUIRE(in);
  std::map<std::string, std::pair<std::string, std::string>> documented;  // key: value, comment above
  std::string line, comment;
  while (std::getline(in, line)) {
    if (line.empty())
      comment.clear();
    else if (line[0] == '#')
      comment += line.substr(1);
    else
      documented[line.substr(0, line.find(':'))] = {line.substr(line.find(':') + 2), comment};
  }
  CHECK(documented.count("models") == 1);
  CHECK(documented.count("adapters") == 1);
  documented.erase("models");
  documented.erase("adapters");
  for (const SettingKey& key : setting_keys()) {
    INFO(key.name);
    REQUIRE(documented.count(std::string(key.name)) == 1);
    const auto& [value, text] = documented[std::string(key.name)];
    const std::string expected = key.type == KeyType::list  ? "[]"
                                 : key.default_text.empty() ? "\"\""
                                                            : std::string(key.default_text);
    CHECK(value == expected);
    CHECK(text.find(std::string(key.meaning)) != std::string::npos);
    documented.erase(std::string(key.name));
  }
  for (const auto& [key, value] : documented) FAIL("inferd.yaml documents no key of the table: " << key);
}

TEST_CASE("the shipped inferd.yaml reads as the defaults") {
  Settings settings = default_settings();
  apply_yaml_file(settings, std::string(INFERD_SOURCE_DIR) + "/config/inferd.yaml");
  const Settings expected = default_settings();
  for (const SettingKey& key : setting_keys()) {
    INFO(key.name);
    std::visit([&](auto field) { CHECK(settings.*field == expected.*field); }, key.field);
  }
}

TEST_CASE("bad YAML is refused with file, line and key") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"prot: 8080\n", "c.yaml:1: prot: unknown key"},
      {"max-batch-tokens: 64\n", "c.yaml:1: max-batch-tokens: unknown key; did you mean max_batch_tokens?"},
      {"k\033[31m: 1\n", "c.yaml:1: k\\x1b[31m: unknown key"},
      {"host: x\nport: many\n", "c.yaml:2: port: expected an integer from 0 to 65535, found 'many'"},
      {"port: 70000\n", "c.yaml:1: port: expected an integer from 0 to 65535, found '70000'"},
      {"port: -1\n", "c.yaml:1: port: expected"},
      {"port: 1.5\n", "c.yaml:1: port: expected"},
      {"port: 1e3\n", "c.yaml:1: port: expected"},
      {"port: [1]\n", "c.yaml:1: port: expected one value"},
      {"port:\n", "c.yaml:1: port: has no value"},
      {"port: 1\nport: 2\n", "c.yaml:2: port: the key stands here twice"},
      {"host: &a x\nisa: *a\n", "c.yaml:1: anchors"},
      {"host: !!binary eA==\n", "c.yaml:1: tags"},
      {"isa: sse2\n", "c.yaml:1: isa: expected auto|portable|avx2|avxvnni|avx512vnni|amx, found 'sse2'"},
      {"prefix_cache: maybe\n", "c.yaml:1: prefix_cache: expected true or false"},
      {"kv_cache_memory: 2 elephants\n", "c.yaml:1: kv_cache_memory: expected auto or a size"},
      {"kv_cache_memory: -1\n", "c.yaml:1: kv_cache_memory"},
      {"kv_cache_memory: nan\n", "c.yaml:1: kv_cache_memory"},
      {"drain_s: inf\n", "c.yaml:1: drain_s: expected a number"},
      {"threads: 0\n", "c.yaml:1: threads: expected auto or an integer from 1 to 1024"},
      {"allowed_hosts: {a: b}\n", "c.yaml:1: allowed_hosts: expected a list"},
      {"allowed_hosts: ['']\n", "c.yaml:1: allowed_hosts: expected no empty entries"},
      {"allowed_hosts: [[a]]\n", "allowed_hosts: expected one value"},
      {"- a\n", "c.yaml:1: expected KEY: VALUE"},
      {"just text\n", "expected KEY: VALUE"},
      {"models: 5\n", "c.yaml:1: models: expected a list"},
      {"models:\n  - {name: a}\n", "c.yaml:2: models: path is missing"},
      {"models:\n  - {path: a, pth: b}\n", "models: pth: unknown key"},
      {"models:\n  - {path: a, context_length: few}\n", "c.yaml:2: models: context_length: expected auto or an"},
      {"models:\n  - {path: a, tool_parser: json}\n", "tool_parser: expected"},
      {"reasoning_parser: thought\n", "reasoning_parser: expected"},
      {"models:\n  - {path: /x/a, name: 'a b'}\n", "expected a name of"},
      {"models:\n  - {path: /x/a, name: default}\n", "reserved"},
      {"models:\n  - {path: /x/a}\n  - {path: /y/a}\n", "c.yaml:3: models: the name 'a' is used twice"},
      {"models:\n  - {path: /x/a}\nadapters:\n  - {name: b, path: /b, base: c}\n",
       "c.yaml:4: adapters: b: base: expected the name of a served model, found 'c'"},
      {"models:\n  - {path: /x/a, device: tpu}\n",
       "c.yaml:2: models: device: expected auto, cpu, cuda or cuda:N, found"},
      {"models:\n  - {path: /x/a, gpu_layers: -1}\n", "c.yaml:2: models: gpu_layers: expected auto, all or a number"},
      {"device: cuda:x\n", "c.yaml:1: device: expected auto, cpu, cuda or cuda:N, found 'cuda:x'"},
      {"\naliases: [gpt]\n", "c.yaml:2: aliases: expected ALIAS=NAME, found 'gpt'"},
      {"aliases: {gpt: absent}\n", "not a served model"},
      {"host: 0.0.0.0\n", "set api_key_file, or allow_unauthenticated"},
      {"cors_origins: [app.example]\n", "c.yaml:1: cors_origins: expected http"},
      {"a: b: c\n", "c.yaml:1: "},
      {"{", "c.yaml:"},
      {"---\nport: 1\n---\nport: 2\n", "one document"},
      {std::string("port: 1\0", 8), "NUL"},
      {"models:\n  - path: [[[[[[[[a]]]]]]]]\n", "nested too deeply"},
      {std::string(kMaxConfigBytes + 1, '#'), "256 KiB"},
  };
  for (const auto& [yaml, expected] : cases) {
    INFO(yaml.substr(0, 80));
    CHECK(contains(refusal(yaml), expected));
  }
}

TEST_CASE("a bad value is named once, as its source spells it") {
  const auto refused = [](const std::vector<std::string>& args, const std::map<std::string, std::string>& variables) {
    try {
      load_settings(flags(args), environment(variables));
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(refused({"--kv-cache-type", "fp9"}, {}) == "--kv-cache-type: expected f16|f32|q8_0|fp8, found 'fp9'");
  CHECK(refused({}, {{"INFERD_KV_CACHE_TYPE", "fp9"}}) ==
        "INFERD_KV_CACHE_TYPE: expected f16|f32|q8_0|fp8, found 'fp9'");
  CHECK(refusal("kv_cache_type: fp9\n") == "c.yaml:1: kv_cache_type: expected f16|f32|q8_0|fp8, found 'fp9'");
  CHECK(refused({"--device", "tpu"}, {}) == "--device: expected auto, cpu, cuda or cuda:N, found 'tpu'");
  CHECK(refused({}, {{"INFERD_GPU_LAYERS", "few"}}) ==
        "INFERD_GPU_LAYERS: expected auto, all or a number, found 'few'");
  CHECK(refused({"--cors-origins", "https://a,b"}, {}) ==
        "--cors-origins: expected http://HOST[:PORT], https://HOST[:PORT] or *, found 'b'");
  CHECK(refused({"--model", "a="}, {}) == "--model: expected [NAME=]PATH, found 'a='");
  CHECK(refused({}, {{"INFERD_MODEL", "a=/x;a=/y"}}) == "INFERD_MODEL: the name 'a' is used twice");
  CHECK(refused({"--model", "a=/x", "--adapter", "b"}, {}) == "--adapter: expected NAME=PATH[:BASE], found 'b'");
  CHECK(refused({"--model", "a=/x", "--adapter", "a=/b"}, {}) == "--adapter: the name 'a' is used twice");
}

TEST_CASE("an alias bomb ends at its first anchor") {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [*" + char(c - 1) + ",*" + char(c - 1) + ",*" + char(c - 1) + "]\n";
  }
  CHECK(contains(refusal(bomb), "anchors"));
}

TEST_CASE("models come from file, variable and flag, each replacing the one below") {
  const Settings file = from_yaml(
      "models:\n  - {path: /m/Qwen2.5-0.5B/, aliases: [gpt-4], context_length: 512, tool_parser: hermes}\n  - {path: "
      "b.gguf}\n"
      "aliases: {small: b}\n");
  REQUIRE(file.models.size() == 2);
  CHECK(file.models[0].name == "Qwen2.5-0.5B");
  CHECK(file.models[0].context_length == 512);
  CHECK(file.models[0].tool_parser == "hermes");
  CHECK(file.models[1].tool_parser.empty());
  CHECK(file.tool_parser == "auto");
  CHECK(file.models[0].aliases == std::vector<std::string>{"gpt-4"});
  CHECK(file.models[1].name == "b");
  CHECK(file.aliases == std::vector<std::string>{"small=b"});

  const auto env = environment({{"INFERD_MODEL", "a=/x;/y/c.gguf"}});
  const Settings variable = load_settings({}, env);
  REQUIRE(variable.models.size() == 2);
  CHECK(variable.models[0].name == "a");
  CHECK(variable.models[0].path == "/x");
  CHECK(variable.models[1].name == "c");
  const Settings flag =
      load_settings(flags({"--model", "sim=sim:seed=1,step_ms=2", "--model", "/q/model-00001-of-00003.gguf"}), env);
  REQUIRE(flag.models.size() == 2);
  CHECK(flag.models[0].path == "sim:seed=1,step_ms=2");
  CHECK(flag.models[1].name == "model");
}

TEST_CASE("NAME= is told from a path with '='") {
  CHECK(parse_model_argument("a=b", "t").name == "a");
  CHECK(parse_model_argument("org/name=/x", "t").name == "org/name");
  CHECK(parse_model_argument("/dir/a=b/m.gguf", "t").path == "/dir/a=b/m.gguf");
  CHECK(parse_model_argument("./a=b.gguf", "t").path == "./a=b.gguf");
  CHECK(parse_model_argument("sim:seed=1", "t").path == "sim:seed=1");
  CHECK(parse_model_argument("a=sim:seed=1", "t").path == "sim:seed=1");
  CHECK_THROWS_AS(parse_model_argument("a=", "t"), ConfigError);
  CHECK_THROWS_AS(parse_model_argument("", "t"), ConfigError);
}

TEST_CASE("words for true and false read as people write them") {
  for (const std::string word : {"true", "True", "TRUE", "yes", "On", "1"}) {
    CHECK(from_yaml("strict_fields: " + word + "\n").strict_fields);
  }
  for (const std::string word : {"false", "False", "No", "OFF", "0"}) {
    CHECK_FALSE(from_yaml("prefix_cache: " + word + "\n").prefix_cache);
  }
}

TEST_CASE("sizes and lists read as people write them") {
  Settings s = default_settings();
  const SettingKey& kv = *find_setting("kv_cache_memory");
  set_value(s, kv, "2GiB", "t");
  CHECK(s.kv_cache_memory == std::int64_t{2} << 30);
  set_value(s, kv, "1.5 MiB", "t");
  CHECK(s.kv_cache_memory == 1572864);
  set_value(s, kv, "3000000", "t");
  CHECK(s.kv_cache_memory == 3000000);
  set_value(s, kv, "auto", "t");
  CHECK(s.kv_cache_memory == 0);
  set_value(s, *find_setting("cors_origins"), "https://a.example, https://b.example", "t");
  CHECK(s.cors_origins == std::vector<std::string>{"https://a.example", "https://b.example"});
}

TEST_CASE("the command line refuses what it does not know") {
  const ParsedFlags unknown = parse_serve_flags(std::vector<std::string>{"--no-such-flag"});
  CHECK_FALSE(unknown.flags);
  CHECK(unknown.early_exit.exit_code == 64);
  CHECK(contains(unknown.early_exit.message, "no-such-flag"));
  const ParsedFlags help = parse_serve_flags(std::vector<std::string>{"--help"});
  CHECK_FALSE(help.flags);
  CHECK(help.early_exit.exit_code == 0);
  CHECK(contains(help.early_exit.message, "--max-batch-tokens"));
  CHECK(contains(help.early_exit.message, "--model"));
  CHECK_THROWS_AS(load_settings(flags({"--port", "x"}), environment({})), ConfigError);
  CHECK(flags({"--allow-unauthenticated"}).values[0].second == "true");
}

TEST_CASE("a draft model belongs to a model, by name or to the first, and must be of use") {
  const Settings yaml =
      from_yaml("models:\n  - {name: a, path: /a, draft_model: /small}\n  - {name: b, path: /b}\nspeculative: draft\n");
  CHECK(yaml.models[0].draft_model == "/small");
  CHECK(yaml.models[1].draft_model.empty());

  const std::string file =
      write_file("draft.yaml", "models:\n  - {name: a, path: /a, draft_model: /small}\n  - {name: b, path: /b}\n");
  const Settings by_variable =
      load_settings(flags({"--config", file}), environment({{"INFERD_DRAFT_MODEL", "b=/x;a=/y"}}));
  CHECK(by_variable.models[0].draft_model == "/y");
  CHECK(by_variable.models[1].draft_model == "/x");
  const Settings by_flag = load_settings(flags({"--config", file, "--draft-model", "/z", "--draft-model", "b=/w"}),
                                         environment({{"INFERD_DRAFT_MODEL", "b=/x"}}));
  CHECK(by_flag.models[0].draft_model == "/z");
  CHECK(by_flag.models[1].draft_model == "/w");
  CHECK(by_flag.drafts.empty());
  const auto refused = [&](std::vector<std::string> args) {
    args.insert(args.end(), {"--config", file});
    try {
      load_settings(flags(args), environment({}));
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  CHECK(contains(refused({"--draft-model", "c=/x"}),
                 "--draft-model: expected the name of a served model before '=', found 'c'"));
  CHECK(
      contains(refused({"--draft-model", "/x", "--draft-model", "a=/y"}), "--draft-model: the model 'a' is given two"));
  CHECK(contains(refused({"--draft-model", "a="}), "--draft-model: expected [NAME=]PATH, found 'a='"));
  CHECK(contains(refused({"--speculative", "off"}),
                 "model a: draft_model: needs speculative: auto or draft, found 'off'"));
  CHECK(contains(refused({"--speculative", "ngram"}), "needs speculative: auto or draft, found 'ngram'"));
  CHECK(contains(refusal("models: [{path: /a}]\nspeculative: draft\n"),
                 "speculative: draft needs a model with a draft_model"));
  CHECK(contains(refusal("models: [{path: /a, draft_model: [/b]}]\n"), "draft_model: expected one value"));
  ::unlink(file.c_str());
}
