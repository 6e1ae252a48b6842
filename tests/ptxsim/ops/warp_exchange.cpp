// Exchange between the lanes of a warp: PTX ISA 9.7.13 (vote, match, redux, activemask, bar.warp.sync) and shfl.
// The executor has seen to it that the lanes of `m` are those the mask names.
#include <algorithm>
#include <cstring>

#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

enum class Shuffle { up, down, butterfly, index };

// shfl.sync.mode.b32 d{|p}, a, b, c, mask. variant: [1] has p
template <Shuffle mode>
void run_shuffle(Warp& w, const Instruction& i, LaneMask m) {
  const size_t first = i.variant[1] != 0 ? 2 : 1;
  uint32_t* d = w.lanes32(i[0]);
  uint32_t source[kWarpSize];
  std::memcpy(source, w.lanes32(i[first]), sizeof source);
  const uint32_t *b = w.lanes32(i[first + 1]), *c = w.lanes32(i[first + 2]);
  LaneMask valid = 0;
  for (LaneMask rest = m; rest != 0; rest &= rest - 1) {
    const int l = std::countr_zero(rest);
    const int segment = int(c[l] >> 8 & 31), clamp = int(c[l] & 31), by = int(b[l] & 31);
    const int last = (l & segment) | (clamp & ~segment), start = l & segment;
    int from = l;
    bool in_range = true;
    switch (mode) {
      case Shuffle::up:
        from = l - by;
        in_range = from >= last;
        break;
      case Shuffle::down:
        from = l + by;
        in_range = from <= last;
        break;
      case Shuffle::butterfly:
        from = l ^ by;
        in_range = from <= last;
        break;
      case Shuffle::index:
        from = start | (by & ~segment);
        in_range = from <= last;
        break;
    }
    if (!in_range) from = l;
    if (!(m >> from & 1) && in_range) {
      w.fail(Violation::Kind::divergence, i, l, "reads lane " + std::to_string(from) + ", which does not take part");
    }
    d[l] = source[from];
    valid |= LaneMask{in_range} << l;
  }
  if (first == 2) w.set_predicate(i[1], valid, m);
}

// Reads of lanes outside the mask are harmless where the lane's result is not used; PTX leaves them undefined.
enum class Vote { all, any, uniform, ballot };

void run_vote(Warp& w, const Instruction& i, LaneMask m) {
  const LaneMask votes = w.predicate(i[1]) & m;
  const auto set = [&](bool value) { w.set_predicate(i[0], value ? kAllLanes : 0, m); };
  switch (Vote(i.variant[0])) {
    case Vote::all:
      return set(votes == m);
    case Vote::any:
      return set(votes != 0);
    case Vote::uniform:
      return set(votes == m || votes == 0);
    case Vote::ballot: {
      uint32_t* d = w.lanes32(i[0]);
      each_lane(m, [=](int l) { d[l] = votes; });
    }
  }
}

// match.any d, a, mask: the lanes with the same value. match.all d|p, a, mask: all of them, or none.
template <class T>
void run_match(Warp& w, const Instruction& i, LaneMask m) {
  const bool all = i.variant[0] != 0, has_predicate = i.variant[1] != 0;
  uint32_t* d = w.lanes32(i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[has_predicate ? 2 : 1]);
  LaneMask equal[kWarpSize] = {};
  for (LaneMask x = m; x != 0; x &= x - 1) {
    const int l = std::countr_zero(x);
    for (LaneMask y = m; y != 0; y &= y - 1)
      equal[l] |= LaneMask{a[std::countr_zero(y)] == a[l]} << std::countr_zero(y);
  }
  const bool same = equal[std::countr_zero(m)] == m;
  each_lane(m, [&](int l) { d[l] = all ? (same ? m : 0) : equal[l]; });
  if (has_predicate) w.set_predicate(i[1], same ? kAllLanes : 0, m);
}

enum class Redux { add, min, max, bit_and, bit_or, bit_xor };

template <class T>
void run_redux(Warp& w, const Instruction& i, LaneMask m) {
  const uint32_t* a = w.lanes32(i[1]);
  uint32_t* d = w.lanes32(i[0]);
  T result = T(a[std::countr_zero(m)]);
  for (LaneMask rest = m & (m - 1); rest != 0; rest &= rest - 1) {
    const T v = T(a[std::countr_zero(rest)]);
    switch (Redux(i.variant[0])) {
      case Redux::add:
        result = T(uint32_t(result) + uint32_t(v));
        break;
      case Redux::min:
        result = std::min(result, v);
        break;
      case Redux::max:
        result = std::max(result, v);
        break;
      case Redux::bit_and:
        result &= v;
        break;
      case Redux::bit_or:
        result |= v;
        break;
      case Redux::bit_xor:
        result ^= v;
        break;
    }
  }
  each_lane(m, [&](int l) { d[l] = uint32_t(result); });
}

void run_activemask(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  each_lane(m, [=](int l) { d[l] = m; });
}

// Orders the shared memory accesses of the warp's lanes.
void run_warp_sync(Warp& w, const Instruction&, LaneMask) { ++w.clock; }

template <class E>
bool find_name(const Opcode& op, std::initializer_list<std::pair<std::string_view, E>> names, int& found) {
  for (const auto& [name, value] : names) {
    if (op.has(name)) {
      found = int(value);
      return true;
    }
  }
  return false;
}

Handler choose(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const bool wide = type_bits(op.type()) == 64;
  int& mode = ins.variant[0];
  if (root == "shfl") {
    ins.variant[1] = ins.operands.size() == 6;
    const bool known = find_name<Shuffle>(
        op, {{"up", Shuffle::up}, {"down", Shuffle::down}, {"bfly", Shuffle::butterfly}, {"idx", Shuffle::index}},
        mode);
    constexpr Handler kHandlers[] = {run_shuffle<Shuffle::up>, run_shuffle<Shuffle::down>,
                                     run_shuffle<Shuffle::butterfly>, run_shuffle<Shuffle::index>};
    return known && op.has("sync") && ins.operands.size() >= 5 ? kHandlers[mode] : nullptr;
  }
  if (root == "vote") {
    const bool known = find_name<Vote>(
        op, {{"all", Vote::all}, {"any", Vote::any}, {"uni", Vote::uniform}, {"ballot", Vote::ballot}}, mode);
    return known && op.has("sync") && ins.operands.size() == 3 ? run_vote : nullptr;
  }
  if (root == "match") {
    ins.variant = {op.has("all"), ins.operands.size() == 4};
    return wide ? run_match<uint64_t> : run_match<uint32_t>;
  }
  if (root == "redux") {
    const bool known = find_name<Redux>(op,
                                        {{"add", Redux::add},
                                         {"min", Redux::min},
                                         {"max", Redux::max},
                                         {"and", Redux::bit_and},
                                         {"or", Redux::bit_or},
                                         {"xor", Redux::bit_xor}},
                                        mode);
    if (!known || ins.operands.size() != 3 || op.type() == Type::f32) return nullptr;
    return op.type() == Type::s32 ? run_redux<int32_t> : run_redux<uint32_t>;
  }
  if (root == "activemask") return run_activemask;
  return root == "bar" || root == "barrier" ? run_warp_sync : nullptr;
}

}  // namespace

void select_warp_exchange(Instruction& ins) {
  require_operands(ins, 1);
  ins.run = choose(ins);
}

}  // namespace inferd::ptxsim
