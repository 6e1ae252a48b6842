// TokenGrammar: answers by frame, remembered.
#include "engine/grammar/token_grammar.h"

#include <algorithm>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "engine/grammar/trie_walk.h"

namespace inferd {
namespace {

constexpr std::uint32_t kAheadOfToken = 64;    // frames that one token may add
constexpr std::uint32_t kUsualDepth = 192;     // stacks up to here are answered from what is remembered
constexpr std::size_t kMostBytes = 16u << 20;  // of remembered answers

using Positions = std::uint32_t;  // names a list of trie nodes
constexpr Positions kNowhere = 0, kRoot = 1;

struct Question {
  Positions positions;
  GrammarNodeId node;
  std::uint32_t count;
  bool operator==(const Question&) const = default;
};

struct QuestionHash {
  std::size_t operator()(const Question& q) const {
    const std::uint32_t list[] = {q.positions, q.node, q.count};
    return list_hash(list, 0);
  }
};

/// What is known of the tokens that go on from some trie nodes at one frame.
struct Answer {
  std::vector<std::uint64_t> dense;  // bits by token; or, where few are allowed:
  std::vector<TokenId> sparse;
  Positions rest = kNowhere;  // trie nodes at which the frame's rule is complete
  std::size_t bytes() const { return dense.size() * sizeof(dense[0]) + sparse.size() * sizeof(sparse[0]) + 64; }
};

void set_bit(std::span<std::uint64_t> words, TokenId token) {
  words[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(token) % 64);
}

/// The count that stands for all which allow the same tokens: no token holds more than `longest` repetitions.
std::uint32_t usual_count(const GrammarNode& node, std::uint32_t count, std::uint32_t longest) {
  if (node.kind != GrammarNode::Kind::repeat) return count;
  if (count < node.min) return node.min - count > longest ? 0 : count;
  return node.max == kUnlimited || node.max - count > longest ? std::min(node.min, count) : count;
}

}  // namespace

struct TokenGrammar::Memory {
  explicit Memory(const Grammar& grammar) : walk(grammar, kAheadOfToken, false) { clear(); }

  void clear() {
    answers.clear();
    lists.assign({{}, {0}});
    lists_by_hash.clear();
    bytes = 0;
  }
  Positions name(std::vector<std::uint32_t> list) {
    if (list.empty()) return kNowhere;
    const std::uint64_t hash = list_hash(list, 0);
    for (auto [it, end] = lists_by_hash.equal_range(hash); it != end; ++it) {
      if (lists[it->second] == list) return it->second;
    }
    bytes += list.size() * sizeof(list[0]);
    lists.push_back(std::move(list));
    lists_by_hash.emplace(hash, static_cast<Positions>(lists.size() - 1));
    return static_cast<Positions>(lists.size() - 1);
  }

  TrieWalk walk;
  std::vector<std::vector<std::uint32_t>> lists;
  std::unordered_multimap<std::uint64_t, Positions> lists_by_hash;
  std::unordered_map<Question, Answer, QuestionHash> answers;
  std::size_t bytes = 0;

  const Answer& ask(const TokenTrie& trie, const Question& question) {
    const auto known = answers.find(question);
    if (known != answers.end()) return known->second;
    TrieWalk::Found found;
    walk.clear();
    walk.run(trie, lists[question.positions], walk.machine().enter(question.node, question.count, 0), &found);
    Answer answer;
    const auto words = static_cast<std::size_t>(trie.vocab_size() + 63) / 64;
    if (found.tokens.size() > 2 * words) {
      answer.dense.resize(words);
      for (const TokenId token : found.tokens) set_bit(answer.dense, token);
    } else {
      answer.sparse = std::move(found.tokens);
    }
    std::sort(found.finished.begin(), found.finished.end());
    found.finished.erase(std::unique(found.finished.begin(), found.finished.end()), found.finished.end());
    answer.rest = name(std::move(found.finished));
    bytes += answer.bytes();
    return answers.emplace(question, std::move(answer)).first->second;
  }
};

TokenGrammar::TokenGrammar(Grammar grammar, std::shared_ptr<const TokenTrie> vocabulary,
                           std::vector<SymbolToken> symbols)
    : grammar_(std::move(grammar)),
      vocabulary_(std::move(vocabulary)),
      symbols_(std::move(symbols)),
      memory_(std::make_unique<Memory>(grammar_)) {}

TokenGrammar::~TokenGrammar() = default;

void TokenGrammar::prepare() const {
  constexpr std::chrono::milliseconds kMostTime(50);
  const auto end = std::chrono::steady_clock::now() + kMostTime;
  const std::lock_guard lock(mutex_);
  for (GrammarNodeId id = 0; id < grammar_.nodes.size(); ++id) {
    const GrammarNode& node = grammar_.nodes[id];
    if (node.kind != GrammarNode::Kind::match || node.need == kUnlimited) continue;
    if (memory_->bytes > kMostBytes / 2 || std::chrono::steady_clock::now() > end) return;
    memory_->ask(*vocabulary_, {kRoot, id, 0});
  }
}

std::uint32_t TokenGrammar::max_depth() const { return kUsualDepth + kAheadOfToken + grammar_.most_need; }

void TokenGrammar::allow(const StackMachine& machine, const Configuration& at, std::span<std::uint64_t> words) const {
  const std::lock_guard lock(mutex_);
  if (memory_->bytes > kMostBytes) memory_->clear();
  for (const StackId stack : at.stacks) {
    const StackFrame& top = machine.frame(stack);
    if (top.depth > kUsualDepth) {
      allow_deep(machine, stack, words);
    } else {
      allow_stack(machine, stack, words);
    }
    const GrammarNode& node = grammar_.nodes[top.node];
    for (const SymbolToken& symbol : symbols_) {
      for (std::uint32_t i = 0; i < node.count; ++i) {
        const Grammar::Edge& edge = grammar_.edges[node.first + i];
        const bool leads_on = grammar_.nodes[edge.target].need != kUnlimited;
        if (leads_on && symbol.symbol >= edge.bytes.lo && symbol.symbol <= edge.bytes.hi) set_bit(words, symbol.token);
      }
    }
  }
}

/// Each frame judges what is left of the tokens that completed the rules above it.
void TokenGrammar::allow_stack(const StackMachine& machine, StackId stack, std::span<std::uint64_t> words) const {
  Positions positions = kRoot;
  for (; stack != 0 && positions != kNowhere; stack = machine.frame(stack).below) {
    const StackFrame& frame = machine.frame(stack);
    const std::uint32_t count = usual_count(grammar_.nodes[frame.node], frame.count, vocabulary_->longest());
    const Answer& answer = memory_->ask(*vocabulary_, {positions, frame.node, count});
    for (std::size_t i = 0; i < answer.dense.size(); ++i) words[i] |= answer.dense[i];
    for (const TokenId token : answer.sparse) set_bit(words, token);
    positions = answer.rest;
  }
}

/// Near the depth limit it matters how deep the stack is.
void TokenGrammar::allow_deep(const StackMachine& machine, StackId stack, std::span<std::uint64_t> words) const {
  std::vector<StackFrame> frames;
  for (; stack != 0; stack = machine.frame(stack).below) frames.push_back(machine.frame(stack));
  TrieWalk walk(grammar_, max_depth(), true);
  StackId below = 0;
  for (std::size_t i = frames.size(); i-- > 1;) below = walk.machine().push(frames[i].node, frames[i].count, below);
  TrieWalk::Found found;
  const std::uint32_t root[] = {0};
  walk.run(*vocabulary_, root, walk.machine().enter(frames[0].node, frames[0].count, below), &found);
  for (const TokenId token : found.tokens) set_bit(words, token);
}

}  // namespace inferd
