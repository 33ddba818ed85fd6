// SPDX-License-Identifier: Apache-2.0
#include "exec/cuda/device_store.h"

namespace tutti::cuda {
namespace {

gpu::CudaAddress address(const void* at) { return reinterpret_cast<uintptr_t>(at); }

}  // namespace

Result<std::unique_ptr<DeviceStore>> DeviceStore::create(const gpu::CudaDevicePtr& device) {
  TUTTI_ASSIGN_OR_RETURN(gpu::OwnedStream stream, gpu::make_stream(device));
  return std::unique_ptr<DeviceStore>(new DeviceStore(device, std::move(stream)));
}

Result<std::byte*> DeviceStore::take(uint64_t bytes) {
  bytes = (bytes + kAlign - 1) / kAlign * kAlign;
  if (end_ - next_ < bytes) {
    const uint64_t chunk = bytes > kChunk / 2 ? bytes : kChunk;
    TUTTI_ASSIGN_OR_RETURN(gpu::DeviceMemory made, gpu::allocate_device(device_, chunk));
    const gpu::CudaAddress start = made.get();
    chunks_.push_back(std::move(made));
    bytes_ += chunk;
    if (chunk == bytes) return reinterpret_cast<std::byte*>(start);  // what is left of the last chunk stays in use
    next_ = start;
    end_ = start + chunk;
  }
  auto* const at = reinterpret_cast<std::byte*>(next_);
  next_ += bytes;
  return at;
}

Status DeviceStore::write(void* to, const void* from, uint64_t bytes) {
  unfinished_ = true;
  const auto* const begin = static_cast<const std::byte*>(from);
  const std::vector<std::byte>& kept = on_their_way_.emplace_back(begin, begin + bytes);
  return stream_.copy(address(to), address(kept.data()), bytes);
}

Status DeviceStore::zero(void* at, uint64_t bytes) {
  unfinished_ = true;
  return stream_.fill(address(at), 0, bytes);
}

Status DeviceStore::finish() {
  if (!std::exchange(unfinished_, false)) return {};
  const Status done = stream_.synchronize();
  on_their_way_.clear();
  return done;
}

}  // namespace tutti::cuda
