// SPDX-License-Identifier: Apache-2.0
// One rank's communicator with its stream and its two buffers, and their registration (-R).
#pragma once

#include <cstddef>
#include <string>

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

  // Ordinary memory (None), or the library's, registered with `comm`. Where registering fails the reason goes to
  // `refused` and the buffer works unregistered. Touches every page, in the calling thread.
  Outcome allocate(const Library& library, size_t bytes, Registration registration, tuttiComm_t comm,
                   std::string* refused);
  void release();  // before the communicator is destroyed
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  const Library* library_ = nullptr;
  bool from_library_ = false;
  tuttiComm_t comm_ = nullptr;
  void* handle_ = nullptr;
  tuttiWindow_t window_ = nullptr;
};

struct RankState {
  int rank = 0;
  tuttiComm_t comm = nullptr;
  bool owns_comm = true;
  tuttiStream_t stream = nullptr;
  tuttiRedOp_t mulsum = TUTTI_SUM;
  int32_t arrived = 0;  // what a barrier reduces where the library has none
  Buffer send, recv;
};

}  // namespace tutti::perf
