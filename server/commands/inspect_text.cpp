// The report of `inferd inspect` for people.
#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "base/log.h"
#include "server/commands/inspect_report.h"

namespace inferd {
namespace {

std::string line(const std::string& label, const std::string& value) {
  char head[32];
  std::snprintf(head, sizeof head, "%-14s", label.c_str());
  return head + value + "\n";
}

/// File contents go to a terminal: control characters become visible.
std::string shown(const Json& value) { return value.is_string() ? log_safe(value.get<std::string>()) : value.dump(); }

std::string megabytes(const Json& bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", bytes.get<double>() / 1e6);
  return text;
}

std::string millions(const Json& count) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f M", count.get<double>() / 1e6);
  return text;
}

/// "model.layers.12.mlp" → "model.layers.*.mlp" and 12; -1 without a number of its own between dots.
std::string pattern_of(const std::string& name, long* number) {
  *number = -1;
  std::string out;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool digits = !part.empty() && part.size() < 7 && part.find_first_not_of("0123456789") == std::string::npos;
    if (digits && *number < 0) *number = std::stol(part);
    out += (begin > 0 ? "." : "") + (digits && std::stol(part) == *number ? "*" : part);
    begin = end + 1;
  }
  return out;
}

/// Lines of tensors or adapter layers; those that differ in one number only share a line.
std::string grouped(const Json& entries, const std::string& name_key, const std::vector<std::string>& detail_keys) {
  struct Group {
    std::string pattern, details;
    long first = -1, last = -1, count = 0;
  };
  std::vector<Group> groups;
  std::map<std::string, std::size_t> index;
  for (const Json& entry : entries) {
    long number = -1;
    const std::string pattern = pattern_of(entry[name_key].get<std::string>(), &number);
    std::string details;
    for (const std::string& key : detail_keys) details += (details.empty() ? "" : "  ") + shown(entry[key]);
    const auto [at, fresh] = index.emplace(pattern + "\n" + details, groups.size());
    if (fresh) groups.push_back({pattern, details, number, number, 0});
    Group& group = groups[at->second];
    group.first = std::min(group.first, number);
    group.last = std::max(group.last, number);
    ++group.count;
  }
  std::string text;
  for (const Group& group : groups) {
    std::string name = group.pattern;
    if (const auto star = name.find('*'); star != std::string::npos && group.first >= 0) {
      const std::string first = std::to_string(group.first);
      name.replace(star, 1, group.count > 1 ? "{" + first + "…" + std::to_string(group.last) + "}" : first);
    }
    text += "  " + log_safe(name) + "  " + group.details;
    if (group.count > 1) text += "  ×" + std::to_string(group.count);
    text += "\n";
  }
  return text;
}

std::string token_list(const Json& tokens) {
  std::string text;
  for (const auto& [name, token] : tokens.items()) {
    text += (text.empty() ? "" : ", ") + (tokens.is_object() ? name + " " : "") + shown(token["text"]) + " (" +
            token["id"].dump() + ")";
  }
  return text;
}

std::string quantized_text(const Json& quantized) {
  std::string text = shown(quantized["to"]) + ": " + megabytes(quantized["bytes_before"]) + " become " +
                     megabytes(quantized["bytes_after"]);
  if (!quantized.contains("mean_kl")) return text;
  char figures[128];
  std::snprintf(figures, sizeof figures, "; KL from the original %.4f nats, same best token %.1f%% (%s positions)",
                quantized["mean_kl"].get<double>(), 100 * quantized["top1_agreement"].get<double>(),
                quantized["positions"].dump().c_str());
  return text + figures;
}

std::string model_text(const Json& report) {
  std::string text;
  text += line("format", shown(report["format"]));
  if (report.contains("model_type")) {
    text += line("name", shown(report["name"]));
    text += line("family", shown(report["family"]) + " (model_type " + shown(report["model_type"]) + ")");
    if (report.contains("purpose")) text += line("for", shown(report["purpose"]));
    std::string sizes;
    for (const auto& [key, value] : report["sizes"].items())
      sizes += (sizes.empty() ? "" : ", ") + key + " " + value.dump();
    text += line("sizes", sizes);
    text += line("context", report["context_length"].dump() + " tokens");
  }
  text += line("weights", millions(report["parameters"]) + " parameters, " + megabytes(report["tensor_bytes"]) +
                              (report.contains("quantization") ? ", " + shown(report["quantization"]) : ""));
  if (report.contains("quantization_config")) text += line("quantised", log_safe(report["quantization_config"].dump()));
  if (report.contains("quantized")) text += line("quantising", quantized_text(report["quantized"]));
  if (report.contains("tokenizer")) {
    const Json& tokenizer = report["tokenizer"];
    text += line("tokenizer",
                 shown(tokenizer["kind"]) +
                     (tokenizer.contains("vocab_size") ? ", " + tokenizer["vocab_size"].dump() + " tokens" : ""));
    if (tokenizer.contains("special")) text += line("special", token_list(tokenizer["special"]));
    if (tokenizer.contains("stop")) text += line("stop", token_list(tokenizer["stop"]));
  }
  if (report.contains("chat_template")) {
    const Json& chat = report["chat_template"];
    text += line("template", chat["bytes"].dump() + " bytes" + (chat["tools"].get<bool>() ? ", knows tools" : "") +
                                 (chat["thinking"].get<bool>() ? ", knows thinking" : ""));
  } else {
    text += line("template", "none");
  }
  if (report.contains("prompts")) text += line("prefixes", log_safe(report["prompts"].dump()));
  if (report.contains("matryoshka_dimensions")) text += line("dimensions", report["matryoshka_dimensions"].dump());
  text += line("tensors", std::to_string(report["tensors"].size()));
  return text + grouped(report["tensors"], "name", {"type", "shape"});
}

std::string adapter_text(const Json& report) {
  std::string text = line("rank", report["least_rank"] == report["greatest_rank"]
                                      ? report["least_rank"].dump()
                                      : report["least_rank"].dump() + " to " + report["greatest_rank"].dump());
  text += line("weights", millions(report["parameters"]) + " parameters");
  text += line("layers", std::to_string(report["layers"].size()) + " (module, rank, scale, inputs, outputs, type)");
  return text + grouped(report["layers"], "module", {"rank", "scale", "inputs", "outputs", "type"});
}

}  // namespace

std::string inspect_text(const Json& report) {
  std::string text = line("path", shown(report["path"])) + line("kind", shown(report["kind"]));
  text += report["kind"] == "model" ? model_text(report) : adapter_text(report);
  for (const Json& problem : report["problems"]) text += line("problem", shown(problem));
  return text;
}

}  // namespace inferd
