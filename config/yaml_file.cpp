// The configuration file: YAML parser events become a small tree with line numbers, and that is applied key by key.
#include "config/yaml_file.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr int kMaxDepth = 6;
constexpr std::size_t kMaxNodes = 20'000;

struct YamlEntry;

struct YamlNode {
  enum class Kind { null, scalar, sequence, map } kind = Kind::null;
  int line = 0;
  std::string scalar;
  std::vector<YamlNode> items;     // sequence
  std::vector<YamlEntry> entries;  // map, in order
};

struct YamlEntry {
  std::string key;
  YamlNode value;
};

/// Builds the tree from parser events, so that anchors are seen and nothing is ever expanded.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::string file) : file_(std::move(file)) {}
  YamlNode root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { leaf(mark, anchor, YamlNode::Kind::null, ""); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { fail(mark.line, "aliases (*name) are not allowed"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark.line, "tags (!name) are not allowed");
    leaf(mark, anchor, YamlNode::Kind::scalar, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, YamlNode::Kind::sequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, YamlNode::Kind::map);
  }
  void OnMapEnd() override { close(); }

  [[noreturn]] void fail(int line, const std::string& what) const {
    throw ConfigError(file_ + ":" + std::to_string(line + 1) + ": " + what);
  }

 private:
  struct Open {
    YamlNode node;
    std::string key;
    int key_line = 0;
    bool has_key = false;
    std::set<std::string> keys;
  };

  void check(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) fail(mark.line, "anchors (&name) are not allowed");
    if (++nodes_ > kMaxNodes) fail(mark.line, "too many values");
  }
  void leaf(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind, const std::string& value) {
    check(mark, anchor);
    if (!stack_.empty() && stack_.back().node.kind == YamlNode::Kind::map && !stack_.back().has_key) {
      if (kind == YamlNode::Kind::null) fail(mark.line, "a key is missing");
      if (!stack_.back().keys.insert(value).second) fail(mark.line, log_safe(value) + ": the key stands here twice");
      stack_.back().key = value;
      stack_.back().key_line = mark.line;
      stack_.back().has_key = true;
      return;
    }
    YamlNode node;
    node.kind = kind;
    // the parser reports a missing value where it notices, which is a line too late
    const bool missing = kind == YamlNode::Kind::null && !stack_.empty() && stack_.back().has_key;
    node.line = missing ? stack_.back().key_line : mark.line;
    node.scalar = value;
    add(std::move(node));
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    check(mark, anchor);
    if (!stack_.empty() && stack_.back().node.kind == YamlNode::Kind::map && !stack_.back().has_key) {
      fail(mark.line, "a key must be plain text");
    }
    if (stack_.size() >= static_cast<std::size_t>(kMaxDepth)) fail(mark.line, "nested too deeply");
    Open open;
    open.node.kind = kind;
    open.node.line = mark.line;
    stack_.push_back(std::move(open));
  }
  void close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node));
  }
  void add(YamlNode node) {
    if (stack_.empty()) {
      root = std::move(node);
    } else if (stack_.back().node.kind == YamlNode::Kind::map) {
      stack_.back().node.entries.push_back({stack_.back().key, std::move(node)});
      stack_.back().has_key = false;
    } else {
      stack_.back().node.items.push_back(std::move(node));
    }
  }

  std::string file_;
  std::vector<Open> stack_;
  std::size_t nodes_ = 0;
};

/// Applies the tree. Holds only what error messages need.
class Applier {
 public:
  Applier(Settings& settings, const std::string& file) : settings_(settings), file_(file) {}

  void apply(const YamlNode& root) {
    if (root.kind == YamlNode::Kind::null) return;
    if (root.kind != YamlNode::Kind::map) fail(root, "expected KEY: VALUE lines");
    for (const auto& [name, node] : root.entries) {
      if (name == "models") {
        apply_models(node);
      } else if (name == "adapters") {
        apply_adapters(node);
      } else if (const SettingKey* key = find_setting(name)) {
        apply_key(*key, node);
      } else {
        fail_unknown(node, name);
      }
    }
  }

 private:
  std::string where(const YamlNode& node, const std::string& what) const {
    return file_ + ":" + std::to_string(node.line + 1) + ": " + what;
  }
  [[noreturn]] void fail(const YamlNode& node, const std::string& what) const { throw ConfigError(where(node, what)); }
  [[noreturn]] void fail_unknown(const YamlNode& node, const std::string& name) const {
    std::string plain = name;
    std::replace(plain.begin(), plain.end(), '-', '_');
    fail(node,
         log_safe(name) + ": unknown key" + (find_setting(plain) != nullptr ? "; did you mean " + plain + "?" : ""));
  }
  const std::string& scalar(const YamlNode& node, const std::string& name) const {
    if (node.kind == YamlNode::Kind::null) fail(node, name + ": has no value");
    if (node.kind != YamlNode::Kind::scalar) fail(node, name + ": expected one value, found a list or map");
    return node.scalar;
  }
  std::vector<std::string> list(const YamlNode& node, const std::string& name) const {
    std::vector<std::string> items;
    for (const YamlNode& item : node.items) items.push_back(scalar(item, name));
    for (const auto& [key, value] : node.entries) items.push_back(key + "=" + scalar(value, name));
    return items;
  }
  void apply_key(const SettingKey& key, const YamlNode& node) {
    const std::string name(key.name);
    const bool nested = node.kind == YamlNode::Kind::sequence || node.kind == YamlNode::Kind::map;
    if (key.type == KeyType::list && nested) {
      // only aliases read naturally as a map: {gpt-3.5-turbo: my-model}
      if (node.kind == YamlNode::Kind::map && key.name != "aliases") fail(node, name + ": expected a list");
      set_list(settings_, key, list(node, name), where(node, name));
    } else {
      set_value(settings_, key, scalar(node, name), where(node, name));
    }
  }
  void apply_models(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::sequence) fail(node, "models: expected a list of {path, name, …}");
    settings_.models.clear();
    for (const YamlNode& item : node.items) {
      if (item.kind != YamlNode::Kind::map) fail(item, "models: expected {path, name, …}");
      settings_.models.push_back(model(item));
    }
  }
  void apply_adapters(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::sequence) fail(node, "adapters: expected a list of {name, path, base}");
    settings_.adapters.clear();
    for (const YamlNode& item : node.items) {
      if (item.kind != YamlNode::Kind::map) fail(item, "adapters: expected {name, path, base}");
      AdapterSettings adapter;
      adapter.where = where(item, "adapters");
      for (const auto& [name, value] : item.entries) {
        const std::string key = "adapters: " + name;
        if (name == "name")
          adapter.name = scalar(value, key);
        else if (name == "path")
          adapter.path = scalar(value, key);
        else if (name == "base")
          adapter.base = scalar(value, key);
        else
          fail(value, log_safe(key) + ": unknown key");
      }
      if (adapter.name.empty() || adapter.path.empty()) fail(item, "adapters: name and path are needed");
      settings_.adapters.push_back(std::move(adapter));
    }
  }
  ModelSettings model(const YamlNode& item) const {
    ModelSettings model;
    model.where = where(item, "models");
    for (const auto& [name, node] : item.entries) {
      const std::string key = "models: " + name;
      if (name == "name")
        model.name = scalar(node, key);
      else if (name == "path")
        model.path = scalar(node, key);
      else if (name == "device")
        model.device = choice(node, name).device;
      else if (name == "gpu_layers")
        model.gpu_layers = choice(node, name).gpu_layers;
      else if (name == "quantization")
        model.quantization = choice(node, name).quantization;
      else if (name == "chat_template")
        model.chat_template = scalar(node, key);
      else if (name == "reasoning_parser")
        model.reasoning_parser = choice(node, name).reasoning_parser;
      else if (name == "tool_parser")
        model.tool_parser = choice(node, name).tool_parser;
      else if (name == "draft_model")
        model.draft_model = scalar(node, key);
      else if (name == "context_length")
        model.context_length = choice(node, name).context_length;
      else if (name == "tensor_parallel")
        model.tensor_parallel = choice(node, name).tensor_parallel;
      else if (name == "aliases")
        model.aliases = aliases(node, key);
      else
        fail(node, log_safe(key) + ": unknown key");
    }
    if (model.path.empty()) fail(item, "models: path is missing");
    return model;
  }
  /// Settings that hold a model's own value of the global key `name`.
  Settings choice(const YamlNode& node, const std::string& name) const {
    const std::string key = "models: " + name;
    Settings scratch;
    set_value(scratch, *find_setting(name), scalar(node, key), where(node, key));
    return scratch;
  }
  std::vector<std::string> aliases(const YamlNode& node, const std::string& key) const {
    if (node.kind != YamlNode::Kind::sequence) fail(node, key + ": expected a list");
    return list(node, key);
  }

  Settings& settings_;
  const std::string& file_;
};

std::string read_config_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw ConfigError(path + ": cannot be read: " + std::strerror(errno));
  std::string text(kMaxConfigBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || (in.fail() && !in.eof())) throw ConfigError(path + ": cannot be read");
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

}  // namespace

void apply_yaml_text(Settings& settings, const std::string& text, const std::string& name) {
  if (text.size() > kMaxConfigBytes) throw ConfigError(name + ": expected at most 256 KiB");
  if (text.find('\0') != std::string::npos) throw ConfigError(name + ": contains a NUL byte");
  TreeBuilder builder(name);
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    parser.HandleNextDocument(builder);
    TreeBuilder second(name);
    if (parser.HandleNextDocument(second)) throw ConfigError(name + ": expected one document");
  } catch (const YAML::Exception& error) {
    builder.fail(error.mark.line, error.msg);
  }
  Applier(settings, name).apply(builder.root);
}

void apply_yaml_file(Settings& settings, const std::string& path) {
  apply_yaml_text(settings, read_config_file(path), path);
}

}  // namespace inferd
