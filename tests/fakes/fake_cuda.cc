// SPDX-License-Identifier: Apache-2.0
// A look-alike of the CUDA driver whose devices are this host's memory and threads. Here: contexts, memory of all
// kinds, IPC and VMM between processes, pointer attributes, injected and sticky errors. FAKE_CUDA_DEVICES says how many
// devices there are (2 without it).
#include "tests/fakes/fake_cuda.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/fakes/fake_cuda_state.h"

using namespace tutti::gpu;
using namespace tutti::fakes;

EXPORT fake_cuda_alive_function fake_cuda_alive;
EXPORT fake_cuda_break_function fake_cuda_break;
EXPORT fake_cuda_fail_function fake_cuda_fail;
EXPORT fake_cuda_finds_function fake_cuda_finds;
EXPORT fake_cuda_flushes_function fake_cuda_flushes;

namespace tutti::fakes {

thread_local std::vector<CudaContext> t_current;
thread_local bool t_in_host_function = false;

Driver& driver() {
  static Driver& only = *[] {
    auto* const made = new Driver;
    const char* const text = std::getenv("FAKE_CUDA_DEVICES");
    const int count = text != nullptr ? std::atoi(text) : 2;
    for (int device = 0; device < count; ++device) made->contexts.emplace_back().device = device;
    return made;
  }();
  return only;
}

int injected(const char* symbol) {
  const auto found = driver().failures.find(symbol);
  if (found == driver().failures.end() || --found->second.nth > 0) return kCudaSuccess;
  const int code = found->second.code;
  driver().failures.erase(found);
  return code;
}

}  // namespace tutti::fakes

namespace {

constexpr size_t kGranularity = 2 << 20;

struct SharedName {  // in a CudaIpcHandle
  uint64_t magic;
  int pid, fd, device;
  size_t bytes;
};
constexpr uint64_t kMagic = 0x74757474692d6970;

int from_environment(const char* name, int without) {
  const char* const text = std::getenv(name);
  return text == nullptr ? without : std::atoi(text);
}
bool known(CudaDevice device) { return device >= 0 && static_cast<size_t>(device) < driver().contexts.size(); }

uint64_t map_new(int fd, size_t bytes) {
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? 0 : reinterpret_cast<uint64_t>(at);
}
// fake_rdma.cc knows the memory of devices by its name.
int new_object(size_t bytes, const char* name = "fake-cuda") {
  const int fd = ::memfd_create(name, MFD_CLOEXEC);
  if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}
int add(Kind kind, size_t bytes, uint64_t& at) {
  if (bytes == 0) return kCudaInvalidValue;
  const int fd = kind == Kind::Device ? new_object(bytes, "fake-cuda-device") : new_object(bytes);
  if (fd < 0) return kCudaOutOfMemory;
  at = map_new(fd, bytes);
  if (at == 0) {
    ::close(fd);
    return kCudaOutOfMemory;
  }
  driver().ranges[at] = {kind, bytes, here()->device, fd};
  if (kind == Kind::Device || kind == Kind::Pool) guard_memory(at, bytes, here()->device);
  return kCudaSuccess;
}
int remove(Kind kind, uint64_t at) { return forget(kind, at); }
const std::pair<const uint64_t, Range>* range_of(uint64_t at) {
  auto found = driver().ranges.upper_bound(at);
  if (found == driver().ranges.begin()) return nullptr;
  --found;
  return at < found->first + found->second.bytes ? &*found : nullptr;
}
bool is_host(Kind kind) { return kind == Kind::Pinned || kind == Kind::Registered; }
int alive(Kind kind) {
  int count = 0;
  for (const auto& [at, range] : driver().ranges) count += range.kind == kind;
  return count;
}

}  // namespace

namespace tutti::fakes {

bool is_known(uint64_t at) { return range_of(at) != nullptr; }
int forget(Kind kind, uint64_t at) {
  const auto found = driver().ranges.find(at);
  if (found == driver().ranges.end() || found->second.kind != kind) return kCudaInvalidValue;
  if (kind != Kind::Registered) ::munmap(reinterpret_cast<void*>(at), found->second.bytes);
  if (found->second.fd >= 0) ::close(found->second.fd);
  driver().ranges.erase(found);
  return kCudaSuccess;
}

}  // namespace tutti::fakes

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
  now.managed = alive(Kind::Managed);
  now.registered = alive(Kind::Registered);
  now.pool = alive(Kind::Pool);
  now.streams = driver().user_streams;
  now.events = driver().events;
  now.modules = driver().modules;
  now.graphs = driver().graphs;
  now.execs = driver().execs;
  now.kept = driver().kept;
  return now;
}
void fake_cuda_break(int device, int code) {
  Lock lock(driver().mutex);
  CUctx_st& context = driver().contexts[static_cast<size_t>(device)];
  if (code == kCudaSuccess && context.broken != kCudaSuccess) {
    // Whole again only when what was queued has been dropped: a stream that has not looked yet would go on with it.
    const std::vector<Point> queued = all_points(&context);
    driver().changed.wait(lock, [&] {
      return std::all_of(queued.begin(), queued.end(), [](const Point& point) { return point.reached(); });
    });
  }
  context.broken = code;
  driver().changed.notify_all();
}
int fake_cuda_flushes() {
  const std::lock_guard lock(driver().mutex);
  return driver().flushes;
}
int fake_cuda_finds(int device, const void* bytes, size_t count) {
  const std::lock_guard lock(driver().mutex);
  int found = 0;
  for (const auto& [at, range] : driver().ranges) {
    const bool asked = device >= 0 ? range.kind == Kind::Device && range.device == device : is_host(range.kind);
    found += asked && ::memmem(reinterpret_cast<const void*>(at), range.bytes, bytes, count) != nullptr;
  }
  return found;
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
  *value = which == kCudaCapabilityMajor ? 9 : which == kCudaMultiprocessors ? kMultiprocessors : 0;
  const char* const maps = std::getenv("FAKE_CUDA_VMM");
  if (which == kCudaVirtualMemory && maps != nullptr && std::atoi(maps) == 0) return kCudaSuccess;
  for (const int has : {kCudaVirtualMemory, kCudaPosixHandles, kCudaUnifiedAddressing, kCudaCooperativeLaunch,
                        kCudaStreamValues64, kCudaCanMapHostMemory})
    if (which == has) *value = 1;
  if (which == kCudaGpuDirectRdma) *value = 1;
  if (which == kCudaDmaBuf) *value = from_environment("FAKE_CUDA_DMABUF", 1);
  if (which == kCudaRdmaOrdering) *value = from_environment("FAKE_CUDA_RDMA_ORDERING", kCudaRdmaToOwner);
  if (which == kCudaRdmaFlushOptions) *value = from_environment("FAKE_CUDA_RDMA_FLUSH", kCudaRdmaFlushByHost);
  return kCudaSuccess;
}
int cuGetErrorName(int code, const char** name) {
  static const std::map<int, const char*> names = {
      {kCudaOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"},
      {kCudaInvalidValue, "CUDA_ERROR_INVALID_VALUE"},
      {kCudaIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {kCudaInvalidDevice, "CUDA_ERROR_INVALID_DEVICE"},
      {kCudaInvalidContext, "CUDA_ERROR_INVALID_CONTEXT"},
      {kCudaLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED"},
      {kCudaCooperativeTooLarge, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"},
      {kCudaNoImageForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
      {kCudaCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {kCudaCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
      {kCudaCaptureImplicit, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
      {kCudaCaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
      {kCudaNotSupported, "CUDA_ERROR_NOT_SUPPORTED"},
  };
  const auto found = names.find(code);
  *name = found == names.end() ? nullptr : found->second;
  return found == names.end() ? kCudaInvalidValue : kCudaSuccess;
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
  return *device = here()->device, kCudaSuccess;
}
int cuCtxSynchronize() {
  ENTER_UNSAFE();
  return wait_for(lock, here(), all_points(here()));
}
int cuCtxGetLimit(size_t* bytes, int which) {
  ENTER();
  if (which != kCudaLimitStack) return kCudaNotSupported;
  return *bytes = here()->stack, kCudaSuccess;
}
int cuCtxSetLimit(int which, size_t bytes) {
  ENTER_UNSAFE();
  if (which != kCudaLimitStack) return kCudaNotSupported;
  if (const int code = wait_for(lock, here(), all_points(here())); code != kCudaSuccess) return code;
  return here()->stack = bytes, kCudaSuccess;
}
int cuCtxGetStreamPriorityRange(int* last, int* first) {
  ENTER();
  return *last = 0, *first = -5, kCudaSuccess;
}
int cuMemAlloc_v2(CudaAddress* at, size_t bytes) {
  ENTER_UNSAFE();
  uint64_t made = 0;
  const int code = add(Kind::Device, bytes, made);
  return *at = made, code;
}
// Waits for the device, as the driver does.
int cuMemFree_v2(CudaAddress at) {
  ENTER_UNSAFE();
  (void)wait_for(lock, here(), all_points(here()));
  const auto* range = range_of(at);
  return remove(range != nullptr ? range->second.kind == Kind::Managed ? Kind::Managed
                                   : range->second.kind == Kind::Pool  ? Kind::Pool
                                                                       : Kind::Device
                                 : Kind::Device,
                at);
}
int cuMemAllocManaged(CudaAddress* at, size_t bytes, unsigned) {
  ENTER_UNSAFE();
  uint64_t made = 0;
  const int code = add(Kind::Managed, bytes, made);
  return *at = made, code;
}
int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  ENTER_UNSAFE();
  uint64_t made = 0;
  const int code = add(Kind::Pinned, bytes, made);
  return *at = reinterpret_cast<void*>(made), code;
}
int cuMemFreeHost(void* at) {
  ENTER_UNSAFE();
  return remove(Kind::Pinned, reinterpret_cast<uint64_t>(at));
}
int cuMemHostRegister_v2(void* at, size_t bytes, unsigned) {
  ENTER_UNSAFE();
  if (from_environment("FAKE_CUDA_REGISTER", 1) == 0) return kCudaNotSupported;
  const auto start = reinterpret_cast<uint64_t>(at);
  if (at == nullptr || bytes == 0) return kCudaInvalidValue;
  if (range_of(start) != nullptr || range_of(start + bytes - 1) != nullptr) return kCudaAlreadyRegistered;
  driver().ranges[start] = {Kind::Registered, bytes, here()->device, -1};
  return kCudaSuccess;
}
int cuMemHostUnregister(void* at) {
  ENTER_UNSAFE();
  const int code = remove(Kind::Registered, reinterpret_cast<uint64_t>(at));
  return code == kCudaInvalidValue ? +kCudaNotRegistered : code;
}
int cuMemHostGetDevicePointer_v2(CudaAddress* device, void* at, unsigned) {
  ENTER();
  const auto* range = range_of(reinterpret_cast<uint64_t>(at));
  if (range == nullptr || !is_host(range->second.kind)) return kCudaInvalidValue;
  return *device = reinterpret_cast<uint64_t>(at), kCudaSuccess;
}
// The memory is there at once: a stream that uses it before its turn is not found out.
int cuMemAllocAsync(CudaAddress* at, size_t bytes, CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (stream->capture != nullptr) return kCudaNotSupported;
  uint64_t made = 0;
  const int code = add(Kind::Pool, bytes, made);
  return *at = made, code;
}
int cuMemFreeAsync(CudaAddress at, CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  const auto* range = range_of(at);
  if (stream == nullptr || range == nullptr || range->second.kind != Kind::Pool) return kCudaInvalidValue;
  if (stream->capture != nullptr) return kCudaNotSupported;
  return enqueue(stream, [at] {
    const std::lock_guard free(driver().mutex);
    (void)forget(Kind::Pool, at);
  });
}
int cuMemGetAddressRange_v2(CudaAddress* start, size_t* bytes, CudaAddress at) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr) return kCudaInvalidValue;
  if (start != nullptr) *start = range->first;
  if (bytes != nullptr) *bytes = range->second.bytes;
  return kCudaSuccess;
}
// The position of the descriptor is where the range begins: what is made of it maps from there.
int cuMemGetHandleForAddressRange(void* handle, CudaAddress at, size_t bytes, int type, unsigned long long flags) {
  ENTER();
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto* range = range_of(at);
  if (range == nullptr || range->second.kind != Kind::Device || at % page != 0 || bytes == 0 || bytes % page != 0 ||
      at - range->first + bytes > range->second.bytes || type != kCudaRangeDmaBuf || flags != 0)
    return kCudaInvalidValue;
  if (from_environment("FAKE_CUDA_DMABUF", 1) == 0) return kCudaNotSupported;
  const std::string path = "/proc/self/fd/" + std::to_string(range->second.fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return kCudaOutOfMemory;
  ::lseek(fd, static_cast<off_t>(at - range->first), SEEK_SET);
  std::memcpy(handle, &fd, sizeof fd);
  return kCudaSuccess;
}
int cuFlushGPUDirectRDMAWrites(int target, int scope) {
  ENTER();
  if (target != kCudaRdmaCurrentContext || scope < kCudaRdmaToOwner) return kCudaInvalidValue;
  ++driver().flushes;
  return kCudaSuccess;
}
int cuPointerGetAttribute(void* value, int which, CudaAddress at) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr) return kCudaInvalidValue;
  const Kind kind = range->second.kind;
  switch (which) {
    case kCudaPointerMemoryType:
      return *static_cast<uint32_t*>(value) = is_host(kind) ? kCudaHostMemory : kCudaDeviceMemory, kCudaSuccess;
    case kCudaPointerIsManaged:
      return *static_cast<uint32_t*>(value) = kind == Kind::Managed, kCudaSuccess;
    case kCudaPointerLegacyIpc:
      return *static_cast<uint32_t*>(value) = kind == Kind::Device, kCudaSuccess;
    case kCudaPointerDevicePointer:
      return *static_cast<CudaAddress*>(value) = at, kCudaSuccess;
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
  const SharedName name{kMagic, ::getpid(), range->second.fd, range->second.device, range->second.bytes};
  *handle = {};
  std::memcpy(handle, &name, sizeof name);
  return kCudaSuccess;
}
int cuIpcOpenMemHandle_v2(CudaAddress* at, CudaIpcHandle handle, unsigned) {
  ENTER();
  SharedName name;
  std::memcpy(&name, &handle, sizeof name);
  if (name.magic != kMagic) return kCudaInvalidValue;
  if (!reaches(here()->device, name.device)) return kCudaPeerUnsupported;
  if (name.pid == ::getpid()) return kCudaInvalidContext;  // as the driver: not in the process that exported it
  const std::string path = "/proc/" + std::to_string(name.pid) + "/fd/" + std::to_string(name.fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return kCudaInvalidValue;
  *at = map_new(fd, name.bytes);
  if (*at == 0) {
    ::close(fd);
    return kCudaOutOfMemory;
  }
  driver().ranges[*at] = {Kind::Opened, name.bytes, here()->device, fd};
  guard_memory(*at, name.bytes, name.device);
  here()->peers.insert(name.device);  // as kCudaIpcLazyPeer asks
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
  driver().ranges[at] = {Kind::Mapped, bytes, here()->device,
                         ::fcntl(static_cast<int>(handle - 1), F_DUPFD_CLOEXEC, 0)};
  return kCudaSuccess;
}
int cuMemRetainAllocationHandle(CudaMemoryHandle* handle, void* at) {
  ENTER();
  const auto* range = range_of(reinterpret_cast<uint64_t>(at));
  if (range == nullptr || range->second.kind != Kind::Mapped) return kCudaInvalidValue;
  const int fd = ::fcntl(range->second.fd, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return kCudaOutOfMemory;
  *handle = static_cast<CudaMemoryHandle>(fd) + 1;
  driver().handles[*handle] = range->second.bytes;
  return kCudaSuccess;
}
int cuMemUnmap(CudaAddress at, size_t bytes) {
  ENTER();
  const auto found = driver().ranges.find(at);
  if (found == driver().ranges.end() || found->second.kind != Kind::Mapped || found->second.bytes != bytes)
    return kCudaInvalidValue;
  (void)::mmap(reinterpret_cast<void*>(at), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ::close(found->second.fd);
  driver().ranges.erase(found);
  return kCudaSuccess;
}
// Whose memory it is the fake does not know of what was imported: that of the device that maps it, it takes.
int cuMemSetAccess(CudaAddress at, size_t bytes, const CudaAccess* access, size_t count) {
  ENTER();
  const auto* range = range_of(at);
  if (range == nullptr || range->second.kind != Kind::Mapped) return kCudaInvalidValue;
  for (size_t i = 0; i < count; ++i) {
    if (!reaches(access[i].location.id, range->second.device)) return kCudaInvalidDevice;
  }
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
