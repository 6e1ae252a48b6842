// The fake driver's engine: queues, order of work, launches, errors that stick.
#include "tests/ptxsim/fake_driver/driver_state.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

namespace inferd::ptxsim::fake {

thread_local Device* current_device = nullptr;

namespace {

constexpr uint64_t kFirstAddress = uint64_t{0x600} << 32;
constexpr uint64_t kDeviceSpan = uint64_t{64} << 30;  // addresses kept for one device, so that host code faults on them
constexpr size_t kSharedWithoutOptin = 48 * 1024;

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

CUresult code_of(Violation::Kind kind) {
  switch (kind) {
    case Violation::Kind::bounds:
      return kIllegalAddress;
    case Violation::Kind::alignment:
      return kMisalignedAddress;
    case Violation::Kind::bad_launch:
      return kInvalidValue;
    default:
      return kLaunchFailed;
  }
}

}  // namespace

Driver& driver() {
  // The C interface has no handle to hang the state on.
  static Driver instance([] {
    const char* text = std::getenv("INFERD_FAKE_CUDA");
    try {
      return Settings::parse(text == nullptr ? "" : text);
    } catch (const std::invalid_argument& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::exit(64);
    }
  }());
  return instance;
}

size_t max_shared_bytes(int arch) {
  const size_t kib = arch >= 90 ? 227 : arch == 80 ? 163 : arch >= 86 ? 99 : 64;
  return kib * 1024;
}

Driver::Driver(Settings s) : settings(std::move(s)), random_(settings.seed) {
  for (int i = 0; i < settings.devices; ++i) {
    const uint64_t first = kFirstAddress + uint64_t(i) * kDeviceSpan;
    // Nothing of the host comes to lie where device addresses are, and touching one faults.
    mmap(reinterpret_cast<void*>(first), kDeviceSpan, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    devices.push_back(std::make_unique<Device>(i, first));
    Device& device = *devices.back();
    device.default_stream.device = &device;
    device.streams.insert(&device.default_stream);
  }
}

Driver::~Driver() {
  if (!settings.profile.empty()) std::ofstream(settings.profile) << profile.format();
}

namespace {

/// Calls that belong to no context, so that no broken one answers them.
bool outside_contexts(std::string_view function) {
  constexpr std::string_view kNames[] = {"cuInit",           "cuDriverGetVersion", "cuGetErrorName",
                                         "cuGetErrorString", "cuCtxSetCurrent",    "cuDevicePrimaryCtxRetain"};
  return std::find(std::begin(kNames), std::end(kNames), function) != std::end(kNames) ||
         function.substr(0, 11) == "cuDeviceGet";
}

}  // namespace

void Driver::begin_call(const char* function) {
  if (settings.fail_function == function && ++calls_[function] == settings.fail_nth) {
    if (settings.fail_sticky && current_device != nullptr) current_device->sticky = settings.fail_code;
    throw ApiFailure{settings.fail_code};
  }
  if (!initialised && std::strcmp(function, "cuInit") != 0 && std::strcmp(function, "cuDriverGetVersion") != 0)
    throw ApiFailure{kNotInitialized};
  if (current_device != nullptr && !outside_contexts(function)) throw_if_sticky(*current_device);
}

void Driver::throw_if_sticky(const Device& device) const {
  if (device.sticky != kSuccess) throw ApiFailure{device.sticky};
}

void Driver::forbid_during_capture() const {
  if (captures.empty()) return;
  for (Capture* capture : captures) capture->invalidated = true;
  throw ApiFailure{kCaptureUnsupported};
}

Device& Driver::current() {
  if (current_device == nullptr) throw ApiFailure{kInvalidContext};
  return *current_device;
}

Stream& Driver::stream(CUstream handle) {
  if (handle == nullptr) return current().default_stream;
  Stream* stream = reinterpret_cast<Stream*>(handle);
  for (const auto& device : devices) {
    if (device->streams.count(stream) != 0) return *stream;
  }
  throw ApiFailure{kInvalidHandle};
}

std::vector<Stream*> Driver::all_streams() const {
  std::vector<Stream*> result;
  for (const auto& device : devices) result.insert(result.end(), device->streams.begin(), device->streams.end());
  // Not by address: the order is to depend on the seed alone.
  std::sort(result.begin(), result.end(), [](const Stream* a, const Stream* b) { return a->number < b->number; });
  return result;
}

bool Work::may_run() const {
  if (waits_for != nullptr && waits_for->completed < waits_until) return false;
  return !ready || ready();
}

bool Driver::progress_once() {
  std::vector<Stream*> ready;
  for (Stream* stream : all_streams()) {
    if (!stream->queue.empty() && stream->queue.front().may_run()) ready.push_back(stream);
  }
  if (ready.empty()) return false;
  Stream& stream = *ready[random_() % ready.size()];
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (work.run && stream.device->sticky == kSuccess) work.run();
  return true;
}

void Driver::progress_until(const std::function<bool()>& done) {
  while (!done()) {
    if (!progress_once()) throw ApiFailure{kUnknown};
  }
}

void Driver::submit(Stream& stream, std::function<void()> run, std::function<bool()> ready) {
  throw_if_sticky(*stream.device);
  Work work{std::move(run), nullptr, 0, std::move(ready)};
  if (stream.capture != nullptr) {
    stream.capture->graph.nodes.push_back(std::move(work));
    return;
  }
  if (&stream == &stream.device->default_stream) {
    if (work.ready) throw ApiFailure{kInvalidValue};
    // The legacy default stream: everything before it is done before it, everything after it after it.
    forbid_during_capture();
    progress_until([this] {
      const auto streams = all_streams();
      return std::all_of(streams.begin(), streams.end(), [](const Stream* s) { return s->queue.empty(); });
    });
    throw_if_sticky(*stream.device);
    work.run();
    return;
  }
  stream.queue.push_back(std::move(work));
  while (settings.eager && progress_once()) {
  }
}

void Driver::record(Event& event, Stream& stream) {
  if (stream.capture != nullptr) {
    event.capture = stream.capture;
    return;
  }
  event.capture = nullptr;
  const uint64_t number = ++event.recorded;
  submit(stream, [&event, number] {
    event.completed = std::max(event.completed, number);
    event.time_ms = now_ms();
  });
}

void Driver::wait(Stream& stream, Event& event) {
  if (event.capture != nullptr && captures.count(event.capture) != 0) {
    if (stream.capture != nullptr && stream.capture != event.capture) throw ApiFailure{kCaptureInvalidated};
    stream.capture = event.capture;  // the stream joins; recording order keeps the dependency
    return;
  }
  if (stream.capture != nullptr || event.completed >= event.recorded) return;
  if (&stream == &stream.device->default_stream) {
    progress_until([&event] { return event.completed >= event.recorded; });
    return;
  }
  stream.queue.push_back({{}, &event, event.recorded, {}});
}

bool Driver::is_device_address(uint64_t address) {
  return address >= kFirstAddress && address < kFirstAddress + kDeviceSpan * devices.size();
}

uint8_t* Driver::storage(uint64_t address, size_t bytes) {
  if (!is_device_address(address)) return reinterpret_cast<uint8_t*>(address);
  Memory& memory = devices[(address - kFirstAddress) / kDeviceSpan]->memory;
  const Region* region = memory.find(address);
  if (region == nullptr || !region->contains(address, bytes)) return nullptr;
  return region->storage + (address - region->address);
}

void Driver::launch(LoadedModule::Function& function, Dim3 grid, Dim3 block, size_t shared, Stream& stream,
                    void** parameters, void** extra) {
  LoadedModule& module = *function.owner;
  const Kernel& kernel = module.module->kernel(function.name);
  if (module.device != stream.device) throw ApiFailure{kInvalidContext};
  if (grid.count() == 0 || block.count() == 0 || block.count() > kernel.max_threads) throw ApiFailure{kInvalidValue};
  const size_t allowed =
      std::max(kSharedWithoutOptin, kernel.static_shared_bytes + size_t(function.max_dynamic_shared));
  if (kernel.static_shared_bytes + shared > std::min(allowed, max_shared_bytes(settings.arch)))
    throw ApiFailure{kInvalidValue};
  std::vector<uint8_t> buffer(kernel.parameter_bytes);
  if (extra != nullptr) {
    // CU_LAUNCH_PARAM_BUFFER_POINTER = 1, _SIZE = 2, END = 0
    for (void** item = extra; *item != nullptr; item += 2) {
      if (*item == reinterpret_cast<void*>(1)) std::memcpy(buffer.data(), item[1], buffer.size());
    }
  } else {
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
      std::memcpy(buffer.data() + kernel.parameters[i].offset, parameters[i], kernel.parameters[i].bytes);
    }
  }
  submit(stream, [this, &module, name = function.name, grid, block, shared, buffer = std::move(buffer)] {
    LaunchOptions options;
    options.cp_async = settings.copies;
    options.warp_order = settings.order;
    options.checked = settings.checked;
    options.profile = settings.profile.empty() ? nullptr : &profile;
    try {
      ptxsim::launch(*module.module, name, grid, block, shared, buffer, module.device->memory, options);
    } catch (const Violation& violation) {
      last_violation = violation.what();
      std::fprintf(stderr, "fake CUDA driver: %s\n", violation.what());
      module.device->sticky = code_of(violation.kind());
    }
  });
}

}  // namespace inferd::ptxsim::fake
