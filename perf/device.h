// SPDX-License-Identifier: Apache-2.0
// Device: where a rank lives, and all that differs between a CPU and a GPU: memory, streams, and how bytes get there
// and back. One for each rank; used by one thread at a time. What the kinds share asks is_gpu() nowhere else than where
// a library has to be told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "perf/cuda.h"
#include "perf/data.h"
#include "perf/library.h"
#include "perf/outcome.h"
#include "tutti/tutti.h"

namespace tutti::perf {

class Device {
 public:
  virtual ~Device() = default;
  virtual bool is_gpu() const = 0;
  virtual int ordinal() const = 0;  // a CUDA ordinal or TUTTI_DEVICE_CPU
  // What the list of ranks shows: where it is, and what.
  virtual std::string place() const = 0;
  virtual std::string model() const = 0;
  virtual uint64_t free_bytes() const = 0;  // UINT64_MAX: not known

  // Current for the calling thread from enter() to leave(): for calls that ask CUDA which device is meant.
  virtual Outcome enter() = 0;
  virtual void leave() = 0;

  // Ordinary memory for a rank's calls, zeroed. Null and a text where there is none.
  virtual Outcome allocate(size_t bytes, std::byte** at) = 0;
  virtual void release(std::byte* at) = 0;
  // These have happened when they return.
  virtual Outcome set(std::byte* at, std::byte value, size_t bytes) = 0;
  virtual Outcome read(const std::byte* at, std::byte* host, size_t bytes) = 0;
  // Test data (data.h): elements [first, first + count) of `source` at `at`; how many differ from that.
  virtual Outcome put(const DataSpec& data, int source, size_t first, size_t count, std::byte* at) = 0;
  virtual Outcome count_wrong(const DataSpec& data, int source, size_t first, size_t count, const std::byte* at,
                              uint64_t* wrong) = 0;

  virtual Outcome make_stream(tuttiStream_t* stream) = 0;
  virtual void end_stream(tuttiStream_t stream) = 0;
  // Null: the device's default stream; on a CPU the calling thread, whose calls have ended.
  virtual Outcome synchronize(tuttiStream_t stream) = 0;
};

// Of the CPUs this process may run on. Streams are the library's.
std::unique_ptr<Device> make_cpu(const Library& library);
Outcome make_gpu(const Cuda& cuda, int ordinal, std::unique_ptr<Device>* device);

// For the lifetime of a scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(Device& device) : device_(device), outcome_(device.enter()) {}
  ~CurrentDevice() {
    if (outcome_.ok()) device_.leave();
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  const Outcome& outcome() const { return outcome_; }

 private:
  Device& device_;
  Outcome outcome_;
};

// What several streams of GPUs get while it records, as one graph that is launched as often as one likes. One thread.
class Recording {
 public:
  struct Place {
    Device* device;  // a GPU
    tuttiStream_t stream;
  };
  Recording(const Cuda& cuda, std::vector<Place> places) : cuda_(cuda), places_(std::move(places)) {}
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  Outcome begin();
  // Also after a call that failed, to give the streams back.
  Outcome end();
  Outcome launch();  // on the first stream; returns when it is queued

 private:
  Outcome join(size_t from, size_t to);  // what is put on stream `to` from now on waits for stream `from`

  const Cuda& cuda_;
  std::vector<Place> places_;
  std::vector<std::pair<Device*, void*>> events_;
  void* graph_ = nullptr;
  void* exec_ = nullptr;
};

}  // namespace tutti::perf
