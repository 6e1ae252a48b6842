// What the tests of chat templates share: golden files, templates on disk, rendering with caught errors.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/template.h"
#include "engine/text/template_error.h"

namespace inferd::test {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline std::filesystem::path source_dir() { return INFERD_SOURCE_DIR; }

inline Json read_golden(const char* name) {
  return Json::parse(read_text(source_dir() / "tests/golden/templates" / name));
}

/// The published templates that lie on this machine; empty if they were not fetched.
inline std::vector<std::filesystem::path> published_templates() {
  std::vector<std::filesystem::path> paths;
  const auto folder = source_dir() / "third_party/chat-templates";
  if (!std::filesystem::is_directory(folder)) return paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".jinja") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// The variables of a golden case, as transformers sets them.
inline std::vector<jinja::Variable> case_variables(const Json& golden, const Json& test) {
  std::vector<jinja::Variable> variables = {{"messages", test["messages"]},
                                            {"tools", test["tools"]},
                                            {"documents", Json()},
                                            {"add_generation_prompt", test["add_generation_prompt"], true},
                                            {"bos_token", golden["bos_token"], true},
                                            {"eos_token", golden["eos_token"], true}};
  for (const auto& [name, value] : test["kwargs"].items()) variables.push_back({name, value});
  return variables;
}

struct Outcome {
  bool failed = false;
  std::string text;  // or the error
  MarkedText marked;
};

inline Outcome render(const std::string& source, const std::vector<jinja::Variable>& variables,
                      std::int64_t now = 1700000000) {
  Outcome outcome;
  try {
    outcome.marked = jinja::Template(source).render(variables, now);
    outcome.text = outcome.marked.text();
  } catch (const jinja::SyntaxError& error) {
    outcome.failed = true;
    outcome.text = "line " + std::to_string(error.line) + ": " + error.what();
  } catch (const TemplateError& error) {
    outcome.failed = true;
    outcome.text = error.what();
  }
  return outcome;
}

inline Outcome render_json(const std::string& source, const Json& variables) {
  std::vector<jinja::Variable> list;
  for (const auto& [name, value] : variables.items()) list.push_back({name, value});
  return render(source, list);
}

/// Text of the untrusted runs, one after another.
inline std::string untrusted_text(const MarkedText& marked) {
  std::string text;
  for (const auto& run : marked.runs()) text += run.trusted ? "" : run.text;
  return text;
}

/// Text of the trusted runs, one after another.
inline std::string trusted_text(const MarkedText& marked) {
  std::string text;
  for (const auto& run : marked.runs()) text += run.trusted ? run.text : "";
  return text;
}

}  // namespace inferd::test
