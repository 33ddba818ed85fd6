// SPDX-License-Identifier: Apache-2.0
// See cuda.h.
#include "gpu/cuda.h"

#include <map>
#include <mutex>

#include "base/dynamic_library.h"

namespace tutti::gpu {
namespace {

Result<std::unique_ptr<CudaRun>> load(std::string_view path) {
  const auto library = DynamicLibrary::open(path, {"libcuda.so.1"});
  if (!library.ok())
    return error(Code::CudaError, "the CUDA driver {}: install it, or set TUTTI_CUDA_LIBRARY to its path",
                 library.status().message());
  auto cuda = std::make_unique<CudaRun>();
  const char* missing = nullptr;
#define TUTTI_CUDA_BIND(member, symbol, required, parameters) \
  if (!library->bind(#symbol, cuda->member) && (required)) missing = #symbol;
  TUTTI_CUDA_FUNCTIONS(TUTTI_CUDA_BIND)
  TUTTI_CUDA_RUN_FUNCTIONS(TUTTI_CUDA_BIND)
#undef TUTTI_CUDA_BIND
  if (missing != nullptr)
    return error(Code::CudaError,
                 "{} lacks {}: it is too old (driver 525, CUDA 12.0, is needed) or not the CUDA driver",
                 library->name(), missing);
  TUTTI_TRY(cuda_status(*cuda, cuda->init(0), "cuInit", -1));
  return cuda;
}

// What the user can do about it.
const char* remedy(int code) {
  switch (code) {
    case kCudaOutOfMemory:
      return "free memory of the device, or use fewer ranks per device or smaller buffers";
    case kCudaNoDevice:
      return "no device is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
    case kCudaInvalidDevice:
      return "there is no such device: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
    case kCudaSystemDriverMismatch:
      return "driver library and kernel module are of different versions: reboot, or reload the module";
    case kCudaCooperativeTooLarge:
      return "the device cannot hold all blocks of the launch at once: use fewer channels, or fewer ranks per device";
    case kCudaLaunchOutOfResources:
      return "the device has too few registers or too little shared memory for blocks of this size";
    case kCudaCaptureUnsupported:
    case kCudaCaptureInvalidated:
    case kCudaCaptureImplicit:
      return "the call is not possible while a stream is captured: make it before the capture begins";
    case kCudaNotPermitted:
    case kCudaNotSupported:
      return "this device, driver or container does not allow it";
    case kCudaInvalidContext:
    case kCudaContextDestroyed:
      return "the device's context is gone: was cudaDeviceReset() called while the communicator lived?";
  }
  return "see the driver's documentation of this error";
}

// Who holds which device's context.
struct Retained {
  std::mutex mutex;
  std::map<std::pair<const CudaRun*, int>, std::weak_ptr<const CudaContextOwner>> owners;
};

// Makes an object with `make(cuda, &object)` on the device.
template <class Owner, class T, class Make>
Result<Owner> made(const CudaDevicePtr& device, const char* call, Make make) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  T object{};
  TUTTI_TRY(device->status(make(device->cuda(), &object), call));
  return Owner(device, object);
}

}  // namespace

Result<const CudaRun*> load_cuda(std::string_view path) { return LoadedApis<CudaRun>::only().get(path, load); }

bool is_sticky(int code) {
  switch (code) {
    case kCudaEccUncorrectable:
    case kCudaNvlinkUncorrectable:
    case kCudaIllegalAddress:
    case kCudaLaunchTimeout:
    case kCudaAssert:
    case kCudaHardwareStackError:
    case kCudaIllegalInstruction:
    case kCudaMisalignedAddress:
    case kCudaInvalidAddressSpace:
    case kCudaInvalidPc:
    case kCudaLaunchFailed:
      return true;
  }
  return false;
}

Status cuda_status(const CudaRun& cuda, int code, std::string_view call, int device, Ours ours) {
  if (code == kCudaSuccess) return {};
  const char *name = nullptr, *text = nullptr;
  if (cuda.error_name(code, &name) != kCudaSuccess || name == nullptr) name = "an unknown error";
  if (cuda.error_text(code, &text) != kCudaSuccess || text == nullptr) text = "no description";
  const std::string where = device < 0 ? std::string() : fmt::format(" on CUDA device {}", device);
  if (!is_sticky(code))
    return error(Code::CudaError, "CUDA's {}{} failed: {} ({}), {}: {}", call, where, name, code, text, remedy(code));
  if (ours == Ours::No)
    return error(Code::CudaError,
                 "{}{} saw {} ({}), {}: work of the application that ran before on this device has failed, none of "
                 "Tutti's was running; find it with compute-sanitizer or CUDA_LAUNCH_BLOCKING=1; the process must end, "
                 "its context is lost",
                 call, where, name, code, text);
  return error(Code::CudaError,
               "{}{} saw {} ({}), {}: a kernel that ran before on this device has failed, of the application or of a "
               "collective call (was a buffer freed, or shorter than its count?); compute-sanitizer names it; the "
               "process must end, its context is lost",
               call, where, name, code, text);
}

Result<CudaDevicePtr> CudaContextOwner::retain(const CudaRun& cuda, int ordinal) {
  static Retained& retained = *new Retained;
  const std::lock_guard lock(retained.mutex);
  std::weak_ptr<const CudaContextOwner>& known = retained.owners[{&cuda, ordinal}];
  if (CudaDevicePtr owner = known.lock()) return owner;
  CudaDevice device = 0;
  TUTTI_TRY(cuda_status(cuda, cuda.by_ordinal(&device, ordinal), "cuDeviceGet", ordinal));
  CudaContext context = nullptr;
  TUTTI_TRY(cuda_status(cuda, cuda.primary_retain(&context, device), "cuDevicePrimaryCtxRetain", ordinal));
  CudaDevicePtr owner(new CudaContextOwner(cuda, ordinal, device, context));
  known = owner;
  return owner;
}
int CudaContextOwner::attribute(int which) const {
  int value = 0;
  return cuda_->attribute(&value, which, device_) == kCudaSuccess ? value : 0;
}
CudaContextOwner::~CudaContextOwner() { (void)cuda_->primary_release(device_); }

Result<DeviceMemory> allocate_device(const CudaDevicePtr& device, size_t bytes) {
  return made<DeviceMemory, CudaAddress>(
      device, "cuMemAlloc", [&](const CudaRun& cuda, CudaAddress* at) { return cuda.allocate(at, bytes); });
}

Result<PinnedMemory> allocate_pinned(const CudaDevicePtr& device, size_t bytes) {
  return made<PinnedMemory, void*>(device, "cuMemHostAlloc", [&](const CudaRun& cuda, void** at) {
    return cuda.allocate_host(at, bytes, kCudaHostPortable | kCudaHostMapped);
  });
}

Result<OwnedStream> make_stream(const CudaDevicePtr& device, StreamPriority priority) {
  return made<OwnedStream, CudaStreamHandle>(device, "cuStreamCreateWithPriority",
                                             [&](const CudaRun& cuda, CudaStreamHandle* stream) {
                                               int last = 0, first = 0;
                                               if (priority == StreamPriority::First)
                                                 (void)cuda.priorities(&last, &first);  // without: an ordinary stream
                                               return cuda.stream_create(stream, kCudaStreamNonBlocking, first);
                                             });
}

Result<OwnedEvent> make_event(const CudaDevicePtr& device) {
  return made<OwnedEvent, CudaEventHandle>(device, "cuEventCreate", [](const CudaRun& cuda, CudaEventHandle* event) {
    return cuda.event_create(event, kCudaEventDisableTiming);
  });
}

Result<CudaIpcHandle> share_device(const CudaDevicePtr& device, CudaAddress at) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  CudaIpcHandle handle{};
  TUTTI_TRY(device->status(device->cuda().ipc_export(&handle, at), "cuIpcGetMemHandle"));
  return handle;
}

Result<OpenedMemory> open_device(const CudaDevicePtr& device, const CudaIpcHandle& handle) {
  return made<OpenedMemory, CudaAddress>(device, "cuIpcOpenMemHandle", [&](const CudaRun& cuda, CudaAddress* at) {
    return cuda.ipc_open(at, handle, kCudaIpcLazyPeer);
  });
}

MappedMemory::MappedMemory(MappedMemory&& other) noexcept { *this = std::move(other); }

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(memory_, other.memory_);
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  std::swap(held_, other.held_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

MappedMemory::~MappedMemory() {
  if (device_ == nullptr) return;
  const CudaScope scope(*device_);
  const CudaRun& cuda = device_->cuda();
  if (mapped_) (void)cuda.memory_unmap(address_, size_);
  if (address_ != 0) (void)cuda.memory_unreserve(address_, size_);
  if (held_) (void)cuda.memory_release(memory_);
}

Status MappedMemory::map() {
  const CudaRun& cuda = device_->cuda();
  TUTTI_TRY(device_->status(cuda.memory_reserve(&address_, size_, 0, 0, 0), "cuMemAddressReserve"));
  TUTTI_TRY(device_->status(cuda.memory_map(address_, size_, 0, memory_, 0), "cuMemMap"));
  mapped_ = true;
  CudaAccess access;
  access.location.id = device_->ordinal();
  return device_->status(cuda.memory_access(address_, size_, &access, 1), "cuMemSetAccess");
}

Result<MappedMemory> MappedMemory::create(const CudaDevicePtr& device, size_t bytes) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  MappedMemory made;
  made.device_ = device;
  CudaAllocationProperties properties;
  properties.location.id = device->ordinal();
  size_t unit = 0;
  TUTTI_TRY(device->status(device->cuda().memory_granularity(&unit, &properties, 0), "cuMemGetAllocationGranularity"));
  if (bytes > SIZE_MAX - unit) return device->status(kCudaOutOfMemory, "cuMemCreate");
  made.size_ = (bytes + unit - 1) / unit * unit;
  TUTTI_TRY(device->status(device->cuda().memory_create(&made.memory_, made.size_, &properties, 0), "cuMemCreate"));
  made.held_ = true;
  TUTTI_TRY(made.map());
  return made;
}

Result<MappedMemory> MappedMemory::open(const CudaDevicePtr& device, const UniqueFd& fd, size_t bytes) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  MappedMemory made;
  made.device_ = device;
  made.size_ = bytes;
  void* const number = reinterpret_cast<void*>(static_cast<intptr_t>(fd.get()));
  TUTTI_TRY(device->status(device->cuda().memory_import(&made.memory_, number, kCudaPosixFile),
                           "cuMemImportFromShareableHandle"));
  made.held_ = true;
  TUTTI_TRY(made.map());
  return made;
}

Result<UniqueFd> MappedMemory::share() const {
  const CudaScope scope(*device_);
  TUTTI_TRY(scope.status());
  int fd = -1;
  TUTTI_TRY(
      device_->status(device_->cuda().memory_export(&fd, memory_, kCudaPosixFile, 0), "cuMemExportToShareableHandle"));
  return UniqueFd(fd);
}

Result<std::optional<PointerKind>> pointer_kind(const CudaDevicePtr& device, const void* at) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  const CudaRun& cuda = device->cuda();
  const auto address = static_cast<CudaAddress>(reinterpret_cast<uintptr_t>(at));
  uint32_t type = 0;
  const int code = cuda.pointer_attribute(&type, kCudaPointerMemoryType, address);
  if (code == kCudaInvalidValue) return std::optional<PointerKind>();  // the driver's word for memory it does not know
  TUTTI_TRY(device->status(code, "cuPointerGetAttribute"));
  PointerKind kind;
  kind.on_device = type == kCudaDeviceMemory;
  uint32_t managed = 0;
  if (cuda.pointer_attribute(&managed, kCudaPointerIsManaged, address) == kCudaSuccess) kind.managed = managed != 0;
  (void)cuda.pointer_attribute(&kind.device, kCudaPointerDeviceOrdinal, address);
  (void)cuda.pointer_attribute(&kind.start, kCudaPointerRangeStart, address);
  (void)cuda.pointer_attribute(&kind.bytes, kCudaPointerRangeSize, address);
  (void)cuda.pointer_attribute(&kind.device_address, kCudaPointerDevicePointer, address);
  uint32_t ipc = 0;
  if (cuda.pointer_attribute(&ipc, kCudaPointerLegacyIpc, address) == kCudaSuccess) kind.ipc = ipc != 0;
  return std::optional<PointerKind>(kind);
}

}  // namespace tutti::gpu
