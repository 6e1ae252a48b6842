// Products with the matrices of a layer's experts, all in one go.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/linear/activation.h"
#include "kernels/cpu/linear/cpu_weight.h"
#include "kernels/cpu/linear/linear_job.h"

namespace inferd {
namespace {

static_assert(kExpertRowAlign % kRowAlign == 0, "an expert's rows begin where a call's may");

/// Experts have few rows or many: smaller tasks than one matrix would be cut into, so that workers end together.
constexpr std::int64_t kTurnsAsOne = 4;

/// The rows of one expert that has any.
struct Turn {
  const CpuWeight* weight;
  std::int64_t first_row;
  std::int64_t rows;
  std::int64_t chunk_rows;
  std::int64_t first_task;
};

class CpuExpertGroup final : public ExpertGroup {
 public:
  explicit CpuExpertGroup(std::vector<const CpuWeight*> experts) : experts_(std::move(experts)) {
    turns_.reserve(experts_.size());
  }
  const std::vector<const CpuWeight*>& experts() const { return experts_; }
  /// Scratch of the call under way.
  std::vector<Turn>& turns() const { return turns_; }

 private:
  std::vector<const CpuWeight*> experts_;
  mutable std::vector<Turn> turns_;
};

bool is_alike(const CpuWeight& a, const CpuWeight& b) {
  return a.rows() == b.rows() && a.columns() == b.columns() && a.gated() == b.gated() &&
         a.activation_forms() == b.activation_forms();
}

}  // namespace

std::unique_ptr<ExpertGroup> cpu_group_experts(std::span<const Weight* const> experts) {
  std::vector<const CpuWeight*> own;
  for (const Weight* expert : experts) {
    const auto* weight = dynamic_cast<const CpuWeight*>(expert);
    INFERD_CHECK(weight != nullptr);
    if (!weight->column_orders().empty() || (!own.empty() && !is_alike(*weight, *own[0]))) return nullptr;
    own.push_back(weight);
  }
  return std::make_unique<CpuExpertGroup>(std::move(own));
}

void cpu_gather_activation(CpuContext& context, const GatherActivationArgs& args) {
  const ActivationView x = view_activation(args.x), out = view_activation(args.out);
  const std::int64_t rows = args.rows.dim(0);
  INFERD_CHECK(args.x.columns == args.out.columns && rows <= args.out.rows);
  INFERD_CHECK((args.x.forms & args.out.forms) == args.out.forms);
  const auto block_of = [](const ActivationView& view, std::int64_t row, std::int64_t block) {
    return view.blocks + (row / kActivationGroup * view.kblocks + block) * kActivationGroup + row % kActivationGroup;
  };
  context.pool.run((rows + kActivationGroup - 1) / kActivationGroup, [&](std::int64_t group, int) {
    const std::int64_t end = std::min((group + 1) * kActivationGroup, rows);
    for (std::int64_t row = group * kActivationGroup; row < end; ++row) {
      const std::int64_t from = args.rows.as<const std::int32_t>()[row];
      if (from < 0) continue;
      INFERD_CHECK(from < args.x.rows);
      if (out.f32 != nullptr) {
        std::copy_n(x.f32 + from * x.f32_stride, x.f32_stride, out.f32 + row * out.f32_stride);
      }
      if (out.blocks == nullptr) continue;
      for (std::int64_t b = 0; b < x.kblocks; ++b) *block_of(out, row, b) = *block_of(x, from, b);
    }
  });
}

void cpu_expert_linear(CpuContext& context, const ExpertLinearArgs& args) {
  const auto& group = static_cast<const CpuExpertGroup&>(*args.group);
  const std::vector<const CpuWeight*>& experts = group.experts();
  INFERD_CHECK(args.plan->counts.dim(0) == static_cast<std::int64_t>(experts.size()));
  LinearArgs whole;
  whole.x = args.x;
  whole.num_tokens = args.plan->tokens.dim(0);
  whole.epilogue = args.epilogue;
  whole.out = args.out;
  whole.out_activation = args.out_activation;
  std::vector<Turn>& turns = group.turns();
  turns.clear();
  if (experts.empty()) return;
  const LinearJob like = make_linear_job(whole, *experts[0]);  // but for the weight the job of every expert
  std::int64_t chunks = 0;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const std::int64_t rows = args.plan->counts.as<const std::int32_t>()[e];
    if (rows == 0) continue;
    const std::int64_t chunk_rows = tokens_per_chunk(like, rows);
    turns.push_back({experts[e], args.plan->starts.as<const std::int32_t>()[e], rows, chunk_rows, 0});
    chunks += (rows + chunk_rows - 1) / chunk_rows;
  }
  if (turns.empty()) return;
  const std::int64_t units = (like.out_columns + kUnitColumns - 1) / kUnitColumns;
  const std::int64_t task_units = units_per_task(context, units, std::max<std::int64_t>(chunks / kTurnsAsOne, 1));
  const std::int64_t chunk_tasks = (units + task_units - 1) / task_units;
  std::int64_t tasks = 0;
  for (Turn& turn : turns) {
    check_decode_scratch(context, *turn.weight);
    turn.first_task = tasks;
    tasks += (turn.rows + turn.chunk_rows - 1) / turn.chunk_rows * chunk_tasks;
  }
  const LinearKernels& kernels = linear_kernels(context.level);
  context.pool.run(tasks, [&](std::int64_t task, int worker) {
    const Turn& turn = *std::prev(std::upper_bound(turns.begin(), turns.end(), task,
                                                   [](std::int64_t at, const Turn& t) { return at < t.first_task; }));
    const LinearJob job = make_linear_job(whole, *turn.weight);
    const std::int64_t at = task - turn.first_task, unit = at % chunk_tasks * task_units;
    const std::int64_t row = at / chunk_tasks * turn.chunk_rows;
    kernels.run(job, unit, std::min(unit + task_units, units), turn.first_row + row,
                turn.first_row + std::min(row + turn.chunk_rows, turn.rows), context.decode_scratch_of(worker));
  });
}

}  // namespace inferd
