// SPDX-License-Identifier: Apache-2.0
// tuttiMemAllocDevice: what it gives, what it refuses, and that nothing is left. As windows: windows_test.cc,
// processes_test.cc.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "comm_cuda/ranks.h"
#include "gpu/cuda_given.h"
#include "gpu/cuda_shared.h"

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kUnit = size_t{2} << 20;  // the fake's granularity

void* allocate(size_t bytes, int device) {
  void* memory = nullptr;
  EXPECT_EQ(tuttiMemAllocDevice(&memory, bytes, device), TUTTI_SUCCESS) << last_text();
  return memory;
}

TEST(DeviceMemory, IsMappedMemoryOfTheDeviceThatIsAskedFor) {
  for (const int ordinal : {0, 1}) {
    void* const memory = allocate(kUnit + 1, ordinal);
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 4096, 0u);
    {
      const gpu::CudaDevicePtr gpu = gpu::device(ordinal);
      const auto kind = *gpu::pointer_kind(gpu, memory);
      ASSERT_TRUE(kind.has_value());
      EXPECT_EQ(kind->device, ordinal);
      EXPECT_EQ(kind->bytes, 2 * kUnit);
      EXPECT_EQ(*gpu::sharing_of(gpu, memory, *kind), gpu::Sharing::Mapped);
      EXPECT_TRUE(gpu::export_mapped(gpu, memory).ok());
      gpu::CudaContext current = gpu->handle();
      EXPECT_EQ(gpu->cuda().context_current(&current), gpu::kCudaSuccess);
      EXPECT_EQ(current, nullptr) << "the caller's context is left alone";
    }
    std::memset(memory, 1, 2 * kUnit);
    EXPECT_EQ(tuttiMemFree(static_cast<char*>(memory) + 1), TUTTI_INVALID_ARGUMENT);
    EXPECT_EQ(tuttiMemFree(memory), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiMemFree(memory), TUTTI_INVALID_ARGUMENT);
    EXPECT_THAT(last_text(), HasSubstr("tuttiMemAllocDevice"));
    EXPECT_EQ(gpu::alive(), 0);
  }
}

TEST(DeviceMemory, OfTheCpuIsThatOfMemAlloc) {
  auto* const memory = static_cast<char*>(allocate(10000, TUTTI_DEVICE_CPU));
  ASSERT_NE(memory, nullptr);
  for (size_t i = 0; i < 10000; ++i) ASSERT_EQ(memory[i], 0);
  EXPECT_EQ(tuttiMemFree(memory), TUTTI_SUCCESS) << last_text();
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(DeviceMemory, IsRefusedWithTheReasonAndAPointerThatIsNull) {
  void* const before = &errno;
  void* memory = before;
  EXPECT_EQ(tuttiMemAllocDevice(nullptr, 8, 0), TUTTI_INVALID_ARGUMENT);
  EXPECT_EQ(tuttiMemAllocDevice(&memory, 0, 0), TUTTI_SUCCESS);
  EXPECT_EQ(memory, nullptr);
  memory = before;
  EXPECT_EQ(tuttiMemAllocDevice(&memory, 8, TUTTI_DEVICE_CPU - 1), TUTTI_INVALID_ARGUMENT);
  EXPECT_THAT(last_text(), HasSubstr("device is -2"));
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(tuttiMemAllocDevice(&memory, 8, 99), TUTTI_CUDA_ERROR);
  EXPECT_THAT(last_text(), AllOf(HasSubstr("tuttiMemAllocDevice: "), HasSubstr("CUDA device 99"),
                                 HasSubstr("there is no such device")));
  EXPECT_EQ(tuttiMemAllocDevice(&memory, SIZE_MAX - 1, 0), TUTTI_CUDA_ERROR);
  EXPECT_THAT(last_text(), AllOf(HasSubstr("cuMemCreate"), HasSubstr("free memory of the device")));
  ASSERT_EQ(setenv("FAKE_CUDA_VMM", "0", 1), 0);
  EXPECT_EQ(tuttiMemAllocDevice(&memory, 8, 1), TUTTI_CUDA_ERROR);
  ASSERT_EQ(unsetenv("FAKE_CUDA_VMM"), 0);
  EXPECT_THAT(last_text(),
              AllOf(HasSubstr("device 1"), HasSubstr("virtual memory management"), HasSubstr("cudaMalloc")));
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(gpu::alive(), 0);
}

// The second cuMemSetAccess is that for peers.
TEST(DeviceMemory, AStepThatFailsGivesBackTheStepsBefore) {
  const std::pair<const char*, int> steps[] = {
      {"cuMemCreate", 1}, {"cuMemAddressReserve", 1}, {"cuMemMap", 1}, {"cuMemSetAccess", 1}, {"cuMemSetAccess", 2}};
  for (const auto& [symbol, nth] : steps) {
    gpu::fail(symbol, nth, gpu::kCudaOutOfMemory);
    void* memory = nullptr;
    EXPECT_EQ(tuttiMemAllocDevice(&memory, 8, 0), TUTTI_CUDA_ERROR);
    EXPECT_THAT(last_text(), HasSubstr(symbol));
    EXPECT_EQ(memory, nullptr);
    EXPECT_EQ(gpu::alive(), 0) << symbol;
  }
}

// Of both kinds (ncclMemAlloc has the second), while a stream of the thread is captured in the strict mode, which
// forbids cuMemAlloc.
TEST(DeviceMemory, OrdinaryOrMappedMayBeAllocatedWhileAStreamIsCaptured) {
  {
    const gpu::CudaDevicePtr gpu = gpu::device(0);
    const gpu::OwnedStream stream = *gpu::make_stream(gpu);
    const gpu::CudaScope scope(*gpu);
    ASSERT_EQ(gpu->cuda().capture_begin(stream.get(), gpu::kCudaCaptureGlobal), gpu::kCudaSuccess);
    void* const mapped = allocate(8, 0);
    ASSERT_EQ(setenv("FAKE_CUDA_VMM", "0", 1), 0);
    const Result<void*> ordinary = gpu::give_memory(gpu, 8, gpu::Unmappable::Ordinary);
    ASSERT_EQ(unsetenv("FAKE_CUDA_VMM"), 0);
    gpu::CudaGraph graph = nullptr;
    EXPECT_EQ(gpu->cuda().capture_end(stream.get(), &graph), gpu::kCudaSuccess);
    EXPECT_EQ(gpu->cuda().graph_destroy(graph), gpu::kCudaSuccess);
    ASSERT_TRUE(ordinary.ok()) << ordinary.status().message();
    EXPECT_EQ(gpu::alive_now().device, 1);
    for (void* const memory : {mapped, *ordinary}) EXPECT_EQ(tuttiMemFree(memory), TUTTI_SUCCESS) << last_text();
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(DeviceMemory, IsNotAForkedChildsToFree) {
  void* const memory = allocate(8, 0);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(tuttiMemFree(memory) == TUTTI_INVALID_USAGE ? 0 : 1);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(tuttiMemFree(memory), TUTTI_SUCCESS) << last_text();
  EXPECT_EQ(gpu::alive(), 0);
}

// Ordinary buffers too: kernels of all ranks reach it.
TEST(DeviceMemory, ServesCallsWithoutWindows) {
  {
    const Ranks ranks({0, 1});
    float* memory[2] = {static_cast<float*>(allocate(4000, 0)), static_cast<float*>(allocate(4000, 1))};
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < 2; ++r) {
      std::fill_n(memory[r], 1000, static_cast<float>(r + 1));
      ASSERT_EQ(tuttiAllReduce(memory[r], memory[r], 1000, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(r), ranks.stream(r)),
                TUTTI_SUCCESS);
    }
    ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    ranks.synchronize();
    for (float* const one : memory) {
      EXPECT_EQ(std::count(one, one + 1000, 3.0F), 1000);
      EXPECT_EQ(tuttiMemFree(one), TUTTI_SUCCESS) << last_text();
    }
  }
  EXPECT_EQ(gpu::alive(), 0);
}

}  // namespace
}  // namespace tutti
