// SPDX-License-Identifier: Apache-2.0
// GpuSlots: memory of a GPU for the slots of one end, so that a network's devices read or write them without passing
// through memory of the host. Made by who knows the GPU (comm/cuda_direct.h), offered with the question for an end
// (Transport::send_end_on_gpu), and kept by the transport until the end is gone.
//
// No byte of it is touched by the CPU: kernels and network devices do. What has to hold is in docs/rdma.md.
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/handle.h"
#include "base/status.h"

namespace tutti {

class GpuSlots {
 public:
  virtual ~GpuSlots() = default;
  virtual std::byte* base() const = 0;  // as kernels of the GPU find it
  virtual uint64_t bytes() const = 0;   // whole pages of the host
  // A descriptor of exactly these bytes, made with them; an error says why there is none.
  virtual const Result<UniqueFd>& dma_buf() const = 0;
  // The devices that use the memory have it: the descriptor closes.
  virtual void registered() = 0;
  // What devices have written before is visible to kernels that hear of it from now on. Never called where that holds
  // by itself.
  virtual Status flush() = 0;
};

// Which way slots go, seen from the rank whose they are.
enum class Flow : uint8_t { Out, In };

}  // namespace tutti
