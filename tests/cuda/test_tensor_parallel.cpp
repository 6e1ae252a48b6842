// Layers divided between fake GPUs against fp64 products of the whole matrices, and what cannot be divided.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/weight_slice.h"
#include "tests/catch.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/errors.h"
#include "tests/kernels/random_weights.h"

namespace inferd::testing {
namespace {

constexpr std::int64_t kHidden = 256, kTokens = 5;

std::unique_ptr<Backend> gpus(int count) {
  cuda::test::use_fake_gpu("devices=4,seed=3");
  std::vector<int> ordinals;
  for (int i = 0; i < count; ++i) ordinals.push_back(3 - i);  // ranks are not ordinals
  return make_tensor_parallel_backend({.ordinals = ordinals, .activations = ActivationMode::f32});
}

struct View {
  View(Backend& backend, std::int64_t columns, const Weight& reader) {
    const std::uint32_t forms = reader.activation_forms();
    buffer = backend.allocate(backend.activation_bytes(kTokens, columns, forms));
    activation = {buffer->data(), kTokens, columns, forms};
  }
  std::unique_ptr<DeviceBuffer> buffer;
  Activation activation;
};

/// x += W_out act(W_in x + b_in) + b_out, W_in divided by rows, W_out by columns. W_in: one matrix or [gate; up].
struct Block {
  Block(Backend& on, std::vector<StoredMatrix> in_parts, StoredMatrix out_matrix)
      : backend(on), ins(std::move(in_parts)), out(std::move(out_matrix)), inner(out.columns) {
    std::vector<WeightSource> sources;
    for (const StoredMatrix& in : ins) sources.push_back(in.source());
    in_bias = normals(static_cast<std::size_t>(inner) * ins.size(), 8);
    out_bias = normals(static_cast<std::size_t>(kHidden), 9);
    w_in = on.load_weight(sources, {.gated = gated(), .shard = Shard::rows});
    w_out = on.load_weight(std::vector{out.source()}, {.shard = Shard::columns});
    on.reserve_workspace(kTokens, std::max(kHidden, inner));
  }
  bool gated() const { return ins.size() == 2; }

  /// [ranks][part][inner / ranks] of the bias.
  std::vector<float> bias_by_rank() const {
    std::vector<float> values;
    const std::int64_t width = inner / backend.ranks();
    for (int rank = 0; rank < backend.ranks(); ++rank) {
      for (std::size_t part = 0; part < ins.size(); ++part) {
        const auto first = in_bias.begin() + static_cast<std::ptrdiff_t>(part) * inner + rank * width;
        values.insert(values.end(), first, first + width);
      }
    }
    return values;
  }

  void run(const Array& x, std::int64_t tokens) const {
    const std::int64_t width = inner / backend.ranks(), rows = w_in->rows();
    REQUIRE(rows == width * static_cast<std::int64_t>(ins.size()));
    REQUIRE(w_out->columns() == width);
    const Array bias(backend, 1, rows), last_bias(backend, 1, kHidden);
    backend.upload_parts(bias.tensor.data, bias_by_rank().data(), static_cast<std::size_t>(rows) * 4);
    backend.upload(last_bias.tensor.data, out_bias.data(), out_bias.size() * 4);
    const View input(backend, kHidden, *w_in), middle(backend, width, *w_out);
    const Tensor in = x.tensor.first_rows(tokens);
    backend.to_activation({.x = in, .out = input.activation});
    backend.linear({.x = input.activation,
                    .num_tokens = tokens,
                    .weight = w_in.get(),
                    .bias = bias.tensor,
                    .epilogue = gated() ? Epilogue::silu_gated : Epilogue::none,
                    .out_activation = middle.activation});
    backend.linear({.x = middle.activation,
                    .num_tokens = tokens,
                    .weight = w_out.get(),
                    .bias = last_bias.tensor,
                    .residual = in,
                    .out = in});
    backend.synchronize();
  }

  std::vector<double> reference(const std::vector<double>& x) const {
    std::vector<double> products(ins.size());
    std::vector<std::vector<float>> w;
    for (const StoredMatrix& in : ins) w.push_back(in.widened());
    const std::vector<float> v = out.widened();
    std::vector<double> result = x;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      std::vector<double> hidden;
      for (std::int64_t r = 0; r < inner; ++r) {
        for (std::size_t part = 0; part < ins.size(); ++part) {
          products[part] = in_bias[part * static_cast<std::size_t>(inner) + static_cast<std::size_t>(r)];
          for (std::int64_t k = 0; k < kHidden; ++k) {
            products[part] += double{w[part][static_cast<std::size_t>(r * kHidden + k)]} *
                              x[static_cast<std::size_t>(t * kHidden + k)];
          }
        }
        hidden.push_back(gated() ? products[0] / (1 + std::exp(-products[0])) * products[1] : products[0]);
      }
      for (std::int64_t h = 0; h < kHidden; ++h) {
        double sum = out_bias[static_cast<std::size_t>(h)];
        for (std::int64_t r = 0; r < inner; ++r) {
          sum += double{v[static_cast<std::size_t>(h * inner + r)]} * hidden[static_cast<std::size_t>(r)];
        }
        result[static_cast<std::size_t>(t * kHidden + h)] += sum;
      }
    }
    return result;
  }

  Backend& backend;
  std::vector<StoredMatrix> ins;
  StoredMatrix out;
  std::int64_t inner;
  std::vector<float> in_bias, out_bias;
  std::unique_ptr<Weight> w_in, w_out;
};

/// Twice, so that what every rank holds of the first result enters the second.
void check_block(Backend& backend, const Block& block) {
  const std::vector<float> start = normals(static_cast<std::size_t>(kTokens * kHidden), 7);
  const Array x(backend, kTokens, kHidden);
  backend.upload(x.tensor.data, start.data(), start.size() * 4);
  std::vector<double> expected(start.begin(), start.end());
  for (int round = 0; round < 2; ++round) {
    block.run(x, kTokens);
    expected = block.reference(expected);
    const std::vector<float> found = x.get();
    double size = 0, error = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      size = std::max(size, std::fabs(expected[i]));
      error = std::max(error, std::fabs(expected[i] - double{found[i]}));
    }
    INFO("round " << round << ": " << error << " of " << size);
    CHECK(std::isfinite(size));
    CHECK(error <= 2e-5 * size);
  }
}

Block make_block(Backend& backend, DType type, std::int64_t inner, bool gated, DType out_type) {
  std::vector<StoredMatrix> ins;
  for (int part = 0; part < (gated ? 2 : 1); ++part) ins.emplace_back(type, inner, kHidden, 20 + part);
  return Block(backend, std::move(ins), StoredMatrix(out_type, kHidden, inner, 30));
}

TEST_CASE("two GPUs compute what the whole matrices do, in every kind of format", "[fake]") {
  const auto backend = gpus(2);
  CHECK(backend->ranks() == 2);
  CHECK(backend->name() == "cuda (2 GPUs: GPU 3, Simulated GPU 3 (sm_80); GPU 2, Simulated GPU 2 (sm_80), sm_80)");
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_1, DType::q4_k, DType::q6_k,
                           DType::iq4_xs, DType::g4_128, DType::g8_32}) {
    INFO(dtype_info(type).name);
    check_block(*backend, make_block(*backend, type, 512, false, type));
  }
}

TEST_CASE("gate and up are divided each for itself", "[fake]") {
  const auto backend = gpus(2);
  check_block(*backend, make_block(*backend, DType::q8_0, 512, true, DType::q4_0));
  // Of two types: the products of both wait for each other in the workspace.
  std::vector<StoredMatrix> ins;
  ins.emplace_back(DType::f16, 512, kHidden, 1);
  ins.emplace_back(DType::q5_0, 512, kHidden, 2);
  check_block(*backend, Block(*backend, std::move(ins), StoredMatrix(DType::f16, kHidden, 512, 3)));
}

TEST_CASE("three and four GPUs: the same bits for a row in any company", "[fake]") {
  for (const int count : {3, 4}) {
    INFO(count);
    const auto backend = gpus(count);
    const Block block = make_block(*backend, DType::q8_0, 384, false, DType::q8_0);
    check_block(*backend, block);
    const std::vector<float> start = normals(static_cast<std::size_t>(kTokens * kHidden), 17);
    const Array together(*backend, kTokens, kHidden), alone(*backend, kTokens, kHidden);
    backend->upload(together.tensor.data, start.data(), start.size() * 4);
    block.run(together, kTokens);
    const std::vector<float> all = together.get();
    for (std::size_t t = 0; t < static_cast<std::size_t>(kTokens); ++t) {
      backend->upload(alone.tensor.data, start.data() + t * kHidden, kHidden * 4);
      block.run(alone, 1);
      const std::vector<float> one = alone.get();
      CHECK(std::equal(one.begin(), one.begin() + kHidden, all.begin() + static_cast<std::ptrdiff_t>(t * kHidden)));
    }
  }
}

TEST_CASE("columns in an order of their own follow their blocks", "[fake]") {
  const auto backend = gpus(2);
  // Blocks 1, 3 and 6, 9 ... take inputs of the first half, the others those of the second, shuffled within.
  constexpr std::int64_t kInner = 512, kGroup = 32;
  std::vector<std::int32_t> halves[2];
  std::mt19937 random(4);
  for (int half = 0; half < 2; ++half) {
    halves[half].resize(kInner / 2);
    std::iota(halves[half].begin(), halves[half].end(), static_cast<std::int32_t>(half * kInner / 2));
    std::shuffle(halves[half].begin(), halves[half].end(), random);
  }
  std::vector<std::int32_t> order;
  for (std::int64_t b = 0; b < kInner / kGroup; ++b) {
    std::vector<std::int32_t>& from = halves[(b * 5 % 16) % 2 == 0 ? 1 : 0];
    order.insert(order.end(), from.end() - kGroup, from.end());
    from.resize(from.size() - kGroup);
  }
  const StoredMatrix in(DType::f32, kInner, kHidden, 1), stored(DType::g4_32, kHidden, kInner, 2);
  WeightSource source = stored.source();
  source.column_order = order.data();
  // The same matrix in plain order, by value.
  StoredMatrix plain(DType::f32, kHidden, kInner, 3);
  const std::vector<float> values = stored.widened();
  for (std::int64_t r = 0; r < kHidden; ++r) {
    for (std::int64_t c = 0; c < kInner; ++c) {
      std::memcpy(plain.memory.data() + 1 + 4 * (r * kInner + order[static_cast<std::size_t>(c)]),
                  &values[static_cast<std::size_t>(r * kInner + c)], 4);
    }
  }
  std::vector<StoredMatrix> ins = {in};
  Block block(*backend, std::move(ins), plain);
  block.w_out = backend->load_weight(std::vector{source}, {.shard = Shard::columns});
  check_block(*backend, block);
  std::swap(order.front(), order.back());  // the first block's and the last one's: of different halves or not
  std::swap(order[0], *std::find_if(order.begin(), order.end(),
                                    [&](std::int32_t i) { return i / (kInner / 2) != order[0] / (kInner / 2); }));
  const FatalError mixed = error_of([&] { slice_columns(source, 0, 2); });
  CHECK(mixed.code == ExitCode::bad_config);
  CHECK(has(mixed.what(), "stored in an order of their own"));
}

TEST_CASE("what cannot be divided is named", "[fake]") {
  const StoredMatrix blocks(DType::q4_k, 6, 768, 1), odd(DType::f16, 6, 5, 1);
  const FatalError halves = error_of([&] { slice_columns(blocks.source(), 0, 2); });
  CHECK(halves.code == ExitCode::bad_config);
  CHECK(std::string(halves.what()) ==
        "tensor_parallel: a Q4_K matrix of 6 x 768 cannot be divided between 2 GPUs by its columns: its blocks of 256 "
        "columns do not end where a part of 384 does");
  CHECK(std::string(error_of([&] { slice_rows(blocks.source(), 0, 4); }).what()) ==
        "tensor_parallel: a Q4_K matrix of 6 x 768: its rows are not a multiple of 4 GPUs");
  CHECK(has(error_of([&] { slice_columns(odd.source(), 0, 2); }).what(), "its columns are not a multiple of 2 GPUs"));
  CHECK(error_of([&] { slice_columns(blocks.source(), 0, 3); }).code == ExitCode::ok);
}

TEST_CASE("GPUs that cannot work together are refused", "[fake]") {
  cuda::test::use_fake_gpu("devices=4,seed=3");
  CHECK(has(error_of([] { make_tensor_parallel_backend({.ordinals = {1}}); }).what(), "two or more different GPUs"));
  CHECK(has(error_of([] { make_tensor_parallel_backend({.ordinals = {1, 1}}); }).what(), "two or more different GPUs"));
  CHECK(std::string(error_of([] {
                      make_tensor_parallel_backend({.ordinals = {0, 4}});
                    }).what()) == "cuda:4: this machine has 4 GPUs");
}

TEST_CASE("memory is counted on the GPU that has the least", "[fake]") {
  const auto both = gpus(2);
  const std::size_t before = both->available_bytes();
  const auto one = make_cuda_backend({.ordinal = 2});  // rank 1
  const auto taken = one->allocate(1 << 20);
  CHECK(both->available_bytes() == before - (1 << 20));
  const auto mirrored = both->allocate(1 << 10);
  CHECK(both->available_bytes() == before - (1 << 20) - (1 << 10));
}

}  // namespace
}  // namespace inferd::testing
