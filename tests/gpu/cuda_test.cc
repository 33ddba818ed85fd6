// SPDX-License-Identifier: Apache-2.0
// Owners of the CUDA driver's objects and its errors in words, on the fake driver.
#include "gpu/cuda.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "tests/fakes/fake_cuda.h"

namespace tutti::gpu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <class Function>
Function* control(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(::dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL), name));
}
int alive() { return control<fakes::fake_cuda_alive_function>("fake_cuda_alive")().total(); }
void fail(const char* symbol, int nth, int code) {
  control<fakes::fake_cuda_fail_function>("fake_cuda_fail")(symbol, nth, code);
}
void break_context(int code) { control<fakes::fake_cuda_break_function>("fake_cuda_break")(0, code); }
CudaDevicePtr device(int ordinal = 0) {
  const auto cuda = load_cuda(FAKE_CUDA);
  EXPECT_TRUE(cuda.ok()) << cuda.status().message();
  return *CudaContextOwner::retain(**cuda, ordinal);
}
char* bytes_at(CudaAddress at) { return reinterpret_cast<char*>(static_cast<uintptr_t>(at)); }

TEST(Cuda, OwnersGiveBackAllTheyHoldAndLeaveTheCallersContext) {
  {
    const CudaDevicePtr gpu = device(1);
    auto memory = allocate_device(gpu, 1000);
    auto pinned = allocate_pinned(gpu, 64);
    auto mapped = MappedMemory::create(gpu, 3 << 20);
    ASSERT_TRUE(memory.ok() && pinned.ok() && mapped.ok());
    EXPECT_EQ(mapped->size(), size_t{4} << 20) << "rounded up to the granularity";
    MappedMemory moved = std::move(*mapped);
    bytes_at(moved.address())[(4 << 20) - 1] = 1;
    EXPECT_GT(alive(), 5);
    CudaContext current = gpu->handle();
    EXPECT_EQ(gpu->cuda().context_current(&current), kCudaSuccess);
    EXPECT_EQ(current, nullptr);
  }
  EXPECT_EQ(alive(), 0);
}

TEST(Cuda, AStepThatFailsOnTheWayToMappedMemoryGivesBackTheStepsBefore) {
  for (const char* symbol : {"cuMemCreate", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"}) {
    fail(symbol, 1, kCudaOutOfMemory);
    const auto made = MappedMemory::create(device(), 1);
    ASSERT_FALSE(made.ok()) << symbol;
    EXPECT_THAT(made.status().message(), HasSubstr(symbol));
    EXPECT_EQ(alive(), 0) << symbol;
  }
}

TEST(Cuda, ErrorsNameTheCallTheDeviceTheCauseAndARemedy) {
  fail("cuMemAlloc_v2", 1, kCudaOutOfMemory);
  const auto memory = allocate_device(device(1), 1000);
  EXPECT_EQ(memory.status().code(), Code::CudaError);
  EXPECT_THAT(memory.status().message(), AllOf(HasSubstr("cuMemAlloc on CUDA device 1"),
                                               HasSubstr("CUDA_ERROR_OUT_OF_MEMORY (2)"), HasSubstr("fewer ranks")));
  const auto none = CudaContextOwner::retain(**load_cuda(FAKE_CUDA), 99);
  EXPECT_THAT(none.status().message(), AllOf(HasSubstr("device 99"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  EXPECT_THAT(load_cuda("/nonexistent/libcuda.so.1").status().message(), HasSubstr("TUTTI_CUDA_LIBRARY"));
  EXPECT_THAT(load_cuda("libm.so.6").status().message(), HasSubstr("lacks cu"));
}

TEST(Cuda, AStickyErrorIsTheApplicationsUnlessOneOfOursRan) {
  const CudaDevicePtr gpu = device();
  break_context(kCudaIllegalAddress);
  const auto memory = allocate_device(gpu, 1000);
  break_context(kCudaSuccess);
  EXPECT_THAT(memory.status().message(), AllOf(HasSubstr("cuMemAlloc on CUDA device 0 saw CUDA_ERROR_ILLEGAL_ADDRESS"),
                                               HasSubstr("work of the application"), HasSubstr("none of Tutti's")));
  EXPECT_THAT(gpu->status(kCudaIllegalAddress, "cuEventQuery", Ours::MayBe).message(),
              HasSubstr("of the application or of a collective call"));
  EXPECT_FALSE(is_sticky(kCudaOutOfMemory));
}

TEST(Cuda, PointersTellWhatTheyAre) {
  const CudaDevicePtr gpu = device(1);
  const auto memory = allocate_device(gpu, 1000);
  const auto pinned = allocate_pinned(gpu, 64);
  const auto kind = pointer_kind(gpu, bytes_at(memory->get()) + 999);
  ASSERT_TRUE(kind.ok() && kind->has_value());
  EXPECT_TRUE((*kind)->on_device);
  EXPECT_EQ((*kind)->device, 1);
  EXPECT_EQ((*kind)->start, memory->get());
  EXPECT_EQ((*kind)->bytes, 1000u);
  EXPECT_FALSE((**pointer_kind(gpu, pinned->get())).on_device);
  int plain = 0;
  EXPECT_FALSE(pointer_kind(gpu, &plain)->has_value());
}

}  // namespace
}  // namespace tutti::gpu
