// SPDX-License-Identifier: Apache-2.0
// Owners of the CUDA driver's objects and its errors in words, on the fake driver.
#include "gpu/cuda.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "tests/gpu/fake_control.h"

namespace tutti::gpu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

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
  gpu->note_kernel_of_ours();
  EXPECT_THAT(gpu->status(kCudaIllegalAddress, "cuEventQuery").message(),
              HasSubstr("of the application or of a collective call"));
  EXPECT_EQ(device().get(), gpu.get()) << "one owner for all, which knows that a kernel of ours ran";
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
  EXPECT_TRUE((*kind)->ipc);
  EXPECT_FALSE((**pointer_kind(gpu, pinned->get())).on_device);
  CudaAddress managed = 0, pooled = 0;
  alignas(16) char host[64];
  const CudaScope scope(*gpu);
  ASSERT_EQ(gpu->cuda().allocate_managed(&managed, 100, kCudaManagedGlobal), kCudaSuccess);
  ASSERT_EQ(gpu->cuda().allocate_async(&pooled, 100, nullptr), kCudaSuccess);
  ASSERT_EQ(gpu->cuda().register_host(host, sizeof host, kCudaHostRegisterMapped), kCudaSuccess);
  EXPECT_EQ(gpu->cuda().register_host(host, 8, 0), kCudaAlreadyRegistered);
  EXPECT_TRUE((**pointer_kind(gpu, bytes_at(managed))).managed);
  EXPECT_TRUE((**pointer_kind(gpu, bytes_at(pooled))).on_device);
  EXPECT_FALSE((**pointer_kind(gpu, bytes_at(pooled))).ipc) << "memory of a pool has no IPC handle";
  const auto registered = pointer_kind(gpu, host + 8);
  EXPECT_FALSE((*registered)->on_device);
  EXPECT_EQ((*registered)->device_address, reinterpret_cast<uintptr_t>(host) + 8);
  EXPECT_EQ(gpu->cuda().unregister_host(host), kCudaSuccess);
  EXPECT_FALSE(pointer_kind(gpu, host)->has_value());
  EXPECT_EQ(gpu->cuda().free(managed), kCudaSuccess);
  EXPECT_EQ(gpu->cuda().free_async(pooled, nullptr), kCudaSuccess);
  EXPECT_EQ(gpu->cuda().context_synchronize(), kCudaSuccess);
  int plain = 0;
  EXPECT_FALSE(pointer_kind(gpu, &plain)->has_value());
}

}  // namespace
}  // namespace tutti::gpu
