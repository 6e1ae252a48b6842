// The view that quantises at load, and its cache: used when whole, made anew when not, never trusted.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <thread>

#include "base/log.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "engine/quantize/quantized_file.h"
#include "engine/quantize/row_quantizer.h"
#include "engine/weights/summary.h"
#include "kernels/quant_formats.h"
#include "tests/weights/folder_builder.h"

using namespace inferd;
using namespace inferd::test;

namespace {

namespace fs = std::filesystem;

QuantizeOptions options(const fs::path& cache, LoadQuantization to = LoadQuantization::int4) {
  spdlog::set_level(spdlog::level::off);
  return {.to = to, .cache = {.dir = cache}, .threads = 2, .model = "m"};
}

std::unique_ptr<Checkpoint> quantized(const fs::path& model, const QuantizeOptions& how) {
  return quantize_checkpoint(Checkpoint::open(model), how);
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path());
  return out;
}

ino_t inode(const fs::path& path) {
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info.st_ino;
}

std::string blocks(const Checkpoint& checkpoint) {
  std::string all;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    all.append(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
  }
  return all;
}

/// Changes one byte of a file in place, `back` bytes before its end.
void flip(const fs::path& path, std::size_t back) {
  std::string text = read_text(path);
  REQUIRE(text.size() > back);
  text[text.size() - 1 - back] = static_cast<char>(text[text.size() - 1 - back] ^ 1);
  std::ofstream(path, std::ios::binary) << text;
}

/// One layer's matrix of 40 rows, whose first weight is `first`.
void write_model(const ScratchFolder& folder, float first) {
  std::vector<float> values(40 * 64);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>(i * 37 % 101) - 0.5f;
  values[0] = first;
  write_folder(folder, "{}",
               {{"model.layers.0.mlp.up_proj.weight", "F32", {40, 64}, bytes_of(values)},
                {"model.layers.0.input_layernorm.weight", "F32", {64}, bytes_of(std::vector<float>(64, 1.5f))}});
}

}  // namespace

TEST_CASE("the view has blocks for matrices, and everything else as stored") {
  const ScratchFolder cache;
  const auto source = Checkpoint::open(golden("models/qwen2"));
  const auto view = quantized(golden("models/qwen2"), options(cache.path()));
  REQUIRE(view->tensors().size() == source->tensors().size());
  int replaced = 0;
  for (const StoredTensor& stored : source->tensors()) {
    const StoredTensor* tensor = view->find(stored.name);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == stored.shape);
    if (!dtype_info(tensor->dtype).quantized) {
      CHECK(tensor->dtype == stored.dtype);
      CHECK(std::memcmp(tensor->data, stored.data, stored.bytes) == 0);
      continue;
    }
    ++replaced;
    const std::int64_t columns = stored.shape[1];
    const std::size_t row_size = row_bytes(tensor->dtype, columns);
    std::vector<float> values(static_cast<std::size_t>(stored.elements()));
    dequantize(stored, values);
    std::vector<std::byte> expected(row_size);
    for (std::int64_t row = 0; row < stored.shape[0]; ++row) {
      REQUIRE(quantize_row(tensor->dtype, values.data() + row * columns, columns, expected.data()));
      REQUIRE(std::memcmp(tensor->data + static_cast<std::size_t>(row) * row_size, expected.data(), row_size) == 0);
    }
  }
  CHECK(replaced >= 14);
  CHECK(view->format() == source->format());
  CHECK(view->json("config.json") == source->json("config.json"));
  CHECK(quantization_name(*view) == "int4 from " + quantization_name(*source));
}

TEST_CASE("a second start takes the blocks from the cache") {
  const ScratchFolder cache;
  const std::string first = blocks(*quantized(golden("models/qwen2"), options(cache.path() / "made")));
  const auto files = files_in(cache.path() / "made");
  REQUIRE(files.size() == 1);
  const ino_t before = inode(files[0]);
  CHECK(blocks(*quantized(golden("models/qwen2"), options(cache.path() / "made"))) == first);
  CHECK(inode(files[0]) == before);
  quantized(golden("models/qwen2"), options(cache.path() / "made", LoadQuantization::int8));
  CHECK(files_in(cache.path() / "made").size() == 2);
}

TEST_CASE("a cache file that is not whole is made anew") {
  const ScratchFolder cache;
  const std::string first = blocks(*quantized(golden("models/qwen2"), options(cache.path())));
  const fs::path file = files_in(cache.path())[0];
  const std::string whole = read_text(file);
  const auto made_anew = [&] {
    CHECK(blocks(*quantized(golden("models/qwen2"), options(cache.path()))) == first);
    CHECK(read_text(file) == whole);
    CHECK(files_in(cache.path()).size() == 1);
  };
  SECTION("a byte of the last blocks changed") { flip(file, 0); }
  SECTION("a byte of the first blocks changed") { flip(file, whole.size() - 1 - kQuantizedHeaderBytes); }
  SECTION("the key changed") { flip(file, whole.size() - 1 - 20); }
  SECTION("the version changed") { flip(file, whole.size() - 1 - 4); }
  SECTION("cut short") { fs::resize_file(file, whole.size() - 1); }
  SECTION("longer") { fs::resize_file(file, whole.size() + 1); }
  SECTION("empty") { fs::resize_file(file, 0); }
  SECTION("no header") { fs::resize_file(file, 100); }
  SECTION("another file under its name") {
    quantized(golden("models/qwen2"), options(cache.path() / "other", LoadQuantization::int8));
    fs::copy_file(files_in(cache.path() / "other")[0], file, fs::copy_options::overwrite_existing);
    fs::remove_all(cache.path() / "other");
  }
  REQUIRE(read_text(file) != whole);
  made_anew();
}

TEST_CASE("other weights are another file, even where size and names are the same") {
  const ScratchFolder model, other, cache;
  write_model(model, 0.25f);
  const std::string first = blocks(*quantized(model.path(), options(cache.path())));
  write_model(other, 0.5f);
  CHECK(blocks(*quantized(other.path(), options(cache.path()))) != first);
  CHECK(files_in(cache.path()).size() == 2);
}

TEST_CASE("weights that changed in place replace their old file, and no other model's or method's") {
  const ScratchFolder model, other, cache;
  write_model(model, 0.25f);
  write_model(other, 0.75f);
  quantized(other.path(), options(cache.path()));
  const fs::path others = files_in(cache.path())[0];
  quantized(model.path(), options(cache.path(), LoadQuantization::int8));
  quantized(model.path(), options(cache.path()));
  REQUIRE(files_in(cache.path()).size() == 3);
  const auto before = files_in(cache.path());
  write_model(model, 0.5f);
  const fs::path link = other.path() / "link";  // the same folder by another name
  fs::create_directory_symlink(model.path(), link);
  quantized(link, options(cache.path()));
  const auto after = files_in(cache.path());
  CHECK(after.size() == 3);
  CHECK(fs::exists(others));
  const auto kept = std::count_if(before.begin(), before.end(), [](const fs::path& path) { return fs::exists(path); });
  CHECK(kept == 2);
}

TEST_CASE("beyond the limit the longest unused files go, the newest never") {
  const ScratchFolder cache;
  std::vector<std::unique_ptr<ScratchFolder>> models;
  QuantizeOptions how = options(cache.path());
  for (int i = 0; i < 4; ++i) {
    models.push_back(std::make_unique<ScratchFolder>());
    write_model(*models.back(), 0.01f * static_cast<float>(i));
  }
  quantized(models[0]->path(), how);
  const fs::path first = files_in(cache.path())[0];
  const std::size_t size = fs::file_size(first);
  quantized(models[1]->path(), how);
  const auto now = fs::file_time_type::clock::now();
  for (const fs::path& path : files_in(cache.path())) {
    fs::last_write_time(path, now - std::chrono::hours(path == first ? 9 : 5));
  }
  quantized(models[0]->path(), how);  // used: younger than the second now
  CHECK(fs::last_write_time(first) >= now);
  how.cache.limit = 2 * size + size / 2;
  quantized(models[2]->path(), how);
  CHECK(files_in(cache.path()).size() == 2);
  CHECK(fs::exists(first));
  how.cache.limit = 1;
  const std::string last = blocks(*quantized(models[3]->path(), how));
  REQUIRE(files_in(cache.path()).size() == 1);
  CHECK_FALSE(fs::exists(first));
  CHECK(blocks(*quantized(models[3]->path(), how)) == last);
  CHECK(files_in(cache.path()).size() == 1);
}

TEST_CASE("files that are no cache files are left alone") {
  const ScratchFolder model, cache;
  const fs::path notes = cache.write("notes.txt", std::string(1000, 'x'));
  const fs::path hidden = cache.write(".hidden.weights", std::string(1000, 'x'));
  fs::create_directory(cache.path() / "folder.weights");
  write_model(model, 0.25f);
  QuantizeOptions how = options(cache.path());
  how.cache.limit = 1;
  quantized(model.path(), how);
  CHECK(fs::exists(notes));
  CHECK(fs::exists(hidden));
  CHECK(fs::exists(cache.path() / "folder.weights"));
}

TEST_CASE("processes that quantise at once in one small cache all get their weights") {
  const ScratchFolder cache;
  std::vector<std::unique_ptr<ScratchFolder>> models;
  std::vector<std::string> expected;
  for (int i = 0; i < 6; ++i) {
    models.push_back(std::make_unique<ScratchFolder>());
    write_model(*models.back(), 0.01f * static_cast<float>(i));
    expected.push_back(blocks(*quantized(models.back()->path(), options(""))));
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::size_t i = 0; i < models.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 8; ++round) {
        QuantizeOptions how = options(cache.path());
        how.cache.limit = 4'000;  // two files
        if (blocks(*quantized(models[i]->path(), how)) != expected[i]) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  std::size_t total = 0;
  for (const fs::path& path : files_in(cache.path())) total += fs::file_size(path);
  CHECK(total <= 4'000);
}

TEST_CASE("a planned view has the bytes of the quantised one, and its name") {
  const ScratchFolder cache;
  for (const LoadQuantization to : {LoadQuantization::int8, LoadQuantization::int4}) {
    const auto view = quantized(golden("models/qwen2"), options("", to));
    const auto planned = planned_checkpoint(Checkpoint::open(golden("models/qwen2")), to);
    CHECK(planned->tensor_bytes() == view->tensor_bytes());
    CHECK(quantization_name(*planned) == quantization_name(*view));
    for (const StoredTensor& tensor : view->tensors()) {
      CHECK(planned->find(tensor.name)->dtype == tensor.dtype);
      CHECK(planned->find(tensor.name)->shape == tensor.shape);
    }
  }
}

TEST_CASE("without a place for the cache the blocks are made in memory") {
  const ScratchFolder cache;
  const std::string first = blocks(*quantized(golden("models/qwen2"), options(cache.path())));
  CHECK(blocks(*quantized(golden("models/qwen2"), options("/dev/null/cache"))) == first);
  CHECK(blocks(*quantized(golden("models/qwen2"), options(""))) == first);
}

TEST_CASE("unfinished files of dead writers are removed, those of living ones are not") {
  const ScratchFolder cache;
  const fs::path dead = cache.write(".writing-dead01", "x"), alive = cache.write(".writing-alive1", "x");
  const int lock = ::open(alive.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(::flock(lock, LOCK_EX) == 0);
  quantized(golden("models/qwen2"), options(cache.path()));
  CHECK_FALSE(fs::exists(dead));
  CHECK(fs::exists(alive));
  ::close(lock);
}

TEST_CASE("a file that is taken for an abandoned one before its writer has locked it is made again") {
  const ScratchFolder model, cache;
  write_model(model, 0.25f);
  const std::string expected = blocks(*quantized(model.path(), options("")));
  std::atomic<bool> done{false};
  std::thread other([&] {  // as another process that begins to write
    while (!done) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(cache.path(), error)) {
        const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) fs::remove(entry.path(), error);
        if (fd >= 0) ::close(fd);
      }
    }
  });
  std::string problem;
  try {
    for (int round = 0; round < 500; ++round) {
      if (blocks(*quantized(model.path(), options(cache.path()))) != expected) problem = "other weights";
    }
  } catch (const std::exception& error) {
    problem = error.what();
  }
  done = true;
  other.join();
  CHECK(problem.empty());
}

TEST_CASE("weights that are not finite are refused by name, and leave nothing behind") {
  const ScratchFolder model, cache;
  write_model(model, std::numeric_limits<float>::quiet_NaN());
  const std::string message = refusal([&] { quantized(model.path(), options(cache.path())); });
  CHECK(message.find("up_proj.weight row 0") != std::string::npos);
  CHECK(message.find("finite") != std::string::npos);
  CHECK(files_in(cache.path()).empty());
}

TEST_CASE("progress reaches its end") {
  const ScratchFolder cache;
  QuantizeOptions how = options(cache.path());
  std::size_t last = 0, total = 1;
  how.progress = [&](std::size_t done, std::size_t all) {
    CHECK(done >= last);
    last = done;
    total = all;
  };
  quantized(golden("models/qwen2"), how);
  CHECK(last == total);
}
