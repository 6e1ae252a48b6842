// The CUDA driver seam over a table that the test fills: listing, refusals, and what each error becomes.
#include "kernels/cuda/driver.h"

#include <cstdio>
#include <string>

#include "tests/catch.h"
#include "tests/errors.h"

namespace inferd::cuda {
namespace {

using inferd::testing::error_of;
using inferd::testing::has;

// What the table's functions answer; they are plain functions, so the state is the file's.
struct State {
  int init = 0, version = 13000, count = 2, name_status = 0;
};
State state;

DriverTable make_table() {
  DriverTable table;
  table.init = [](unsigned) { return state.init; };
  table.driver_version = [](int* version) { return *version = state.version, 0; };
  table.error_name = [](int status, const char** name) {
    *name = status == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : nullptr;
    return status == 700 ? 0 : 1;
  };
  table.device_count = [](int* count) { return *count = state.count, 0; };
  table.device_get = [](int* device, int ordinal) { return *device = 10 + ordinal, 0; };
  table.device_name = [](char* name, int bytes, int device) {
    std::snprintf(name, static_cast<std::size_t>(bytes), "GPU %d", device);
    return state.name_status;
  };
  table.device_memory = [](std::size_t* bytes, int device) {
    return *bytes = (std::size_t{1} << 30) * static_cast<std::size_t>(device), 0;
  };
  table.device_attribute = [](int* value, int attribute, int device) {
    return *value = attribute == 75 ? 8 : attribute == 76 ? device - 10 : -1, 0;
  };
  return table;
}

}  // namespace

TEST_CASE("Every GPU is listed by ordinal, asked by its handle") {
  state = {};
  const std::vector<DeviceInfo> found = Driver(make_table()).devices();
  REQUIRE(found.size() == 2);
  CHECK(found[1].name == "GPU 11");
  CHECK(found[1].memory_bytes == std::size_t{11} << 30);
  CHECK(found[0].compute_major == 8);
  CHECK(found[0].compute_minor == 0);
  CHECK(found[1].compute_minor == 1);
}

TEST_CASE("A driver that cannot serve says why") {
  state = {};
  state.init = 100;
  const FatalError no_gpu = error_of([] { Driver driver(make_table()); });
  CHECK(no_gpu.code == ExitCode::bad_config);
  CHECK(has(no_gpu.what(), "sees no GPU"));

  state.init = 803;
  const FatalError no_start = error_of([] { Driver driver(make_table()); });
  CHECK(no_start.code == ExitCode::bad_config);
  CHECK(has(no_start.what(), "did not start: CUDA error (803)"));

  state = {};
  state.count = 0;
  CHECK(error_of([] { Driver(make_table()).devices(); }).code == ExitCode::bad_config);

  state = {};
  CHECK(Driver(make_table()).version_problem().empty());
  state.version = 12080;
  CHECK(
      has(Driver(make_table()).version_problem(), "expected branch 580 or newer (CUDA 13.0), found one for CUDA 12.8"));
}

TEST_CASE("A library that is absent or no driver is refused") {
  const FatalError absent = error_of([] { Driver::open("libinferd-no-such-driver.so.1"); });
  CHECK(absent.code == ExitCode::bad_config);
  CHECK(has(absent.what(), "no NVIDIA driver (libinferd-no-such-driver.so.1 not found)"));
  const FatalError broken = error_of([] { Driver::open(INFERD_EMPTY_DRIVER); });
  CHECK(broken.code == ExitCode::bad_config);
  CHECK(has(broken.what(), "found one without cuDriverGetVersion"));
}

TEST_CASE("Errors of the driver become exit codes") {
  state = {};
  const Driver driver(make_table());
  driver.check(0, "copy");
  const auto code = [&](int status) { return error_of([&] { driver.check(status, "copy"); }).code; };
  CHECK(code(2) == ExitCode::no_memory);
  for (const int status : {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719}) {
    CHECK(code(status) == ExitCode::gpu_lost);
  }
  for (const int status : {1, 100, 201, 209, 400, 600, 701}) CHECK(code(status) == ExitCode::internal);
  const FatalError error = error_of([&] { driver.check(700, "copy"); });
  CHECK(std::string(error.what()) == "cannot copy: CUDA_ERROR_ILLEGAL_ADDRESS (700)");

  state.name_status = 719;
  CHECK(error_of([&] { driver.devices(); }).code == ExitCode::gpu_lost);
}

}  // namespace inferd::cuda
