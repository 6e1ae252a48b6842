// Loops over the lanes of a warp, written so that the compiler turns them into vector code.
#pragma once
#include <bit>
#include <type_traits>

#include "tests/ptxsim/ops/select.h"
#include "tests/ptxsim/warp.h"

namespace inferd::ptxsim {

/// Calls f(lane) for each lane of the mask. Lanes must not depend on each other.
template <class F>
inline void each_lane(LaneMask lanes, F&& f) {
  if (lanes == kAllLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kWarpSize; ++lane) f(lane);
  } else {
    for (; lanes != 0; lanes &= lanes - 1) f(std::countr_zero(lanes));
  }
}

/// How a register of the width of T holds a T: the low bits, zeros above.
template <class T>
struct RegisterOf {
  using Word = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  static Word* lanes(Warp& warp, const Operand& o) {
    if constexpr (sizeof(T) == 8) {
      return warp.lanes64(o);
    } else {
      return warp.lanes32(o);
    }
  }
  static T get(Word w) {
    if constexpr (sizeof(T) == sizeof(Word)) {
      return std::bit_cast<T>(w);
    } else {
      return T(w);
    }
  }
  static Word put(T value) {
    if constexpr (sizeof(T) == sizeof(Word)) {
      return std::bit_cast<Word>(value);
    } else {
      return Word(std::make_unsigned_t<T>(value));
    }
  }
};

// Handlers of d = F(a), d = F(a, b), d = F(a, b, c); D the type of d, T of the others. F is a stateless function
// object.
template <class D, class T, class F>
void run_unary(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<D>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  each_lane(m, [&](int l) { d[l] = RegisterOf<D>::put(F()(RegisterOf<T>::get(a[l]))); });
}

template <class D, class T, class F>
void run_binary(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<D>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const auto* b = RegisterOf<T>::lanes(w, i[2]);
  each_lane(m, [&](int l) { d[l] = RegisterOf<D>::put(F()(RegisterOf<T>::get(a[l]), RegisterOf<T>::get(b[l]))); });
}

// The third operand has the type of the destination (mad.wide).
template <class D, class T, class F>
void run_ternary(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<D>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const auto* b = RegisterOf<T>::lanes(w, i[2]);
  const auto* c = RegisterOf<D>::lanes(w, i[3]);
  each_lane(m, [&](int l) {
    d[l] = RegisterOf<D>::put(F()(RegisterOf<T>::get(a[l]), RegisterOf<T>::get(b[l]), RegisterOf<D>::get(c[l])));
  });
}

}  // namespace inferd::ptxsim
