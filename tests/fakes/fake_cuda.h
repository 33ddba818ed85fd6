// SPDX-License-Identifier: Apache-2.0
// What tests ask of the fake CUDA driver (fake_cuda.cc) beside the driver's own functions; found by dlsym().
//
// Kernels it has: those of src/exec/cuda, under their names, and three for tests of the fake itself, which take a
// FakeKernelWords:
//
//     fake_add    every thread of every block adds `value` to *word
//     fake_wait   thread 0 waits until *word is at least `value`
//     fake_meet   the first thread of each block adds 1 to *word and waits until it is `value`
//
// Environment: FAKE_CUDA_DEVICES, how many devices there are (2 without it); FAKE_CUDA_IDLE_KERNELS=N, from the Nth
// launch on kernels do nothing; FAKE_CUDA_VMM=0, devices cannot map memory (cuMemCreate), as they say;
// FAKE_CUDA_REGISTER=0, memory of the host cannot be registered.
//
// FAKE_CUDA_PEERS: which devices reach each other's memory: 1 (all), 0 (none), "0-2,1-2" (these pairs alone),
// "^0-1,2>3" (all but these; "2>3": 2 does not reach 3, 3 does reach 2). FAKE_CUDA_NVLINK: the same of those that
// NVLink alone joins. Where some do not reach each other a kernel that touches what it may not ends the process with
// SIGSEGV and a text (fake_cuda_peers.cc); copies between such devices work, as the driver stages them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tutti::fakes {

// What a process holds of the driver: all zero when nothing leaks.
struct FakeCudaAlive {
  int contexts, device, pinned, opened, handles, reserved, mapped;
  int managed, registered, pool, streams, events, modules, graphs, execs, kept;
  int total() const {
    return contexts + device + pinned + opened + handles + reserved + mapped + managed + registered + pool + streams +
           events + modules + graphs + execs + kept;
  }
};
using fake_cuda_alive_function = FakeCudaAlive();
// From now on calls in the device's context return `code`, as after a kernel that failed; what is queued is dropped and
// what runs is stopped. Code 0: the context is whole again, once all that is done.
using fake_cuda_break_function = void(int device, int code);
// The `nth` call from now (1: the next) of the function of that symbol returns `code` and does nothing. "kernel": the
// nth kernel that begins breaks its context instead.
using fake_cuda_fail_function = void(const char* symbol, int nth, int code);

// In how many allocations of the device (of cuMemAlloc; -1: of the host, pinned or registered) these bytes are found.
using fake_cuda_finds_function = int(int device, const void* bytes, size_t count);

// How often network cards' writes were flushed.
using fake_cuda_flushes_function = int();

struct FakeKernelWords {
  uint64_t* word;
  uint64_t value;
};

}  // namespace tutti::fakes
