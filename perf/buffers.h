// SPDX-License-Identifier: Apache-2.0
// One rank's device and communicator with its stream and its two buffers, and their registration (-R).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "perf/device.h"
#include "perf/library.h"
#include "perf/options.h"
#include "perf/outcome.h"
#include "tutti/tutti.h"

namespace tutti::perf {

constexpr size_t kGuardBytes = 64;  // behind the receive buffer: nobody may write there

class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  // Memory of the device (None), or the library's. What the library refuses goes to `refused`, and the buffer is
  // ordinary memory.
  Outcome allocate(const Library& library, Device& device, size_t bytes, Registration registration,
                   std::string* refused);
  // Registers it with `comm`; where that fails the reason goes to `refused` and the buffer works unregistered. Windows:
  // in a group, if the thread has several ranks.
  void enroll(Registration registration, tuttiComm_t comm, std::string* refused);
  void release();  // before the communicator is destroyed
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  const Library* library_ = nullptr;
  Device* device_ = nullptr;
  bool from_library_ = false;
  tuttiComm_t comm_ = nullptr;
  void* handle_ = nullptr;
  tuttiWindow_t window_ = nullptr;
};

struct RankState {
  int rank = 0;
  std::unique_ptr<Device> device{};
  tuttiComm_t comm = nullptr;
  bool owns_comm = true;
  tuttiStream_t stream = nullptr;
  tuttiRedOp_t mulsum = TUTTI_SUM;
  std::byte* arrived = nullptr;  // what a barrier reduces where the library has none: 4 bytes of the device
  Buffer send, recv;
};

}  // namespace tutti::perf
