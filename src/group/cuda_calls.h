// SPDX-License-Identifier: Apache-2.0
// What a thread brings to the teams of communicators on CUDA devices (comm/cuda_team.h), a lone call or a group's, and
// who waits there for the calls of other ranks: the thread, or the workers of non-blocking communicators.
//
//   workers idle, launches wait for nobody   brought by this thread; if calls of other ranks are missing the workers
//                                            wait for these
//   else                                     brought by the workers, behind what they have: in issue order
//   some communicator is blocking            this thread brings and waits, once the workers are idle
//
// A stream that only this thread can name (the per-thread default stream) counts as blocking, too: to a worker its
// handle would be another stream.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/cuda_team.h"
#include "group/stream.h"

namespace tutti {

// Those of one team.
struct CudaCalls {
  CudaTeam* team = nullptr;
  std::vector<CudaTeam::Call> calls{};
  std::vector<std::shared_ptr<Communicator>> comms{};  // each once, alive until the calls are launched
  std::vector<std::shared_ptr<Stream>> workers{};      // of `comms`, as far as they are non-blocking
  bool waits_here = false;

  void add(std::shared_ptr<Communicator> comm, const std::shared_ptr<Stream>& worker, gpu::CudaStreamHandle stream,
           Request request);
};

// All are brought before any is waited for: threads may bring theirs in any order. InProgress: workers have some of it.
Status launch_cuda_calls(std::vector<CudaCalls> calls);

}  // namespace tutti
