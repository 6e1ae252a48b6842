// Layout of activations.
#include "kernels/cpu/linear/activation.h"

#include <string>

#include "base/check.h"
#include "base/errors.h"

namespace inferd {
namespace {

constexpr std::int64_t kF32Align = 16;  // floats: rows start on cache lines
constexpr std::int64_t kLargest = std::int64_t{1} << 40;

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

std::size_t f32_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(round_up(columns, kF32Align)) * sizeof(float);
}

}  // namespace

std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) {
  INFERD_CHECK(rows >= 0 && columns >= 0 && (forms & ~(kFormF32 | kFormQ8)) == 0);
  if (columns > kLargest || (columns > 0 && rows > kLargest / columns)) {
    throw MemoryError("activations of " + std::to_string(rows) + " x " + std::to_string(columns) + " are too large");
  }
  std::size_t bytes = 0;
  if ((forms & kFormF32) != 0) bytes += f32_bytes(rows, columns);
  if ((forms & kFormQ8) != 0) {
    bytes += static_cast<std::size_t>(round_up(rows, kActivationGroup)) *
             static_cast<std::size_t>(round_up(columns, kBlockColumnsOfActivation) / kBlockColumnsOfActivation) *
             sizeof(ActivationBlock);
  }
  return bytes;
}

ActivationView view_activation(const Activation& activation) {
  ActivationView view;
  if (!activation) return view;
  auto* at = static_cast<std::byte*>(activation.data);
  view.columns = activation.columns;
  if ((activation.forms & kFormF32) != 0) {
    view.f32 = reinterpret_cast<float*>(at);
    view.f32_stride = round_up(activation.columns, kF32Align);
    at += f32_bytes(activation.rows, activation.columns);
  }
  if ((activation.forms & kFormQ8) != 0) {
    view.blocks = reinterpret_cast<ActivationBlock*>(at);
    view.kblocks = round_up(activation.columns, kBlockColumnsOfActivation) / kBlockColumnsOfActivation;
  }
  return view;
}

std::vector<float> read_activation_row(const Activation& activation, std::int64_t row) {
  INFERD_CHECK(row >= 0 && row < activation.rows);
  const ActivationView view = view_activation(activation);
  std::vector<float> values(static_cast<std::size_t>(view.columns));
  for (std::int64_t k = 0; k < view.columns; ++k) {
    float& value = values[static_cast<std::size_t>(k)];
    if (view.blocks != nullptr) {
      const std::int64_t group = row / kActivationGroup * view.kblocks + k / kBlockColumnsOfActivation;
      const ActivationBlock& block = view.blocks[group * kActivationGroup + row % kActivationGroup];
      value = block.scale * static_cast<float>(block.quants[k % kBlockColumnsOfActivation]);
    } else {
      value = view.f32[row * view.f32_stride + k];
    }
  }
  return values;
}

}  // namespace inferd
