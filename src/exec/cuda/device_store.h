// SPDX-License-Identifier: Apache-2.0
// DeviceStore: what a communicator keeps in the memory of one GPU: slots, ends, steps, blocks. Taken piece by piece,
// given back all at once when the communicator ends.
//
// Filled on a stream of its own, beside whatever runs: a piece is written before the first launch that uses it, and
// never again by the host (work.h). Not for the fast path: finish() waits for those writes, and for nothing else.
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "gpu/cuda_stream.h"

namespace tutti::cuda {

class DeviceStore {
 public:
  static constexpr uint64_t kAlign = 128;  // of lines of LL128, and enough for all else

  static Result<std::unique_ptr<DeviceStore>> create(const gpu::CudaDevicePtr& device);

  // Not zeroed; aligned to kAlign. The address is the GPU's.
  Result<std::byte*> take(uint64_t bytes);
  // `from` may change once this has returned.
  Status write(void* to, const void* from, uint64_t bytes);
  Status zero(void* at, uint64_t bytes);
  // A copy of what is there, as an array on the device. Empty: null.
  template <class T>
  Result<T*> place(std::span<const T> what) {
    if (what.empty()) return nullptr;
    TUTTI_ASSIGN_OR_RETURN(std::byte* const at, take(what.size_bytes()));
    TUTTI_TRY(write(at, what.data(), what.size_bytes()));
    return reinterpret_cast<T*>(at);
  }
  // Until all that was written is there.
  Status finish();

  const gpu::CudaDevicePtr& device() const { return device_; }
  uint64_t bytes() const { return bytes_; }  // taken from the device so far

 private:
  static constexpr uint64_t kChunk = 2 << 20;  // what the driver rounds up to anyway

  DeviceStore(gpu::CudaDevicePtr device, gpu::OwnedStream owned)
      : device_(device), owned_(std::move(owned)), stream_(std::move(device), owned_.get()) {}

  gpu::CudaDevicePtr device_;
  std::vector<gpu::DeviceMemory> chunks_;
  gpu::CudaAddress next_ = 0, end_ = 0;  // in the last chunk
  uint64_t bytes_ = 0;
  gpu::OwnedStream owned_;
  gpu::CudaStream stream_;
  std::deque<std::vector<std::byte>> on_their_way_;  // what write() was given
  bool unfinished_ = false;
};

}  // namespace tutti::cuda
