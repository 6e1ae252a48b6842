// Grammar: the texts an answer may be, as a pushdown automaton over bytes; GrammarBuilder: how one is put together.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace inferd {

/// A grammar that cannot be had: too large, or no text fits it.
class GrammarError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The bytes from lo to hi.
struct ByteRange {
  std::uint8_t lo = 0, hi = 0;
};

using GrammarExpr = std::uint32_t;
using GrammarRule = std::uint32_t;
using GrammarNodeId = std::uint32_t;

constexpr std::uint32_t kUnlimited = std::numeric_limits<std::uint32_t>::max();

/// Bytes from here up stand in no UTF-8 text. A grammar means control tokens by them (token_grammar.h).
constexpr std::uint8_t kFirstSymbol = 0xF8;

/// One state of an automaton given by hand: where each byte leads, and whether the text may end here.
struct GraphState {
  struct Edge {
    ByteRange bytes;
    std::uint32_t target = 0;  // number of a state
  };
  std::vector<Edge> edges;
  bool final = false;
};

/// A node of a rule. `need` is how many calls deep at least one must go to get out of the rule from here; kUnlimited:
/// there is no way out.
struct GrammarNode {
  enum class Kind : std::uint8_t {
    accept,  // the rule's text is complete
    match,   // edges[first, first + count)
    split,   // goes on at any of targets[first, first + count), without a byte
    call,    // the rule that begins at `body`, then `next`
    repeat,  // that rule from min to max times, then `next`
  } kind = Kind::split;
  std::uint32_t first = 0, count = 0;
  GrammarNodeId body = 0, next = 0;
  std::uint32_t min = 0, max = 0;
  std::uint32_t need = kUnlimited;
};

/// Immutable, shared between threads.
struct Grammar {
  struct Edge {
    ByteRange bytes;
    GrammarNodeId target = 0;
  };
  std::vector<GrammarNode> nodes;
  std::vector<Edge> edges;
  std::vector<GrammarNodeId> targets;
  GrammarNodeId start = 0;
  std::uint32_t most_need = 0;                   // of all nodes that have a way out
  std::array<std::uint8_t, 256> byte_classes{};  // bytes of one class lead to the same places everywhere
  std::uint32_t num_classes = 0;
};

/// Makes expressions out of expressions; a number stands for each. All may be used several times; what is large and
/// used often should be a rule. Throws GrammarError beyond its limits.
class GrammarBuilder {
 public:
  /// The empty text.
  GrammarExpr empty() const { return 0; }
  /// No text at all.
  GrammarExpr never();
  GrammarExpr literal(std::string_view text);
  /// One byte.
  GrammarExpr bytes(std::vector<ByteRange> ranges);
  /// One character of the given code points, in UTF-8. Surrogates are left out.
  GrammarExpr code_points(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& ranges);
  GrammarExpr sequence(std::vector<GrammarExpr> parts);
  GrammarExpr choice(std::vector<GrammarExpr> parts);
  /// One of many texts, which share their beginnings.
  GrammarExpr one_of(const std::vector<std::string>& texts);
  GrammarExpr optional(GrammarExpr part) { return choice({part, empty()}); }
  GrammarExpr star(GrammarExpr part);
  GrammarExpr repeat(GrammarExpr part, std::uint32_t min, std::uint32_t max);
  /// Begins in state 0.
  GrammarExpr graph(std::vector<GraphState> states);

  GrammarRule declare();
  void define(GrammarRule rule, GrammarExpr text);
  GrammarExpr call(GrammarRule rule);
  /// A rule of its own for `text`.
  GrammarExpr rule(GrammarExpr text);

  /// Throws GrammarError if no text fits `root`.
  Grammar build(GrammarExpr root);

 private:
  friend class GrammarLowering;
  struct Expr {
    enum class Kind : std::uint8_t { empty, literal, bytes, sequence, choice, star, repeat, graph, call } kind;
    std::string text{};                // literal
    std::vector<ByteRange> ranges{};   // bytes
    std::vector<GrammarExpr> parts{};  // sequence, choice, star
    std::vector<GraphState> states{};  // graph
    std::uint32_t rule = 0, min = 0, max = 0;
  };
  GrammarExpr add(Expr expr);

  std::vector<Expr> exprs_{Expr{Expr::Kind::empty}};
  std::vector<GrammarExpr> rules_;
};

/// States of "any UTF-8 text in which none of `words` (ASCII) stands", each of which may be its end.
std::vector<GraphState> text_without(const std::vector<std::string>& words);

}  // namespace inferd
