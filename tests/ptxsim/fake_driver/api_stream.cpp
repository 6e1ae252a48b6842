// Streams, events, asynchronous copies, graphs.
#include <algorithm>
#include <cstring>

#include "tests/ptxsim/fake_driver/driver_state.h"

using namespace inferd::ptxsim::fake;

namespace {

uint64_t address(const void* p) { return reinterpret_cast<uint64_t>(p); }
Event& event_of(CUevent handle) {
  if (handle == nullptr) throw ApiFailure{kInvalidHandle};
  return *reinterpret_cast<Event*>(handle);
}

bool is_pinned(Driver& d, uint64_t at) {
  const auto after = d.pinned.upper_bound(at);
  return after != d.pinned.begin() && d.current().memory.find(at) != nullptr;
}

// Host memory that is not pinned is read when the copy is asked for, as the driver stages it; all else when the copy
// runs.
void queue_copy(Driver& d, uint64_t to, uint64_t from, size_t bytes, CUstream handle) {
  Stream& stream = d.stream(handle);
  const bool target_known = !d.is_device_address(to) || d.storage(to, bytes) != nullptr;
  const bool source_known = !d.is_device_address(from) || d.storage(from, bytes) != nullptr;
  if (!target_known || !source_known) throw ApiFailure{kInvalidValue};
  std::vector<uint8_t> staged;
  const bool stages = !d.is_device_address(from) && !is_pinned(d, from) && stream.capture == nullptr;
  if (stages) staged.assign(reinterpret_cast<uint8_t*>(from), reinterpret_cast<uint8_t*>(from) + bytes);
  d.submit(stream, [&d, device = stream.device, to, from, bytes, stages, staged = std::move(staged)] {
    uint8_t* target = d.storage(to, bytes);
    const uint8_t* source = stages ? staged.data() : d.storage(from, bytes);
    if (target == nullptr || source == nullptr) {
      d.last_violation = "an asynchronous copy ran after its memory was freed";
      device->sticky = kIllegalAddress;
      return;
    }
    std::memmove(target, source, bytes);
  });
}

CUresult async_copy(const char* name, uint64_t to, uint64_t from, size_t bytes, CUstream stream) {
  return api(name, [&](Driver& d) { queue_copy(d, to, from, bytes, stream); });
}

template <class T>
CUresult async_fill(const char* name, CUdeviceptr to, T value, size_t count, CUstream handle) {
  return api(name, [&](Driver& d) {
    Stream& stream = d.stream(handle);
    if (d.storage(to, count * sizeof(T)) == nullptr || !d.is_device_address(to)) throw ApiFailure{kInvalidValue};
    d.submit(stream, [&d, device = stream.device, to, value, count] {
      uint8_t* target = d.storage(to, count * sizeof(T));
      if (target == nullptr) {
        device->sticky = kIllegalAddress;
        return;
      }
      for (size_t i = 0; i < count; ++i) std::memcpy(target + i * sizeof(T), &value, sizeof(T));
    });
  });
}

void create_stream(Driver& d, CUstream* out) {
  static uint64_t number = 0;
  Device& device = d.current();
  Stream* stream = new Stream;
  stream->device = &device;
  stream->number = ++number;
  device.streams.insert(stream);
  *out = reinterpret_cast<CUstream>(stream);
}

void wait_for_stream(Driver& d, Stream& stream) {
  if (stream.capture != nullptr) d.forbid_during_capture();
  d.progress_until([&stream] { return stream.queue.empty(); });
  d.throw_if_sticky(*stream.device);
}

}  // namespace

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  return api("cuStreamCreate", [&](Driver& d) { create_stream(d, stream); });
}
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int) {
  return api("cuStreamCreateWithPriority", [&](Driver& d) { create_stream(d, stream); });
}
CUresult cuStreamDestroy_v2(CUstream handle) {
  return api("cuStreamDestroy_v2", [&](Driver& d) {
    Stream& stream = d.stream(handle);
    if (handle == nullptr) throw ApiFailure{kInvalidHandle};
    d.progress_until([&stream] { return stream.queue.empty(); });
    stream.device->streams.erase(&stream);
    delete &stream;
  });
}
CUresult cuStreamSynchronize(CUstream handle) {
  return api("cuStreamSynchronize", [&](Driver& d) { wait_for_stream(d, d.stream(handle)); });
}
CUresult cuStreamQuery(CUstream handle) {
  return api("cuStreamQuery", [&](Driver& d) {
    Stream& stream = d.stream(handle);
    if (!stream.queue.empty()) d.progress_once();  // time passes between two queries
    d.throw_if_sticky(*stream.device);
    if (!stream.queue.empty()) throw ApiFailure{kNotReady};
  });
}
CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
  return api("cuStreamWaitEvent", [&](Driver& d) { d.wait(d.stream(handle), event_of(event)); });
}
CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  return api("cuLaunchHostFunc", [&](Driver& d) { d.submit(d.stream(handle), [=] { function(data); }); });
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  return api("cuEventCreate", [&](Driver&) { *event = reinterpret_cast<CUevent>(new Event); });
}
CUresult cuEventDestroy_v2(CUevent handle) {
  return api("cuEventDestroy_v2", [&](Driver& d) {
    Event* event = &event_of(handle);
    d.progress_until([event] { return event->completed >= event->recorded; });
    for (const auto& device : d.devices) {
      for (Stream* stream : device->streams) {
        for (Work& work : stream->queue) {
          if (work.waits_for == event) work.waits_for = nullptr;
        }
      }
    }
    delete event;
  });
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  return api("cuEventRecord", [&](Driver& d) { d.record(event_of(event), d.stream(stream)); });
}
CUresult cuEventSynchronize(CUevent handle) {
  return api("cuEventSynchronize", [&](Driver& d) {
    Event& event = event_of(handle);
    if (event.capture != nullptr) d.forbid_during_capture();
    d.progress_until([&event] { return event.completed >= event.recorded; });
    d.throw_if_sticky(d.current());
  });
}
CUresult cuEventQuery(CUevent handle) {
  return api("cuEventQuery", [&](Driver& d) {
    Event& event = event_of(handle);
    if (event.completed < event.recorded) d.progress_once();
    d.throw_if_sticky(d.current());
    if (event.completed < event.recorded) throw ApiFailure{kNotReady};
  });
}
CUresult cuEventElapsedTime_v2(float* ms, CUevent start, CUevent end) {
  return api("cuEventElapsedTime_v2", [&](Driver&) {
    const Event &a = event_of(start), &b = event_of(end);
    if (a.recorded == 0 || b.recorded == 0) throw ApiFailure{kInvalidHandle};
    if (a.completed < a.recorded || b.completed < b.recorded) throw ApiFailure{kNotReady};
    *ms = float(b.time_ms - a.time_ms);
  });
}
CUresult cuEventElapsedTime(float* ms, CUevent start, CUevent end) { return cuEventElapsedTime_v2(ms, start, end); }

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return async_copy("cuMemcpyHtoDAsync_v2", to, address(from), bytes, stream);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return async_copy("cuMemcpyDtoHAsync_v2", address(to), from, bytes, stream);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return async_copy("cuMemcpyDtoDAsync_v2", to, from, bytes, stream);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return async_copy("cuMemcpyAsync", to, from, bytes, stream);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes, CUstream stream) {
  return async_copy("cuMemcpyPeerAsync", to, from, bytes, stream);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return async_fill("cuMemsetD8Async", to, value, count, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  return async_fill("cuMemsetD32Async", to, value, count, stream);
}

CUresult cuStreamBeginCapture_v2(CUstream handle, int) {
  return api("cuStreamBeginCapture_v2", [&](Driver& d) {
    Stream& stream = d.stream(handle);
    if (handle == nullptr || stream.capture != nullptr) throw ApiFailure{kCaptureUnsupported};
    stream.capture = new Capture;
    stream.capture->origin = &stream;
    d.captures.insert(stream.capture);
  });
}
CUresult cuStreamIsCapturing(CUstream handle, int* status) {
  return api("cuStreamIsCapturing", [&](Driver& d) {
    const Stream& stream = d.stream(handle);
    *status = stream.capture == nullptr ? 0 : stream.capture->invalidated ? 2 : 1;
  });
}
CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  return api("cuStreamEndCapture", [&](Driver& d) {
    Stream& stream = d.stream(handle);
    Capture* capture = stream.capture;
    if (capture == nullptr || capture->origin != &stream) throw ApiFailure{kInvalidValue};
    for (const auto& device : d.devices) {
      for (Stream* other : device->streams) {
        if (other->capture == capture) other->capture = nullptr;
      }
    }
    d.captures.erase(capture);
    const std::unique_ptr<Capture> owned(capture);
    *graph = nullptr;
    if (capture->invalidated) throw ApiFailure{kCaptureInvalidated};
    *graph = reinterpret_cast<CUgraph>(new Graph(std::move(capture->graph)));
  });
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  return api("cuGraphInstantiateWithFlags", [&](Driver&) {
    if (graph == nullptr) throw ApiFailure{kInvalidValue};
    *executable = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<Graph*>(graph)));
  });
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
  return api("cuGraphLaunch", [&](Driver& d) {
    if (executable == nullptr) throw ApiFailure{kInvalidValue};
    Stream& stream = d.stream(handle);
    // Copies: the executable may be destroyed while its launch is queued.
    for (const Work& node : reinterpret_cast<Graph*>(executable)->nodes) d.submit(stream, node.run, node.ready);
  });
}
CUresult cuGraphUpload(CUgraphExec, CUstream) {
  return api("cuGraphUpload", [](Driver&) {});
}
CUresult cuGraphGetNodes(CUgraph graph, void**, size_t* count) {
  return api("cuGraphGetNodes", [&](Driver&) {
    if (graph == nullptr) throw ApiFailure{kInvalidValue};
    *count = reinterpret_cast<Graph*>(graph)->nodes.size();
  });
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
  return api("cuGraphExecDestroy", [&](Driver&) { delete reinterpret_cast<Graph*>(executable); });
}
CUresult cuGraphDestroy(CUgraph graph) {
  return api("cuGraphDestroy", [&](Driver&) { delete reinterpret_cast<Graph*>(graph); });
}

}  // extern "C"
