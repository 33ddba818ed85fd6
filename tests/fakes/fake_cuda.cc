// SPDX-License-Identifier: Apache-2.0
// A look-alike of the CUDA driver whose devices are this host's memory: contexts, memory of all kinds, IPC and VMM
// between processes, pointer attributes, injected and sticky errors. FAKE_CUDA_DEVICES says how many devices there are
// (2 without it). Streams, events, launches and graphs are refused with CUDA_ERROR_NOT_SUPPORTED.
#include "tests/fakes/fake_cuda.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "gpu/cuda_run_abi.h"

using namespace tutti::gpu;
using tutti::fakes::FakeCudaAlive;

#define EXPORT extern "C" __attribute__((visibility("default")))
#define DECLARE_CUDA(member, symbol, required, parameters) EXPORT CudaFunctions::member##_function symbol;
#define DECLARE_RUN(member, symbol, required, parameters) EXPORT CudaRunFunctions::member##_function symbol;
TUTTI_CUDA_FUNCTIONS(DECLARE_CUDA)
TUTTI_CUDA_RUN_FUNCTIONS(DECLARE_RUN)
EXPORT tutti::fakes::fake_cuda_alive_function fake_cuda_alive;
EXPORT tutti::fakes::fake_cuda_break_function fake_cuda_break;
EXPORT tutti::fakes::fake_cuda_fail_function fake_cuda_fail;

struct CUctx_st {
  int device = 0, retained = 0, broken = 0;
};

namespace {

constexpr size_t kGranularity = 2 << 20;

enum class Kind { Device, Pinned, Opened, Mapped };
struct Range {
  Kind kind;
  size_t bytes;
  int device, fd;
};
struct Failure {
  int nth, code;
};
struct SharedName {  // in a CudaIpcHandle
  uint64_t magic;
  int pid, fd;
  size_t bytes;
};
constexpr uint64_t kMagic = 0x74757474692d6970;

struct Driver {
  std::mutex mutex;
  std::vector<CUctx_st> contexts;
  std::map<uint64_t, Range> ranges;  // by start
  std::map<uint64_t, size_t> reserved;
  std::map<CudaMemoryHandle, size_t> handles;  // by descriptor + 1
  std::map<std::string, Failure> failures;
};
Driver& driver() {
  static Driver& only = *[] {
    auto* const made = new Driver;
    const char* const text = std::getenv("FAKE_CUDA_DEVICES");
    const int count = text != nullptr ? std::atoi(text) : 2;
    for (int device = 0; device < count; ++device) made->contexts.push_back({device, 0, 0});
    return made;
  }();
  return only;
}
thread_local std::vector<CudaContext> t_current;

bool known(CudaDevice device) { return device >= 0 && static_cast<size_t>(device) < driver().contexts.size(); }

int injected(const char* symbol) {
  const auto found = driver().failures.find(symbol);
  if (found == driver().failures.end() || --found->second.nth > 0) return kCudaSuccess;
  const int code = found->second.code;
  driver().failures.erase(found);
  return code;
}

// Opens a function that needs a context: the lock, what was injected, and a context that is well.
#define ENTER()                                                                     \
  const std::lock_guard lock(driver().mutex);                                       \
  if (const int code = injected(__func__); code != kCudaSuccess) return code;       \
  if (t_current.empty() || t_current.back() == nullptr) return kCudaInvalidContext; \
  if (t_current.back()->broken != 0) return t_current.back()->broken

int here() { return t_current.back()->device; }

uint64_t map_new(int fd, size_t bytes) {
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? 0 : reinterpret_cast<uint64_t>(at);
}
int new_object(size_t bytes) {
  const int fd = ::memfd_create("fake-cuda", MFD_CLOEXEC);
  if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}
int add(Kind kind, size_t bytes, uint64_t& at) {
  if (bytes == 0) return kCudaInvalidValue;
  const int fd = new_object(bytes);
  if (fd < 0) return kCudaOutOfMemory;
  at = map_new(fd, bytes);
  if (at == 0) {
    ::close(fd);
    return kCudaOutOfMemory;
  }
  driver().ranges[at] = {kind, bytes, here(), fd};
  return kCudaSuccess;
}
int remove(Kind kind, uint64_t at) {
  const auto found = driver().ranges.find(at);
  if (found == driver().ranges.end() || found->second.kind != kind) return kCudaInvalidValue;
  ::munmap(reinterpret_cast<void*>(at), found->second.bytes);
  if (found->second.fd >= 0) ::close(found->second.fd);
  driver().ranges.erase(found);
  return kCudaSuccess;
}
const std::pair<const uint64_t, Range>* range_of(uint64_t at) {
  auto found = driver().ranges.upper_bound(at);
  if (found == driver().ranges.begin()) return nullptr;
  --found;
  return at < found->first + found->second.bytes ? &*found : nullptr;
}
int alive(Kind kind) {
  int count = 0;
  for (const auto& [at, range] : driver().ranges) count += range.kind == kind;
  return count;
}

}  // namespace

FakeCudaAlive fake_cuda_alive() {
  const std::lock_guard lock(driver().mutex);
  FakeCudaAlive now{};
  for (const CUctx_st& context : driver().contexts) now.contexts += context.retained;
  now.device = alive(Kind::Device);
  now.pinned = alive(Kind::Pinned);
  now.opened = alive(Kind::Opened);
  now.mapped = alive(Kind::Mapped);
  now.handles = static_cast<int>(driver().handles.size());
  now.reserved = static_cast<int>(driver().reserved.size());
  return now;
}
void fake_cuda_break(int device, int code) {
  const std::lock_guard lock(driver().mutex);
  driver().contexts[static_cast<size_t>(device)].broken = code;
}
void fake_cuda_fail(const char* symbol, int nth, int code) {
  const std::lock_guard lock(driver().mutex);
  driver().failures[symbol] = {nth, code};
}

int cuInit(unsigned) { return driver().contexts.empty() ? kCudaNoDevice : kCudaSuccess; }
int cuDriverGetVersion(int* version) { return *version = 12040, kCudaSuccess; }
int cuDeviceGetCount(int* count) { return *count = static_cast<int>(driver().contexts.size()), kCudaSuccess; }
int cuDeviceGet(CudaDevice* device, int ordinal) {
  *device = ordinal;
  return known(ordinal) ? kCudaSuccess : kCudaInvalidDevice;
}
int cuDeviceGetName(char* text, int size, CudaDevice) {
  std::snprintf(text, static_cast<size_t>(size), "Fake GPU");
  return kCudaSuccess;
}
int cuDeviceGetPCIBusId(char* text, int size, CudaDevice device) {
  std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device + 1);
  return kCudaSuccess;
}
int cuDeviceGetUuid_v2(CudaUuid* uuid, CudaDevice device) {
  std::memset(uuid, device + 1, sizeof *uuid);
  return kCudaSuccess;
}
int cuDeviceTotalMem_v2(size_t* bytes, CudaDevice) { return *bytes = size_t{1} << 30, kCudaSuccess; }
int cuDeviceGetAttribute(int* value, int which, CudaDevice device) {
  if (!known(device)) return kCudaInvalidDevice;
  *value = which == kCudaCapabilityMajor ? 9 : which == kCudaMultiprocessors ? 16 : 0;
  if (which == kCudaVirtualMemory || which == kCudaPosixHandles || which == kCudaUnifiedAddressing) *value = 1;
  return kCudaSuccess;
}
int cuDeviceCanAccessPeer(int* can, CudaDevice, CudaDevice) { return *can = 1, kCudaSuccess; }
int cuDeviceGetP2PAttribute(int* value, int which, CudaDevice, CudaDevice) {
  return *value = which != kCudaPeerRank, kCudaSuccess;
}

int cuGetErrorName(int code, const char** name) {
  switch (code) {
    case kCudaOutOfMemory:
      return *name = "CUDA_ERROR_OUT_OF_MEMORY", kCudaSuccess;
    case kCudaIllegalAddress:
      return *name = "CUDA_ERROR_ILLEGAL_ADDRESS", kCudaSuccess;
    case kCudaInvalidDevice:
      return *name = "CUDA_ERROR_INVALID_DEVICE", kCudaSuccess;
    case kCudaInvalidContext:
      return *name = "CUDA_ERROR_INVALID_CONTEXT", kCudaSuccess;
  }
  *name = nullptr;
  return kCudaInvalidValue;
}
int cuGetErrorString(int code, const char** text) {
  const int known = cuGetErrorName(code, text);
  if (known == kCudaSuccess) *text = "described by the fake";
  return known;
}

int cuDevicePrimaryCtxRetain(CudaContext* context, CudaDevice device) {
  const std::lock_guard lock(driver().mutex);
  if (!known(device)) return kCudaInvalidDevice;
  *context = &driver().contexts[static_cast<size_t>(device)];
  ++(*context)->retained;
  return kCudaSuccess;
}
int cuDevicePrimaryCtxRelease_v2(CudaDevice device) {
  const std::lock_guard lock(driver().mutex);
  if (!known(device) || driver().contexts[static_cast<size_t>(device)].retained == 0) return kCudaInvalidContext;
  --driver().contexts[static_cast<size_t>(device)].retained;
  return kCudaSuccess;
}
int cuCtxPushCurrent_v2(CudaContext context) { return t_current.push_back(context), kCudaSuccess; }
int cuCtxPopCurrent_v2(CudaContext* context) {
  if (t_current.empty()) return kCudaInvalidContext;
  *context = t_current.back();
  t_current.pop_back();
  return kCudaSuccess;
}
int cuCtxGetCurrent(CudaContext* context) {
  return *context = t_current.empty() ? nullptr : t_current.back(), kCudaSuccess;
}
int cuCtxGetDevice(CudaDevice* device) {
  ENTER();
  return *device = here(), kCudaSuccess;
}
int cuCtxEnablePeerAccess(CudaContext, unsigned) {
  ENTER();
  return kCudaSuccess;
}

int cuMemAlloc_v2(CudaAddress* at, size_t bytes) {
  ENTER();
  uint64_t made = 0;
  const int code = add(Kind::Device, bytes, made);
  return *at = made, code;
}
int cuMemFree_v2(CudaAddress at) {
  ENTER();
  return remove(Kind::Device, at);
}
int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  ENTER();
  uint64_t made = 0;
  const int code = add(Kind::Pinned, bytes, made);
  return *at = reinterpret_cast<void*>(made), code;
}
int cuMemFreeHost(void* at) {
  ENTER();
  return remove(Kind::Pinned, reinterpret_cast<uint64_t>(at));
}
int cuMemGetAddressRange_v2(CudaAddress* start, size_t* bytes, CudaAddress at) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr) return kCudaInvalidValue;
  if (start != nullptr) *start = range->first;
  if (bytes != nullptr) *bytes = range->second.bytes;
  return kCudaSuccess;
}
int cuPointerGetAttribute(void* value, int which, CudaAddress at) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr) return kCudaInvalidValue;
  const bool host = range->second.kind == Kind::Pinned;
  switch (which) {
    case kCudaPointerMemoryType:
      return *static_cast<uint32_t*>(value) = host ? kCudaHostMemory : kCudaDeviceMemory, kCudaSuccess;
    case kCudaPointerIsManaged:
      return *static_cast<uint32_t*>(value) = 0, kCudaSuccess;
    case kCudaPointerDeviceOrdinal:
      return *static_cast<int*>(value) = range->second.device, kCudaSuccess;
    case kCudaPointerRangeStart:
      return *static_cast<CudaAddress*>(value) = range->first, kCudaSuccess;
    case kCudaPointerRangeSize:
      return *static_cast<size_t*>(value) = range->second.bytes, kCudaSuccess;
  }
  return kCudaInvalidValue;
}

int cuIpcGetMemHandle(CudaIpcHandle* handle, CudaAddress at) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr || range->second.kind != Kind::Device) return kCudaInvalidValue;
  const SharedName name{kMagic, ::getpid(), range->second.fd, range->second.bytes};
  *handle = {};
  std::memcpy(handle, &name, sizeof name);
  return kCudaSuccess;
}
int cuIpcOpenMemHandle_v2(CudaAddress* at, CudaIpcHandle handle, unsigned) {
  ENTER();
  SharedName name;
  std::memcpy(&name, &handle, sizeof name);
  if (name.magic != kMagic) return kCudaInvalidValue;
  if (name.pid == ::getpid()) return kCudaInvalidContext;  // as the driver: not in the process that exported it
  const std::string path = "/proc/" + std::to_string(name.pid) + "/fd/" + std::to_string(name.fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return kCudaInvalidValue;
  *at = map_new(fd, name.bytes);
  if (*at == 0) {
    ::close(fd);
    return kCudaOutOfMemory;
  }
  driver().ranges[*at] = {Kind::Opened, name.bytes, here(), fd};
  return kCudaSuccess;
}
int cuIpcCloseMemHandle(CudaAddress at) {
  ENTER();
  return remove(Kind::Opened, at);
}

int cuMemGetAllocationGranularity(size_t* bytes, const CudaAllocationProperties*, int) {
  return *bytes = kGranularity, kCudaSuccess;
}
int cuMemAddressReserve(CudaAddress* at, size_t bytes, size_t, CudaAddress, unsigned long long) {
  ENTER();
  if (bytes == 0 || bytes % kGranularity != 0) return kCudaInvalidValue;
  void* const made = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return kCudaOutOfMemory;
  *at = reinterpret_cast<CudaAddress>(made);
  driver().reserved[*at] = bytes;
  return kCudaSuccess;
}
int cuMemAddressFree(CudaAddress at, size_t bytes) {
  ENTER();
  const auto found = driver().reserved.find(at);
  if (found == driver().reserved.end() || found->second != bytes || driver().ranges.count(at) != 0)
    return kCudaInvalidValue;
  ::munmap(reinterpret_cast<void*>(at), bytes);
  driver().reserved.erase(found);
  return kCudaSuccess;
}
int cuMemCreate(CudaMemoryHandle* handle, size_t bytes, const CudaAllocationProperties*, unsigned long long) {
  ENTER();
  if (bytes == 0 || bytes % kGranularity != 0) return kCudaInvalidValue;
  const int fd = new_object(bytes);
  if (fd < 0) return kCudaOutOfMemory;
  *handle = static_cast<CudaMemoryHandle>(fd) + 1;
  driver().handles[*handle] = bytes;
  return kCudaSuccess;
}
int cuMemRelease(CudaMemoryHandle handle) {
  ENTER();
  if (driver().handles.erase(handle) == 0) return kCudaInvalidValue;
  ::close(static_cast<int>(handle - 1));
  return kCudaSuccess;
}
int cuMemMap(CudaAddress at, size_t bytes, size_t offset, CudaMemoryHandle handle, unsigned long long) {
  ENTER();
  const auto place = driver().reserved.find(at);
  const auto memory = driver().handles.find(handle);
  if (place == driver().reserved.end() || memory == driver().handles.end() || offset != 0 || bytes > place->second ||
      bytes > memory->second)
    return kCudaInvalidValue;
  // Nobody may touch it before cuMemSetAccess.
  if (::mmap(reinterpret_cast<void*>(at), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, static_cast<int>(handle - 1), 0) ==
      MAP_FAILED)
    return kCudaOutOfMemory;
  driver().ranges[at] = {Kind::Mapped, bytes, here(), -1};
  return kCudaSuccess;
}
int cuMemUnmap(CudaAddress at, size_t bytes) {
  ENTER();
  const auto found = driver().ranges.find(at);
  if (found == driver().ranges.end() || found->second.kind != Kind::Mapped || found->second.bytes != bytes)
    return kCudaInvalidValue;
  (void)::mmap(reinterpret_cast<void*>(at), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  driver().ranges.erase(found);
  return kCudaSuccess;
}
int cuMemSetAccess(CudaAddress at, size_t bytes, const CudaAccess*, size_t) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr || range->second.kind != Kind::Mapped) return kCudaInvalidValue;
  return ::mprotect(reinterpret_cast<void*>(at), bytes, PROT_READ | PROT_WRITE) == 0 ? kCudaSuccess : kCudaInvalidValue;
}
int cuMemExportToShareableHandle(void* out, CudaMemoryHandle handle, int, unsigned long long) {
  ENTER();
  if (driver().handles.count(handle) == 0) return kCudaInvalidValue;
  const int fd = ::fcntl(static_cast<int>(handle - 1), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return kCudaOutOfMemory;
  std::memcpy(out, &fd, sizeof fd);
  return kCudaSuccess;
}
int cuMemImportFromShareableHandle(CudaMemoryHandle* handle, void* number, int) {
  ENTER();
  const int fd = ::fcntl(static_cast<int>(reinterpret_cast<intptr_t>(number)), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return kCudaInvalidValue;
  *handle = static_cast<CudaMemoryHandle>(fd) + 1;
  driver().handles[*handle] = static_cast<size_t>(::lseek(fd, 0, SEEK_END));
  return kCudaSuccess;
}

int cuCtxSynchronize() { return kCudaNotSupported; }
int cuCtxGetStreamPriorityRange(int*, int*) { return kCudaNotSupported; }
int cuModuleLoadData(CudaModule*, const void*) { return kCudaNotSupported; }
int cuModuleUnload(CudaModule) { return kCudaNotSupported; }
int cuModuleGetFunction(CudaFunction*, CudaModule, const char*) { return kCudaNotSupported; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int*, CudaFunction, int, size_t) { return kCudaNotSupported; }
int cuLaunchKernel(CudaFunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CudaStreamHandle,
                   void**, void**) {
  return kCudaNotSupported;
}
int cuLaunchHostFunc(CudaStreamHandle, CudaHostFunction, void*) { return kCudaNotSupported; }
int cuMemAllocAsync(CudaAddress*, size_t, CudaStreamHandle) { return kCudaNotSupported; }
int cuMemFreeAsync(CudaAddress, CudaStreamHandle) { return kCudaNotSupported; }
int cuMemAllocManaged(CudaAddress*, size_t, unsigned) { return kCudaNotSupported; }
int cuMemHostRegister_v2(void*, size_t, unsigned) { return kCudaNotSupported; }
int cuMemHostUnregister(void*) { return kCudaNotSupported; }
int cuMemHostGetDevicePointer_v2(CudaAddress*, void*, unsigned) { return kCudaNotSupported; }
int cuMemcpyAsync(CudaAddress, CudaAddress, size_t, CudaStreamHandle) { return kCudaNotSupported; }
int cuMemcpy(CudaAddress, CudaAddress, size_t) { return kCudaNotSupported; }
int cuMemsetD8Async(CudaAddress, unsigned char, size_t, CudaStreamHandle) { return kCudaNotSupported; }
int cuStreamCreateWithPriority(CudaStreamHandle*, unsigned, int) { return kCudaNotSupported; }
int cuStreamDestroy_v2(CudaStreamHandle) { return kCudaNotSupported; }
int cuStreamGetCtx(CudaStreamHandle, CudaContext*) { return kCudaNotSupported; }
int cuStreamQuery(CudaStreamHandle) { return kCudaNotSupported; }
int cuStreamSynchronize(CudaStreamHandle) { return kCudaNotSupported; }
int cuStreamWaitEvent(CudaStreamHandle, CudaEventHandle, unsigned) { return kCudaNotSupported; }
int cuStreamWaitValue64_v2(CudaStreamHandle, CudaAddress, uint64_t, unsigned) { return kCudaNotSupported; }
int cuStreamWriteValue64_v2(CudaStreamHandle, CudaAddress, uint64_t, unsigned) { return kCudaNotSupported; }
int cuEventCreate(CudaEventHandle*, unsigned) { return kCudaNotSupported; }
int cuEventDestroy_v2(CudaEventHandle) { return kCudaNotSupported; }
int cuEventRecord(CudaEventHandle, CudaStreamHandle) { return kCudaNotSupported; }
int cuEventQuery(CudaEventHandle) { return kCudaNotSupported; }
int cuEventSynchronize(CudaEventHandle) { return kCudaNotSupported; }
int cuStreamBeginCapture_v2(CudaStreamHandle, int) { return kCudaNotSupported; }
int cuStreamEndCapture(CudaStreamHandle, CudaGraph*) { return kCudaNotSupported; }
int cuStreamGetCaptureInfo_v2(CudaStreamHandle, CudaCaptureStatus*, uint64_t*, CudaGraph*, const CudaGraphNode**,
                              size_t*) {
  return kCudaNotSupported;
}
int cuThreadExchangeStreamCaptureMode(int*) { return kCudaNotSupported; }
int cuGraphInstantiateWithFlags(CudaGraphExec*, CudaGraph, unsigned long long) { return kCudaNotSupported; }
int cuGraphLaunch(CudaGraphExec, CudaStreamHandle) { return kCudaNotSupported; }
int cuGraphExecDestroy(CudaGraphExec) { return kCudaNotSupported; }
int cuGraphDestroy(CudaGraph) { return kCudaNotSupported; }
