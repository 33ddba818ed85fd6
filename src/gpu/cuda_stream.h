// SPDX-License-Identifier: Apache-2.0
// CudaStream: putting work on a stream, the user's or one of ours; and what a stream that is captured into a graph says
// about itself. Everything here only enqueues, unless it says otherwise.
//
// A stream is named by its device and its handle: null and the two other special handles mean a stream of the device.
// Threads: any; one stream by one thread at a time (what several threads enqueue at once has no order).
#pragma once

#include <cstdint>
#include <optional>

#include "gpu/cuda.h"

namespace tutti::gpu {

// A sequence of captured work; streams that wait for one of its events belong to it too.
struct CudaCapture {
  uint64_t id = 0;  // unique in the process
  CudaGraph graph = nullptr;
};

class CudaStream {
 public:
  // Does not own the stream.
  CudaStream(CudaDevicePtr device, CudaStreamHandle handle) : device_(std::move(device)), handle_(handle) {}

  const CudaDevicePtr& device() const { return device_; }
  CudaStreamHandle handle() const { return handle_; }

  // Whether the stream is one of `device`: an error names both.
  Status check_device() const;

  // Between any two places that the driver knows; host memory that it does not know makes the call wait.
  Status copy(CudaAddress to, CudaAddress from, size_t bytes) const;
  Status fill(CudaAddress to, unsigned char byte, size_t bytes) const;
  // The stream goes on when the word at `at`, in memory of a device or pinned, has reached `least` (compared modulo
  // 2^64). Where the device cannot do it, stream_values() of it is false.
  Status wait_value(CudaAddress at, uint64_t least) const;
  // All work before on this stream is visible to whoever sees the value.
  Status write_value(CudaAddress at, uint64_t value) const;
  // On a thread of the driver, which must not call CUDA. An error before means that it is never called.
  Status call_host(CudaHostFunction function, void* argument) const;

  Status record(const OwnedEvent& event) const;
  Status wait(const OwnedEvent& event) const;

  // Nothing: the stream is not being captured. An error where a capture was invalidated.
  Result<std::optional<CudaCapture>> capture() const;
  // Whether all work is done; not while the stream is captured.
  Result<bool> idle() const;
  // Blocks the thread.
  Status synchronize() const;

 private:
  template <class Call>
  Status in_context(const char* name, Call call) const;

  CudaDevicePtr device_;
  CudaStreamHandle handle_;
};

// Whether wait_value() and write_value() work on the device.
bool stream_values(const CudaContextOwner& device);

// Whether the work before the event's last record is done (true if it was never recorded).
Result<bool> reached(const CudaDevicePtr& device, const OwnedEvent& event);
// Blocks the thread until then.
Status synchronize(const CudaDevicePtr& device, const OwnedEvent& event);

// Keeps `object` until the graph and all that was instantiated from it are gone; then release(object) is called, on any
// thread, which must not call CUDA. If this fails, release was not called and never will be.
Status keep_with_graph(const CudaDevicePtr& device, CudaGraph graph, void* object, CudaHostFunction release);

// While it lives, this thread may allocate, load modules and ask events even though a stream of it is captured in a
// mode that forbids that: for set-up that a captured call needs and that is no part of the graph.
class AllowedWhileCapturing {
 public:
  explicit AllowedWhileCapturing(const CudaRun& cuda) : cuda_(cuda) { swap(); }
  ~AllowedWhileCapturing() { swap(); }
  AllowedWhileCapturing(const AllowedWhileCapturing&) = delete;
  AllowedWhileCapturing& operator=(const AllowedWhileCapturing&) = delete;

 private:
  void swap() { (void)cuda_.capture_mode(&mode_); }
  const CudaRun& cuda_;
  int mode_ = kCudaCaptureRelaxed;
};

}  // namespace tutti::gpu
