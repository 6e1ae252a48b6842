// The state of the fake CUDA driver: devices, streams with their queued work, events, graphs, modules.
#pragma once
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/ptxsim/fake_driver/cuda_api.h"
#include "tests/ptxsim/launch.h"

namespace inferd::ptxsim::fake {

/// How the fake behaves:
/// INFERD_FAKE_CUDA="devices=2,arch=80,memory=2147483648,order=1,copies=early,eager=1,checked=0,seed=7,
/// manifest=PATH,profile=PATH,fail=FUNCTION:NTH:CODE[:sticky]". Unknown keys and bad values are refused.
struct Settings {
  int devices = 1;
  int arch = 80;                         // compute capability, major * 10 + minor
  size_t memory = size_t{4} << 30;       // bytes of a device
  int order = 0;                         // LaunchOptions::warp_order
  CopyTiming copies = CopyTiming::late;  // cp.async inside kernels
  bool eager = false;    // queued work runs at once where it may, instead of at the next synchronisation
  bool checked = true;   // LaunchOptions::checked
  uint64_t seed = 1;     // of the order in which streams make progress
  std::string manifest;  // lines "FATBIN ARCH PTX": files; which PTX a fatbin was made of for which architecture
  std::string profile;   // written at exit: Profile::format()
  std::string fail_function;
  int fail_nth = 0;  // the call that fails, 1 = the first
  CUresult fail_code = kUnknown;
  bool fail_sticky = false;

  static Settings parse(const std::string& text);  // throws std::invalid_argument
};

/// Thrown inside an API function to return an error.
struct ApiFailure {
  CUresult code;
};

struct Event {
  uint64_t recorded = 0, completed = 0;  // numbers of records asked for and done
  double time_ms = 0;
  struct Capture* capture = nullptr;  // recorded into a capture, not into a stream
};

struct Work {
  std::function<void()> run;  // may be empty
  Event* waits_for = nullptr;
  uint64_t waits_until = 0;     // completed count it waits for
  std::function<bool()> ready;  // whether it may run, asked again and again; empty: it may
  bool may_run() const;
};

/// What a capture has recorded; the order of recording is one its dependencies allow.
struct Graph {
  std::vector<Work> nodes;
};

struct Capture {
  Graph graph;
  struct Stream* origin = nullptr;
  bool invalidated = false;
};

struct Device;
struct Stream {
  Device* device = nullptr;
  uint64_t number = 0;  // order of creation; 0: the default stream
  std::deque<Work> queue;
  Capture* capture = nullptr;
};

struct LoadedModule {
  Device* device = nullptr;
  std::shared_ptr<Module> module;
  struct Function {
    LoadedModule* owner;
    std::string name;
    int max_dynamic_shared = 0;
  };
  std::map<std::string, Function> functions;
  std::vector<uint64_t> mapped_globals;
};

struct Device {
  explicit Device(int number, uint64_t first_address) : ordinal(number), memory(first_address) {}
  int ordinal;
  Memory memory;
  std::map<uint64_t, size_t> allocations;
  size_t used = 0;
  CUresult sticky = kSuccess;  // once set, every call on this device answers it
  Stream default_stream;
  std::set<Stream*> streams;  // the default stream too
};

class Driver {
 public:
  explicit Driver(Settings settings);
  ~Driver();

  /// Counts the call and throws what is injected or sticky. First of all in every API function.
  void begin_call(const char* function);

  Device& current();  // of this thread; throws kInvalidContext
  Stream& stream(CUstream handle);
  /// Queues work, records it into the capture the stream is in, or runs it (default stream, eager).
  /// Collectives wait for `ready`; they are not for the default stream.
  void submit(Stream& stream, std::function<void()> run, std::function<bool()> ready = {});
  void record(Event& event, Stream& stream);
  void wait(Stream& stream, Event& event);
  /// Runs queued work of all streams in a random legal order until `done` holds. Throws kUnknown if it never can.
  void progress_until(const std::function<bool()>& done);
  bool progress_once();  // one piece of work; false if none can run
  void throw_if_sticky(const Device& device) const;
  void forbid_during_capture() const;

  /// Host storage of `bytes` at a device or pinned address (then `host` stays), or of ordinary host memory. Null: no
  /// such memory.
  uint8_t* storage(uint64_t address, size_t bytes);
  bool is_device_address(uint64_t address);

  void launch(LoadedModule::Function& function, Dim3 grid, Dim3 block, size_t shared, Stream& stream, void** parameters,
              void** extra);

  Settings settings;
  std::mutex mutex;
  std::vector<std::unique_ptr<Device>> devices;
  std::set<Capture*> captures;
  std::map<uint64_t, std::unique_ptr<uint8_t[]>> pinned;
  std::string last_violation;
  Profile profile;
  std::map<std::string, std::shared_ptr<Module>> modules;  // by file of PTX: those that hold no variables
  bool initialised = false;

 private:
  std::vector<Stream*> all_streams() const;
  std::map<std::string, int> calls_;
  std::mt19937_64 random_;
};

Driver& driver();
extern thread_local Device* current_device;

/// Largest shared memory of a block on an architecture.
size_t max_shared_bytes(int arch);
/// The file with the PTX of a fatbin, by the manifest; empty for an image that is PTX text itself. Throws ApiFailure.
std::string find_ptx(const Settings& settings, const void* image);
std::string read_file(const std::string& path);  // throws ApiFailure

/// Wraps the body of an API function: lock, injected errors, exceptions to codes.
template <class F>
CUresult api(const char* name, F&& body) {
  Driver& d = driver();
  const std::lock_guard<std::mutex> lock(d.mutex);
  try {
    d.begin_call(name);
    body(d);
    return kSuccess;
  } catch (const ApiFailure& failure) {
    return failure.code;
  } catch (const ParseError& error) {
    d.last_violation = error.what();
    std::fprintf(stderr, "fake CUDA driver: %s\n", error.what());
    return kInvalidPtx;
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  } catch (const std::exception& error) {
    d.last_violation = error.what();
    return kUnknown;
  }
}

}  // namespace inferd::ptxsim::fake
