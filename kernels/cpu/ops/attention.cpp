// Attention on the CPU: shares (sequence, query tile, kv head) among the workers, and long contexts of few sequences
// by key partition.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/ops/for_rows.h"
#include "kernels/cpu/ops/kv_element.h"
#include "kernels/cpu/ops/level_table.h"

namespace inferd {

namespace {

constexpr std::size_t kPartialBytes = 8u << 20;  // softmax states of partitions

/// What paged and encoder attention have in common.
struct Job {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  const BatchTensors* batch = nullptr;
  const float* q = nullptr;  // first token's first head
  std::int64_t q_stride = 0;
  float* out = nullptr;  // [T, num_heads * head_dim]
  std::int64_t out_stride = 0;
  AttentionTile shared;  // fields equal for all tiles
};

/// Heads of one kv head that go through a tile together, and how many queries then fit.
struct TileShape {
  explicit TileShape(const Job& job) {
    const int group = job.num_heads / job.num_kv_heads;
    heads = std::min(group, kMaxTileRows);
    parts = (group + heads - 1) / heads;
    queries = std::max(1, kMaxTileRows / heads);
  }
  int heads = 1;
  int parts = 1;  // stretches of `heads` heads in a group
  int queries = 1;
};

/// One task of the grid (sequence, query tile, kv head, part of its group).
struct TileIndex {
  std::int64_t sequence = 0;
  std::int64_t first_query = 0;  // within the step's queries of the sequence
  int num_queries = 0;
  int kv_head = 0;
  int first_head = 0;  // query head
  int num_heads = 0;
};

std::int64_t query_count(const BatchTensors& batch, std::int64_t sequence) {
  const std::int32_t* starts = batch.query_starts.as<const std::int32_t>();
  return starts[sequence + 1] - starts[sequence];
}

std::int64_t tile_count(const Job& job, const TileShape& shape) {
  std::int64_t tiles = 0;
  for (std::int64_t s = 0; s < job.batch->num_sequences; ++s) {
    tiles += (query_count(*job.batch, s) + shape.queries - 1) / shape.queries;
  }
  return tiles * job.num_kv_heads * shape.parts;
}

TileIndex locate(const Job& job, const TileShape& shape, std::int64_t task) {
  TileIndex index;
  const std::int64_t per_tile = static_cast<std::int64_t>(job.num_kv_heads) * shape.parts;
  std::int64_t tile = task / per_tile;
  std::int64_t tiles = 0;
  for (;; ++index.sequence) {
    tiles = (query_count(*job.batch, index.sequence) + shape.queries - 1) / shape.queries;
    if (tile < tiles) break;
    tile -= tiles;
  }
  tile = tiles - 1 - tile;  // the last queries see the most keys: start with them
  index.first_query = tile * shape.queries;
  index.num_queries = static_cast<int>(
      std::min<std::int64_t>(shape.queries, query_count(*job.batch, index.sequence) - index.first_query));
  const int group = job.num_heads / job.num_kv_heads;
  index.kv_head = static_cast<int>(task % per_tile) / shape.parts;
  const int part = static_cast<int>(task % per_tile) % shape.parts;
  index.first_head = index.kv_head * group + part * shape.heads;
  index.num_heads = std::min(shape.heads, group - part * shape.heads);
  return index;
}

/// The partitions [first, end) that hold keys some query of [query, query + count) sees.
void set_partitions(AttentionTile& tile) {
  std::int64_t keys = tile.num_keys;
  std::int64_t first = 0;
  if (tile.causal) {
    keys = std::min(keys, std::max(tile.first_position + tile.num_queries, tile.prefix));
    if (tile.window > 0) first = std::max<std::int64_t>(0, tile.first_position + 1 - tile.window);
  }
  tile.first_partition = static_cast<int>(first / kPartitionKeys);
  tile.end_partition = static_cast<int>((keys + kPartitionKeys - 1) / kPartitionKeys);
}

AttentionTile make_tile(const Job& job, const TileIndex& index) {
  const std::int32_t* starts = job.batch->query_starts.as<const std::int32_t>();
  const std::int64_t first_row = starts[index.sequence] + index.first_query;
  AttentionTile tile = job.shared;
  tile.q = job.q + first_row * job.q_stride + static_cast<std::int64_t>(index.first_head) * job.head_dim;
  tile.q_stride = job.q_stride;
  tile.num_queries = index.num_queries;
  tile.num_heads = index.num_heads;
  tile.head_dim = job.head_dim;
  tile.out = job.out + first_row * job.out_stride + static_cast<std::int64_t>(index.first_head) * job.head_dim;
  tile.out_stride = job.out_stride;
  if (tile.alibi_slopes != nullptr) tile.alibi_slopes += index.first_head;
  const auto advance = [&](const void* base, std::int64_t units) -> const void* {
    return static_cast<const std::byte*>(base) + units * kv_unit_bytes(tile.source.element);
  };
  std::int64_t skip = 0;
  if (tile.causal) {
    tile.num_keys = job.batch->context_lens.as<const std::int32_t>()[index.sequence];
    if (job.batch->prefix_lens) tile.prefix = job.batch->prefix_lens.as<const std::int32_t>()[index.sequence];
    tile.first_position = tile.num_keys - query_count(*job.batch, index.sequence) + index.first_query;
    tile.source.block_table += index.sequence * job.batch->block_tables.row_stride;
    skip =
        kv_units(tile.source.element, static_cast<std::int64_t>(index.kv_head) * tile.source.block_size * job.head_dim);
  } else {
    tile.num_keys = query_count(*job.batch, index.sequence);
    skip = starts[index.sequence] * tile.source.row_stride + static_cast<std::int64_t>(index.kv_head) * job.head_dim;
  }
  tile.source.keys = advance(tile.source.keys, skip);
  tile.source.values = advance(tile.source.values, skip);
  set_partitions(tile);
  return tile;
}

/// `tile`, when it comes to its end, fetches the first keys of a partition of `next`.
void fetch_next(AttentionTile& tile, const AttentionTile& next, int partition) {
  tile.next = next.source;
  tile.next_first = static_cast<std::int64_t>(partition) * kPartitionKeys;
  tile.next_end = next.num_keys;
}

/// Few tiles over long contexts (decoding): one task per partition, then the states are merged in the same order in
/// which a single task would have merged them.
void run_split(CpuContext& context, const Job& job, const TileShape& shape, std::int64_t tiles,
               std::int64_t partitions) {
  const RowKernels& kernels = row_kernels(context.level);
  float* partials = reinterpret_cast<float*>(context.shared_scratch);  // [T, partitions, num_heads, head_dim + 2]
  const std::int64_t state = job.head_dim + 2;
  const std::int64_t per_partition = job.num_heads * state;
  const std::int32_t* starts = job.batch->query_starts.as<const std::int32_t>();
  const auto partial_at = [&](const TileIndex& index, std::int64_t partition) {
    const std::int64_t row = starts[index.sequence] + index.first_query;
    return partials + (row * partitions + partition) * per_partition + index.first_head * state;
  };
  for_rows(context.pool, tiles * partitions, [&](std::int64_t task, int) {
    const TileIndex index = locate(job, shape, task / partitions);
    AttentionTile tile = make_tile(job, index);
    const int partition = static_cast<int>(task % partitions);
    if (partition < tile.first_partition || partition >= tile.end_partition) return;
    if (partition + 1 < tile.end_partition) {
      fetch_next(tile, tile, partition + 1);
    } else if (task + 1 < tiles * partitions) {
      const AttentionTile next = make_tile(job, locate(job, shape, (task + 1) / partitions));
      fetch_next(tile, next, next.first_partition);
    }
    tile.first_partition = partition;
    tile.end_partition = partition + 1;
    tile.partial = partial_at(index, partition);
    tile.partial_query_stride = partitions * per_partition;
    kernels.attention(tile);
  });
  context.pool.run(tiles, [&](std::int64_t task, int) {
    const TileIndex index = locate(job, shape, task);
    const AttentionTile tile = make_tile(job, index);
    const float* first = partial_at(index, tile.first_partition);
    for (std::int64_t query = 0; query < index.num_queries; ++query) {
      for (std::int64_t head = 0; head < index.num_heads; ++head) {
        kernels.merge_partials(first + query * partitions * per_partition + head * state, per_partition,
                               tile.end_partition - tile.first_partition, job.head_dim,
                               tile.out + query * tile.out_stride + head * job.head_dim);
      }
    }
  });
}

/// Runs all tiles. `activation`, if any, is written from job.out, which then lies in the first bytes of shared scratch
/// after the partials.
void run_job(CpuContext& context, const Job& job, const Activation& activation) {
  INFERD_CHECK(job.head_dim <= kMaxHeadDim && job.num_heads % job.num_kv_heads == 0);
  const TileShape shape(job);
  const std::int64_t tiles = tile_count(job, shape);
  const std::int64_t partitions =
      job.shared.causal ? (job.batch->max_context_len + kPartitionKeys - 1) / kPartitionKeys : 1;
  const std::int64_t partial_bytes = static_cast<std::int64_t>(sizeof(float)) * job.batch->num_tokens * partitions *
                                     job.num_heads * (job.head_dim + 2);
  const bool few = tiles < 4 * context.pool.size();
  if (context.pool.size() > 1 && partitions > 1 && few && partial_bytes <= static_cast<std::int64_t>(kPartialBytes)) {
    run_split(context, job, shape, tiles, partitions);
  } else {
    const RowKernels& kernels = row_kernels(context.level);
    // Decoding: many small tiles of equal size, whose first keys would come as a surprise to the core.
    if (job.shared.causal && job.batch->max_query_len == 1) {
      for_rows(context.pool, tiles, [&](std::int64_t task, int) {
        AttentionTile tile = make_tile(job, locate(job, shape, task));
        if (task + 1 < tiles) {
          const AttentionTile next = make_tile(job, locate(job, shape, task + 1));
          fetch_next(tile, next, next.first_partition);
        }
        kernels.attention(tile);
      });
    } else {
      context.pool.run(tiles,
                       [&](std::int64_t task, int) { kernels.attention(make_tile(job, locate(job, shape, task))); });
    }
  }
  if (!activation) return;
  for_rows(context.pool, job.batch->num_tokens, [&](std::int64_t row, int) {
    store_activation_row(context, activation, row, job.out + row * job.out_stride);
  });
}

/// Where rows go: the caller's tensor, or scratch behind the partials if only an activation is wanted.
void set_out(const CpuContext& context, Job& job, const Tensor& out) {
  const std::int64_t columns = static_cast<std::int64_t>(job.num_heads) * job.head_dim;
  if (out) {
    job.out = out.as<float>();
    job.out_stride = out.row_stride;
    return;
  }
  const std::size_t bytes = static_cast<std::size_t>(job.batch->num_tokens * columns) * sizeof(float);
  INFERD_CHECK(kPartialBytes + bytes <= context.shared_scratch_bytes);
  job.out = reinterpret_cast<float*>(context.shared_scratch + kPartialBytes);
  job.out_stride = columns;
}

}  // namespace

std::size_t cpu_shared_scratch_bytes(int threads, std::int64_t max_tokens, std::int64_t max_columns) {
  static_cast<void>(threads);
  return kPartialBytes + static_cast<std::size_t>(max_tokens) * static_cast<std::size_t>(max_columns) * sizeof(float);
}

void cpu_attention(CpuContext& context, const AttentionArgs& args) {
  Job job;
  job.num_heads = args.num_heads;
  job.num_kv_heads = args.num_kv_heads;
  job.head_dim = args.head_dim;
  job.batch = args.batch;
  job.q = args.qkv.as<const float>();
  job.q_stride = args.qkv.row_stride;
  job.shared.window = args.sliding_window;
  job.shared.scale = args.scale;
  job.shared.softcap = args.softcap;
  job.shared.alibi_slopes = args.alibi_slopes.as<const float>();
  KeySource& source = job.shared.source;
  source.keys = args.kv.keys.data;
  source.values = args.kv.values.data;
  source.element = kv_element(args.kv.keys.dtype);
  source.block_table = args.batch->block_tables.as<const std::int32_t>();
  source.block_size = args.kv.block_size;
  INFERD_CHECK(args.kv.block_size % 16 == 0 && (source.element != KvElement::q8_0 || args.head_dim % 32 == 0));
  source.row_stride = args.head_dim;
  source.block_stride =
      kv_units(source.element, static_cast<std::int64_t>(args.num_kv_heads) * args.kv.block_size * args.head_dim);
  set_out(context, job, args.out);
  run_job(context, job, args.out_activation);
}

void cpu_encoder_attention(CpuContext& context, const EncoderAttentionArgs& args) {
  const std::int64_t columns = static_cast<std::int64_t>(args.num_heads) * args.head_dim;
  Job job;
  job.num_heads = args.num_heads;
  job.num_kv_heads = args.num_heads;
  job.head_dim = args.head_dim;
  job.batch = args.batch;
  job.q = args.qkv.as<const float>();
  job.q_stride = args.qkv.row_stride;
  job.shared.causal = false;
  job.shared.scale = args.scale;
  job.shared.source.keys = job.q + columns;
  job.shared.source.values = job.q + 2 * columns;
  job.shared.source.element = KvElement::f32;
  job.shared.source.row_stride = args.qkv.row_stride;
  set_out(context, job, args.out);
  run_job(context, job, args.out_activation);
}

}  // namespace inferd
