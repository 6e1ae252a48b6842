// GrammarBuilder: expressions, and how they become the automaton's nodes.
#include "engine/grammar/grammar.h"

#include <algorithm>
#include <functional>
#include <map>
#include <queue>
#include <utility>

#include "base/utf8.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxExprs = 400'000;
constexpr std::size_t kMaxNodes = 200'000;
constexpr int kMaxDepth = 1000;  // of expressions in expressions

using Range = std::pair<std::uint32_t, std::uint32_t>;

std::string utf8(std::uint32_t code_point) {
  std::string out;
  append_utf8(&out, static_cast<char32_t>(code_point));
  return out;
}

/// Cuts a range of code points until each part is a product of byte ranges.
void split_range(Range range, std::vector<std::vector<ByteRange>>* out) {
  constexpr std::uint32_t kLast[] = {0x7F, 0x7FF, 0xFFFF};
  const auto [lo, hi] = range;
  for (const std::uint32_t last : kLast) {
    if (lo > last || hi <= last) continue;
    split_range({lo, last}, out);
    return split_range({last + 1, hi}, out);
  }
  for (std::uint32_t shift = 6; shift <= 18; shift += 6) {
    const std::uint32_t mask = (1u << shift) - 1;
    if (lo < 0x80 || (lo & ~mask) == (hi & ~mask)) continue;
    if ((lo & mask) != 0) {
      split_range({lo, lo | mask}, out);
      return split_range({(lo | mask) + 1, hi}, out);
    }
    if ((hi & mask) != mask) {
      split_range({lo, (hi & ~mask) - 1}, out);
      return split_range({hi & ~mask, hi}, out);
    }
  }
  const std::string first = utf8(lo), last = utf8(hi);
  std::vector<ByteRange> bytes;
  for (std::size_t i = 0; i < first.size(); ++i) {
    bytes.push_back({static_cast<std::uint8_t>(first[i]), static_cast<std::uint8_t>(last[i])});
  }
  out->push_back(std::move(bytes));
}

}  // namespace

GrammarExpr GrammarBuilder::add(Expr expr) {
  if (exprs_.size() >= kMaxExprs) throw GrammarError("it is too large");
  exprs_.push_back(std::move(expr));
  return static_cast<GrammarExpr>(exprs_.size() - 1);
}

GrammarExpr GrammarBuilder::never() { return add({Expr::Kind::choice}); }

GrammarExpr GrammarBuilder::literal(std::string_view text) {
  return text.empty() ? empty() : add({.kind = Expr::Kind::literal, .text = std::string(text)});
}

GrammarExpr GrammarBuilder::bytes(std::vector<ByteRange> ranges) {
  return add({.kind = Expr::Kind::bytes, .ranges = std::move(ranges)});
}

GrammarExpr GrammarBuilder::code_points(const std::vector<Range>& ranges) {
  constexpr std::uint32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF, kLast = 0x10FFFF;
  std::vector<std::vector<ByteRange>> products;
  for (const auto& [lo, hi] : ranges) {
    if (lo > hi) continue;
    if (lo < kFirstSurrogate) split_range({lo, std::min(hi, kFirstSurrogate - 1)}, &products);
    if (hi > kLastSurrogate) split_range({std::max(lo, kLastSurrogate + 1), std::min(hi, kLast)}, &products);
  }
  std::vector<ByteRange> single;
  std::vector<GrammarExpr> parts;
  for (const auto& product : products) {
    if (product.size() == 1) {
      single.push_back(product[0]);
      continue;
    }
    std::vector<GrammarExpr> sequence_of;
    for (const ByteRange& range : product) sequence_of.push_back(bytes({range}));
    parts.push_back(sequence(std::move(sequence_of)));
  }
  if (!single.empty()) parts.push_back(bytes(std::move(single)));
  return choice(std::move(parts));
}

GrammarExpr GrammarBuilder::sequence(std::vector<GrammarExpr> parts) {
  std::erase(parts, empty());
  if (parts.size() <= 1) return parts.empty() ? empty() : parts[0];
  return add({.kind = Expr::Kind::sequence, .parts = std::move(parts)});
}

GrammarExpr GrammarBuilder::choice(std::vector<GrammarExpr> parts) {
  return parts.size() == 1 ? parts[0] : add({.kind = Expr::Kind::choice, .parts = std::move(parts)});
}

GrammarExpr GrammarBuilder::one_of(const std::vector<std::string>& texts) {
  std::vector<GraphState> states(1);
  for (const std::string& text : texts) {
    std::uint32_t at = 0;
    for (const char c : text) {
      const auto byte = static_cast<std::uint8_t>(c);
      auto& edges = states[at].edges;
      const auto edge = std::find_if(edges.begin(), edges.end(), [&](const auto& e) { return e.bytes.lo == byte; });
      if (edge != edges.end()) {
        at = edge->target;
        continue;
      }
      const auto next = static_cast<std::uint32_t>(states.size());
      edges.push_back({{byte, byte}, next});
      at = next;
      if (states.size() >= kMaxNodes) throw GrammarError("it is too large");
      states.emplace_back();
    }
    states[at].final = true;
  }
  return graph(std::move(states));
}

GrammarExpr GrammarBuilder::star(GrammarExpr part) { return add({.kind = Expr::Kind::star, .parts = {part}}); }

GrammarExpr GrammarBuilder::repeat(GrammarExpr part, std::uint32_t min, std::uint32_t max) {
  if (max < min) return never();
  if (max == 0) return empty();
  if (min == 0 && max == kUnlimited) return star(part);
  if (min == 0 && max == 1) return optional(part);
  if (min == 1 && max == 1) return part;
  if (min == 1 && max == kUnlimited) return sequence({part, star(part)});
  const GrammarRule body = declare();
  define(body, part);
  return add({.kind = Expr::Kind::repeat, .rule = body, .min = min, .max = max});
}

GrammarExpr GrammarBuilder::graph(std::vector<GraphState> states) {
  return add({.kind = Expr::Kind::graph, .states = std::move(states)});
}

GrammarRule GrammarBuilder::declare() {
  rules_.push_back(kUnlimited);
  return static_cast<GrammarRule>(rules_.size() - 1);
}

void GrammarBuilder::define(GrammarRule rule, GrammarExpr text) { rules_[rule] = text; }

GrammarExpr GrammarBuilder::call(GrammarRule rule) { return add({.kind = Expr::Kind::call, .rule = rule}); }

GrammarExpr GrammarBuilder::rule(GrammarExpr text) {
  const GrammarRule made = declare();
  define(made, text);
  return call(made);
}

/// Turns expressions into nodes, each given the node that follows it. Node 0 accepts.
class GrammarLowering {
 public:
  explicit GrammarLowering(const GrammarBuilder& builder) : builder_(builder) {}

  Grammar lower(GrammarExpr root) {
    add({.kind = GrammarNode::Kind::accept});
    for (std::size_t rule = 0; rule < builder_.rules_.size(); ++rule) entries_.push_back(split({}));
    for (std::size_t rule = 0; rule < entries_.size(); ++rule) {
      if (builder_.rules_[rule] == kUnlimited) throw GrammarError("a rule has no text");
      const GrammarNodeId body = expr(builder_.rules_[rule], 0, 0);
      set_targets(entries_[rule], {body});
    }
    grammar_.start = expr(root, 0, 0);
    find_needs();
    if (grammar_.nodes[grammar_.start].need == kUnlimited) throw GrammarError("no text fits it");
    find_classes();
    return std::move(grammar_);
  }

 private:
  using Expr = GrammarBuilder::Expr;

  GrammarNodeId add(GrammarNode node) {
    if (grammar_.nodes.size() >= kMaxNodes) throw GrammarError("it is too large");
    grammar_.nodes.push_back(node);
    return static_cast<GrammarNodeId>(grammar_.nodes.size() - 1);
  }

  /// Match nodes among the targets become one, so that there are fewer stacks to carry along.
  void set_targets(GrammarNodeId node, std::vector<GrammarNodeId> targets) {
    const auto matches = [this](GrammarNodeId id) { return grammar_.nodes[id].kind == GrammarNode::Kind::match; };
    if (std::count_if(targets.begin(), targets.end(), matches) > 1) {
      std::vector<Grammar::Edge> edges;
      for (const GrammarNodeId target : targets) {
        if (!matches(target)) continue;
        const auto first = grammar_.edges.begin() + grammar_.nodes[target].first;
        edges.insert(edges.end(), first, first + grammar_.nodes[target].count);
      }
      std::erase_if(targets, matches);
      targets.insert(targets.begin(), match(edges));
    }
    grammar_.nodes[node].first = static_cast<std::uint32_t>(grammar_.targets.size());
    grammar_.nodes[node].count = static_cast<std::uint32_t>(targets.size());
    grammar_.targets.insert(grammar_.targets.end(), targets.begin(), targets.end());
  }

  GrammarNodeId split(const std::vector<GrammarNodeId>& targets) {
    const GrammarNodeId node = add({.kind = GrammarNode::Kind::split});
    set_targets(node, targets);
    return node;
  }

  GrammarNodeId match(const std::vector<Grammar::Edge>& edges) {
    const auto first = static_cast<std::uint32_t>(grammar_.edges.size());
    grammar_.edges.insert(grammar_.edges.end(), edges.begin(), edges.end());
    return add({.kind = GrammarNode::Kind::match, .first = first, .count = static_cast<std::uint32_t>(edges.size())});
  }

  GrammarNodeId expr(GrammarExpr number, GrammarNodeId next, int depth) {
    if (depth > kMaxDepth) throw GrammarError("it is nested too deeply");
    const Expr& e = builder_.exprs_[number];
    switch (e.kind) {
      case Expr::Kind::empty:
        return next;
      case Expr::Kind::literal:
        for (std::size_t i = e.text.size(); i-- > 0;) {
          const auto byte = static_cast<std::uint8_t>(e.text[i]);
          next = match({{{byte, byte}, next}});
        }
        return next;
      case Expr::Kind::bytes: {
        std::vector<Grammar::Edge> edges;
        for (const ByteRange& range : e.ranges) edges.push_back({range, next});
        return match(edges);
      }
      case Expr::Kind::sequence:
        for (std::size_t i = e.parts.size(); i-- > 0;) next = expr(e.parts[i], next, depth + 1);
        return next;
      case Expr::Kind::choice: {
        std::vector<GrammarNodeId> targets;
        for (const GrammarExpr part : e.parts) targets.push_back(expr(part, next, depth + 1));
        return split(targets);
      }
      case Expr::Kind::star: {
        const GrammarNodeId node = split({});
        set_targets(node, {expr(e.parts[0], node, depth + 1), next});
        return node;
      }
      case Expr::Kind::repeat:
        return add(
            {.kind = GrammarNode::Kind::repeat, .body = entries_[e.rule], .next = next, .min = e.min, .max = e.max});
      case Expr::Kind::graph:
        return graph(e.states, next);
      case Expr::Kind::call:
        if (next == 0) return entries_[e.rule];  // what it returns to would return at once
        return add({.kind = GrammarNode::Kind::call, .body = entries_[e.rule], .next = next});
    }
    return next;
  }

  GrammarNodeId graph(const std::vector<GraphState>& states, GrammarNodeId next) {
    const auto first = static_cast<GrammarNodeId>(grammar_.nodes.size());
    for (std::size_t i = 0; i < states.size(); ++i) split({});
    for (std::size_t i = 0; i < states.size(); ++i) {
      std::vector<GrammarNodeId> targets;
      std::vector<Grammar::Edge> edges;
      for (const GraphState::Edge& edge : states[i].edges) edges.push_back({edge.bytes, first + edge.target});
      if (!edges.empty()) targets.push_back(match(edges));
      if (states[i].final) targets.push_back(next);
      set_targets(first + static_cast<GrammarNodeId>(i), targets);
    }
    return first;
  }

  std::uint32_t need_of(GrammarNodeId node) const { return grammar_.nodes[node].need; }

  std::uint32_t compute_need(const GrammarNode& node) const {
    const auto through = [&](GrammarNodeId body, GrammarNodeId next) {
      const std::uint32_t inside = need_of(body) == kUnlimited ? kUnlimited : need_of(body) + 1;
      return std::max(inside, need_of(next));
    };
    std::uint32_t need = kUnlimited;
    switch (node.kind) {
      case GrammarNode::Kind::accept:
        return 0;
      case GrammarNode::Kind::match:
        for (std::uint32_t i = 0; i < node.count; ++i) {
          need = std::min(need, need_of(grammar_.edges[node.first + i].target));
        }
        return need;
      case GrammarNode::Kind::split:
        for (std::uint32_t i = 0; i < node.count; ++i) need = std::min(need, need_of(grammar_.targets[node.first + i]));
        return need;
      case GrammarNode::Kind::call:
        return through(node.body, node.next);
      case GrammarNode::Kind::repeat:
        return node.min == 0 ? need_of(node.next) : through(node.body, node.next);
    }
    return need;
  }

  template <typename Visit>
  void for_each_successor(const GrammarNode& node, Visit visit) const {
    switch (node.kind) {
      case GrammarNode::Kind::accept:
        break;
      case GrammarNode::Kind::match:
        for (std::uint32_t i = 0; i < node.count; ++i) visit(grammar_.edges[node.first + i].target);
        break;
      case GrammarNode::Kind::split:
        for (std::uint32_t i = 0; i < node.count; ++i) visit(grammar_.targets[node.first + i]);
        break;
      case GrammarNode::Kind::call:
      case GrammarNode::Kind::repeat:
        visit(node.body);
        visit(node.next);
        break;
    }
  }

  /// Knuth's generalisation of Dijkstra's algorithm: the smallest need that is left is certain.
  void find_needs() {
    std::vector<std::vector<GrammarNodeId>> before(grammar_.nodes.size());
    for (GrammarNodeId id = 0; id < grammar_.nodes.size(); ++id) {
      for_each_successor(grammar_.nodes[id], [&](GrammarNodeId to) { before[to].push_back(id); });
    }
    using Entry = std::pair<std::uint32_t, GrammarNodeId>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
    open.emplace(0, 0);
    while (!open.empty()) {
      const auto [need, id] = open.top();
      open.pop();
      if (need >= grammar_.nodes[id].need) continue;
      grammar_.nodes[id].need = need;
      grammar_.most_need = std::max(grammar_.most_need, need);
      for (const GrammarNodeId user : before[id]) {
        const std::uint32_t through = compute_need(grammar_.nodes[user]);
        if (through < grammar_.nodes[user].need) open.emplace(through, user);
      }
    }
  }

  void find_classes() {
    std::array<bool, 257> begins{};
    for (const Grammar::Edge& edge : grammar_.edges) {
      begins[edge.bytes.lo] = true;
      begins[std::size_t{edge.bytes.hi} + 1] = true;
    }
    std::uint32_t current = 0;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (byte > 0 && begins[byte]) ++current;
      grammar_.byte_classes[byte] = static_cast<std::uint8_t>(current);
    }
    grammar_.num_classes = current + 1;
  }

  const GrammarBuilder& builder_;
  Grammar grammar_;
  std::vector<GrammarNodeId> entries_;
};

Grammar GrammarBuilder::build(GrammarExpr root) { return GrammarLowering(*this).lower(root); }

namespace {

/// What an automaton that looks for words knows after reading `seen`: its longest end that begins a word. False if a
/// word has been read.
bool advance(const std::vector<std::string>& words, std::string& seen) {
  for (; !seen.empty(); seen.erase(0, 1)) {
    bool begins = false;
    for (const std::string& word : words) {
      if (seen.ends_with(word)) return false;
      begins = begins || word.starts_with(seen);
    }
    if (begins) break;
  }
  return true;
}

}  // namespace

std::vector<GraphState> text_without(const std::vector<std::string>& words) {
  std::vector<GraphState> states(1);
  const auto chain = [&](std::vector<ByteRange> bytes) {  // the state that awaits these, then is at 0
    std::uint32_t next = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
      states.push_back({{{bytes[i], next}}, false});
      next = static_cast<std::uint32_t>(states.size() - 1);
    }
    return next;
  };
  constexpr ByteRange kTail{0x80, 0xBF};
  const std::vector<GraphState::Edge> leads = {{{0xC2, 0xDF}, chain({kTail})},
                                               {{0xE0, 0xE0}, chain({{0xA0, 0xBF}, kTail})},
                                               {{0xE1, 0xEC}, chain({kTail, kTail})},
                                               {{0xED, 0xED}, chain({{0x80, 0x9F}, kTail})},
                                               {{0xEE, 0xEF}, chain({kTail, kTail})},
                                               {{0xF0, 0xF0}, chain({{0x90, 0xBF}, kTail, kTail})},
                                               {{0xF1, 0xF3}, chain({kTail, kTail, kTail})},
                                               {{0xF4, 0xF4}, chain({{0x80, 0x8F}, kTail, kTail})}};
  std::map<std::string, std::uint32_t> known{{"", 0}};
  std::vector<std::string> open{""};
  while (!open.empty()) {
    const std::string seen = open.back();
    open.pop_back();
    const std::uint32_t from = known[seen];
    states[from].final = true;
    states[from].edges = leads;
    for (int c = 0; c < 0x80; ++c) {
      std::string next = seen + static_cast<char>(c);
      if (!advance(words, next)) continue;
      auto found = known.find(next);
      if (found == known.end()) {
        found = known.emplace(next, static_cast<std::uint32_t>(states.size())).first;
        states.emplace_back();
        open.push_back(next);
      }
      const auto byte = static_cast<std::uint8_t>(c);
      auto& edges = states[from].edges;
      if (c > 0 && edges.back().target == found->second && edges.back().bytes.hi + 1 == byte) {
        edges.back().bytes.hi = byte;
      } else {
        edges.push_back({{byte, byte}, found->second});
      }
    }
  }
  return states;
}

}  // namespace inferd
