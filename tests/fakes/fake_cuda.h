// SPDX-License-Identifier: Apache-2.0
// What tests ask of the fake CUDA driver (fake_cuda.cc) beside the driver's own functions; found by dlsym().
#pragma once

#include <cstdint>

namespace tutti::fakes {

// What a process holds of the driver: all zero when nothing leaks.
struct FakeCudaAlive {
  int contexts, device, pinned, opened, handles, reserved, mapped;
  int total() const { return contexts + device + pinned + opened + handles + reserved + mapped; }
};
using fake_cuda_alive_function = FakeCudaAlive();
// From now on calls in the device's context return `code`, as after a kernel that failed.
using fake_cuda_break_function = void(int device, int code);
// The `nth` call from now (1: the next) of the function of that symbol returns `code` and does nothing.
using fake_cuda_fail_function = void(const char* symbol, int nth, int code);

}  // namespace tutti::fakes
