// SPDX-License-Identifier: Apache-2.0
// The controls of the fake CUDA driver, for tests in its process.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "gpu/cuda.h"
#include "tests/fakes/fake_cuda.h"

namespace tutti::gpu {

template <class Function>
Function* control(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(::dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL), name));
}
inline fakes::FakeCudaAlive alive_now() { return control<fakes::fake_cuda_alive_function>("fake_cuda_alive")(); }
inline int alive() { return alive_now().total(); }
inline void fail(const char* symbol, int nth, int code) {
  control<fakes::fake_cuda_fail_function>("fake_cuda_fail")(symbol, nth, code);
}
inline int finds(int device, const void* bytes, size_t count) {
  return control<fakes::fake_cuda_finds_function>("fake_cuda_finds")(device, bytes, count);
}
inline int flushes() { return control<fakes::fake_cuda_flushes_function>("fake_cuda_flushes")(); }
inline void break_context(int code) { control<fakes::fake_cuda_break_function>("fake_cuda_break")(0, code); }
inline CudaDevicePtr device(int ordinal = 0) {
  const auto cuda = load_cuda(FAKE_CUDA);
  EXPECT_TRUE(cuda.ok()) << cuda.status().message();
  return *CudaContextOwner::retain(**cuda, ordinal);
}
inline char* bytes_at(CudaAddress at) { return reinterpret_cast<char*>(static_cast<uintptr_t>(at)); }

}  // namespace tutti::gpu
