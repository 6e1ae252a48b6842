// The thread pool, thread counts, memory and level choice of the CPU backend.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/errors.h"
#include "kernels/cpu/cgroup.h"
#include "kernels/cpu/cpu_memory.h"
#include "kernels/cpu/cpu_topology.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/weight_memory.h"
#include "tests/catch.h"

using namespace inferd;

namespace {

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// A folder that stands for the root of a file system.
struct FakeRoot {
  FakeRoot() {
    std::string pattern = (std::filesystem::temp_directory_path() / "inferd-root-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~FakeRoot() { std::filesystem::remove_all(path); }
  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path + file).parent_path());
    std::ofstream(path + file) << text;
  }
  std::string path;
};

/// What choose_cpu_level says against `isa`.
std::string refusal_of(const std::string& isa) {
  try {
    choose_cpu_level(isa);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("every task runs once, on a valid worker") {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    REQUIRE(pool.size() == threads);
    for (std::int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
      std::atomic<bool> bad_worker{false};
      pool.run(tasks, [&](std::int64_t task, int worker) {
        ++runs[static_cast<std::size_t>(task)];
        if (worker < 0 || worker >= threads) bad_worker = true;
      });
      for (const auto& count : runs) REQUIRE(count == 1);
      CHECK(!bad_worker);
    }
  }
}

TEST_CASE("a worker takes the tasks of its own stretch in order, then others from the ends of theirs") {
  constexpr std::int64_t kTasks = 400;
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    std::vector<std::vector<std::int64_t>> taken(static_cast<std::size_t>(threads));
    pool.run(kTasks, [&](std::int64_t task, int worker) {
      taken[static_cast<std::size_t>(worker)].push_back(task);
      // The last worker lags, so that the others come for its tasks.
      if (worker == threads - 1 && threads > 1) std::this_thread::sleep_for(std::chrono::microseconds(200));
    });
    for (int worker = 0; worker < threads; ++worker) {
      const std::int64_t first = kTasks * worker / threads, end = kTasks * (worker + 1) / threads;
      std::int64_t next = first, others = kTasks;
      for (std::int64_t task : taken[static_cast<std::size_t>(worker)]) {
        if (task >= first && task < end && others == kTasks) {
          CHECK(task == next++);
        } else {
          CHECK((task < first || task >= end));
          others = task;
        }
      }
    }
  }
}

TEST_CASE("results of a run are visible to the caller and to the next run") {
  ThreadPool pool(3);
  std::vector<std::int64_t> cells(64, 0);  // plain memory: the pool must order the accesses
  for (int round = 0; round < 20000; ++round) {
    pool.run(64, [&](std::int64_t task, int) { cells[static_cast<std::size_t>(63 - task)] += task; });
  }
  for (std::int64_t i = 0; i < 64; ++i) REQUIRE(cells[static_cast<std::size_t>(i)] == 20000 * (63 - i));
}

TEST_CASE("workers that have parked wake for the next run") {
  ThreadPool pool(3);
  for (int round = 0; round < 30; ++round) {
    std::atomic<int> done{0};
    pool.run(9, [&](std::int64_t, int) { ++done; });
    REQUIRE(done == 9);
    std::this_thread::sleep_for(std::chrono::microseconds(round * 40));
  }
}

TEST_CASE("a pool can be destroyed at any time, used or not") {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(1 + i % 5);
    if (i % 3 != 0) pool.run(i % 7, [](std::int64_t, int) {});
  }
}

TEST_CASE("an idle pool uses no CPU") {
  ThreadPool pool(4);
  pool.run(16, [](std::int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  CHECK(cpu_seconds() - before < 0.02);
}

TEST_CASE("running from inside a task is a programmer's error, not a deadlock") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    std::signal(SIGABRT, SIG_DFL);
    alarm(20);
    ThreadPool pool(2);
    pool.run(4, [&](std::int64_t, int) { pool.run(2, [](std::int64_t, int) {}); });
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("threads are physical cores within affinity and quota") {
  const FakeRoot root;
  for (int cpu = 0; cpu < 8; ++cpu) {
    const int first = cpu % 4;
    root.write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
               std::to_string(first) + "," + std::to_string(first + 4) + "\n");
  }
  CHECK(thread_count_under(root.path, {0, 1, 2, 3, 4, 5, 6, 7}) == 4);
  CHECK(thread_count_under(root.path, {1, 5}) == 1);
  CHECK(thread_count_under(root.path, {1, 6}) == 2);
  CHECK(thread_count_under(root.path, {}) == 1);
  CHECK(thread_count_under(root.path, {100, 101}) == 2);  // unknown topology: every CPU is a core
  root.write("/proc/self/cgroup", "0::/system.slice/inferd.service\n");
  root.write("/sys/fs/cgroup/system.slice/inferd.service/cpu.max", "max 100000\n");
  CHECK(thread_count_under(root.path, {0, 1, 2, 3}) == 4);
  root.write("/sys/fs/cgroup/system.slice/cpu.max", "250000 100000\n");
  CHECK(thread_count_under(root.path, {0, 1, 2, 3}) == 2);
  root.write("/sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n");
  CHECK(thread_count_under(root.path, {0, 1, 2, 3}) == 1);
  root.write("/sys/fs/cgroup/system.slice/cpu.max", "gibberish\n");
  CHECK(thread_count_under(root.path, {0, 1, 2, 3}) == 4);
  CHECK(default_thread_count() >= 1);
}

TEST_CASE("version 1 control groups limit threads and memory too") {
  const FakeRoot root;
  root.write("/proc/self/cgroup", "5:cpu,cpuacct:/box\n4:memory:/box\n1:name=systemd:/\n");
  root.write("/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "150000\n");
  root.write("/sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "50000\n");
  root.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_cpu_quota(root.path) == 3.0);
  root.write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1000000\n");
  root.write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "900000\n");
  root.write("/sys/fs/cgroup/memory/box/memory.stat", "cache 300000\ntotal_inactive_file 200000\n");
  CHECK(cgroup_memory_left(root.path) == std::size_t{300000});
}

TEST_CASE("available memory is the least of machine and control groups") {
  const FakeRoot root;
  root.write("/proc/meminfo", "MemTotal:  2000 kB\nMemFree: 100 kB\nMemAvailable:   1000 kB\n");
  CHECK(available_memory(root.path) == std::size_t{1000} * 1024);
  root.write("/proc/self/cgroup", "0::/\n");
  root.write("/sys/fs/cgroup/memory.max", "700000\n");
  root.write("/sys/fs/cgroup/memory.current", "100000\n");
  CHECK(available_memory(root.path) == std::size_t{600000});
  root.write("/sys/fs/cgroup/memory.max", "max\n");
  CHECK(available_memory(root.path) == std::size_t{1000} * 1024);
  root.write("/sys/fs/cgroup/memory.max", "50000\n");
  CHECK(available_memory(root.path) == 0);
}

TEST_CASE("memory is aligned, zero-filled, movable, and refused when there is not enough") {
  for (std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{300000}, std::size_t{5000000}}) {
    CpuMemory memory(bytes);
    REQUIRE(memory.bytes() == bytes);
    REQUIRE(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
    for (std::size_t i = 0; i < bytes; ++i) REQUIRE(memory.data()[i] == std::byte{0});
    std::byte* at = memory.data();
    CpuMemory moved(std::move(memory));
    CHECK(moved.data() == at);
    memory = std::move(moved);
    CHECK(memory.data() == at);
  }
  CHECK_THROWS_AS(CpuMemory(SIZE_MAX), MemoryError);
  CHECK_THROWS_AS(CpuMemory(std::size_t{1} << 50), MemoryError);
}

TEST_CASE("matrices get zero-filled pieces of shared chunks that live as long as one of them") {
  WeightMemory memory;
  std::vector<WeightMemory::Piece> pieces;
  for (std::size_t bytes :
       {std::size_t{1}, std::size_t{1000}, std::size_t{7} << 20, std::size_t{0}, std::size_t{20} << 20,
        std::size_t{8} << 20, std::size_t{8} << 20, std::size_t{8} << 20, std::size_t{64}}) {
    pieces.push_back(memory.allocate(bytes));
    const WeightMemory::Piece& piece = pieces.back();
    REQUIRE(piece.bytes == bytes);
    REQUIRE(reinterpret_cast<std::uintptr_t>(piece.data) % 64 == 0);
    REQUIRE(piece.data + bytes <= piece.chunk->data() + piece.chunk->bytes());
    REQUIRE(std::all_of(piece.data, piece.data + bytes, [](std::byte b) { return b == std::byte{0}; }));
    std::fill_n(piece.data, bytes, static_cast<std::byte>(pieces.size()));
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {  // nobody wrote into another's
    const auto mine = static_cast<std::byte>(i + 1);
    CHECK(std::all_of(pieces[i].data, pieces[i].data + pieces[i].bytes, [&](std::byte b) { return b == mine; }));
  }
  memory = {};
  pieces.erase(pieces.begin());
  CHECK(pieces.front().data[999] == std::byte{2});  // its chunk is still there
  CHECK_THROWS_AS(WeightMemory().allocate(std::size_t{1} << 50), MemoryError);
}

TEST_CASE("levels are chosen by name, by INFERD_ISA, or by the machine") {
  unsetenv("INFERD_ISA");
  CHECK(choose_cpu_level("portable") == CpuLevel::portable);
  CHECK(choose_cpu_level("auto") == best_cpu_level());
  CHECK(refusal_of("sse9").find("avx512vnni") != std::string::npos);
  CHECK(refusal_of("sse9").find("sse9") != std::string::npos);
  CHECK_THROWS_AS(choose_cpu_level(""), ConfigError);
  setenv("INFERD_ISA", "portable", 1);
  CHECK(choose_cpu_level("auto") == CpuLevel::portable);
  CHECK(make_cpu_backend({.threads = 2})->name() == "cpu (portable, 2 threads)");
  CHECK(make_cpu_backend({.threads = 1})->name() == "cpu (portable, 1 thread)");
  setenv("INFERD_ISA", "nonsense", 1);
  CHECK(refusal_of("auto").find("INFERD_ISA") != std::string::npos);
  CHECK(choose_cpu_level("portable") == CpuLevel::portable);
  unsetenv("INFERD_ISA");
  CHECK_THROWS_AS(make_cpu_backend({.threads = -1}), ConfigError);
  CHECK_THROWS_AS(make_cpu_backend({.threads = 1000000}), ConfigError);
}

TEST_CASE("the backend's memory takes copies both ways") {
  const auto backend = make_cpu_backend({.threads = 1});
  const auto buffer = backend->allocate(100);
  REQUIRE(buffer->bytes() == 100);
  const char text[] = "all that is gold";
  backend->upload(buffer->data(), text, sizeof text);
  char back[sizeof text] = {};
  backend->synchronize();
  backend->download(back, buffer->data(), sizeof text);
  CHECK(std::string(back) == text);
  CHECK(backend->available_bytes() > 0);
  CHECK_THROWS_AS(backend->allocate(std::size_t{1} << 50), MemoryError);
}
