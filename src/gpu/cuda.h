// SPDX-License-Identifier: Apache-2.0
// Running on CUDA devices: the driver's functions, loaded at run time, its errors in words, and one owner for each of
// its objects. Communicators on GPUs and their transports call it; work on streams is in cuda_stream.h, kernels are in
// cuda_module.h; finding out what devices there are is elsewhere (cuda_driver.h), and so is what kernels do.
//
// Every owner makes its device's context current for its own calls and restores the caller's. Streams and primary
// contexts are those of the CUDA runtime: a cudaStream_t of the user can be passed as it is.
// Threads: any; one object by one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/handle.h"
#include "base/status.h"
#include "gpu/cuda_run_abi.h"

namespace tutti::gpu {

struct CudaRun {
#define TUTTI_CUDA_MEMBER(member, symbol, required, parameters) CudaFunctions::member##_function* member = nullptr;
  TUTTI_CUDA_FUNCTIONS(TUTTI_CUDA_MEMBER)
#undef TUTTI_CUDA_MEMBER
#define TUTTI_CUDA_MEMBER(member, symbol, required, parameters) CudaRunFunctions::member##_function* member = nullptr;
  TUTTI_CUDA_RUN_FUNCTIONS(TUTTI_CUDA_MEMBER)
#undef TUTTI_CUDA_MEMBER
};

// Loaded and initialised once per `path` (TUTTI_CUDA_LIBRARY), which replaces libcuda.so.1.
Result<const CudaRun*> load_cuda(std::string_view path = {});

// The context is lost: every later call in it returns the same error, whoever makes it.
bool is_sticky(int code);

// Whose kernel may have caused a sticky error: No as long as none of ours has run since the context was well.
enum class Ours : bool { No, MayBe };

// Ok, or the error of `call` on that device (an ordinal; -1: none) with the driver's name for it and what to do.
Status cuda_status(const CudaRun& cuda, int code, std::string_view call, int device, Ours ours = Ours::No);

// A device's primary context, which the CUDA runtime uses too. One for each device and process, shared by all who hold
// it, so that it knows whether a kernel of ours has run.
class CudaContextOwner {
 public:
  static Result<std::shared_ptr<const CudaContextOwner>> retain(const CudaRun& cuda, int ordinal);
  ~CudaContextOwner();
  CudaContextOwner(const CudaContextOwner&) = delete;
  CudaContextOwner& operator=(const CudaContextOwner&) = delete;

  const CudaRun& cuda() const { return *cuda_; }
  int ordinal() const { return ordinal_; }
  CudaContext handle() const { return context_; }
  // A sticky error may be ours once one of our kernels was launched here.
  Status status(int code, std::string_view call) const {
    return cuda_status(*cuda_, code, call, ordinal_, ours_.load(std::memory_order_relaxed) ? Ours::MayBe : Ours::No);
  }
  void note_kernel_of_ours() const { ours_.store(true, std::memory_order_relaxed); }
  // 0 where the driver does not know the attribute.
  int attribute(int which) const;

 private:
  CudaContextOwner(const CudaRun& cuda, int ordinal, CudaDevice device, CudaContext context)
      : cuda_(&cuda), ordinal_(ordinal), device_(device), context_(context) {}

  const CudaRun* cuda_;
  int ordinal_;
  CudaDevice device_;
  CudaContext context_;
  mutable std::atomic<bool> ours_ = false;
};
using CudaDevicePtr = std::shared_ptr<const CudaContextOwner>;

// Makes a device's context current for as long as it lives.
class CudaScope {
 public:
  explicit CudaScope(const CudaContextOwner& device) : cuda_(device.cuda()) {
    status_ = device.status(cuda_.context_push(device.handle()), "cuCtxPushCurrent");
  }
  ~CudaScope() {
    CudaContext popped = nullptr;
    if (status_.ok()) (void)cuda_.context_pop(&popped);
  }
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;
  const Status& status() const { return status_; }

 private:
  const CudaRun& cuda_;
  Status status_;
};

// One object of a device, ended by `End` with the device's context current. T's zero is no object.
template <class T, auto End>
class CudaOwned {
 public:
  CudaOwned() = default;
  CudaOwned(CudaDevicePtr device, T object) : device_(std::move(device)), object_(object) {}
  CudaOwned(CudaOwned&& other) noexcept
      : device_(std::move(other.device_)), object_(std::exchange(other.object_, T{})) {}
  CudaOwned& operator=(CudaOwned&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(object_, other.object_);
    return *this;
  }
  ~CudaOwned() {
    if (object_ == T{}) return;
    const CudaScope scope(*device_);
    (void)End(device_->cuda(), object_);  // nothing is left to do about an error here
  }
  T get() const { return object_; }
  explicit operator bool() const { return object_ != T{}; }

 private:
  CudaDevicePtr device_;
  T object_{};
};

namespace end {
inline int memory(const CudaRun& cuda, CudaAddress at) { return cuda.free(at); }
inline int pinned(const CudaRun& cuda, void* at) { return cuda.free_host(at); }
inline int stream(const CudaRun& cuda, CudaStreamHandle stream) { return cuda.stream_destroy(stream); }
inline int event(const CudaRun& cuda, CudaEventHandle event) { return cuda.event_destroy(event); }
inline int opened(const CudaRun& cuda, CudaAddress at) { return cuda.ipc_close(at); }
inline int module(const CudaRun& cuda, CudaModule module) { return cuda.module_unload(module); }
}  // namespace end

using DeviceMemory = CudaOwned<CudaAddress, &end::memory>;
using PinnedMemory = CudaOwned<void*, &end::pinned>;  // valid in all contexts, at one address
using OwnedStream = CudaOwned<CudaStreamHandle, &end::stream>;
using OwnedEvent = CudaOwned<CudaEventHandle, &end::event>;
using OpenedMemory = CudaOwned<CudaAddress, &end::opened>;  // memory of another process, by cuIpcOpenMemHandle

Result<DeviceMemory> allocate_device(const CudaDevicePtr& device, size_t bytes);
Result<PinnedMemory> allocate_pinned(const CudaDevicePtr& device, size_t bytes);
// Neither waits for the legacy stream nor is waited for by it. First: before the work of ordinary streams, as far as
// the device can; blocks that already run stay.
enum class StreamPriority : bool { Ordinary, First };
Result<OwnedStream> make_stream(const CudaDevicePtr& device, StreamPriority priority = StreamPriority::Ordinary);
// Without timing, which makes it cheap.
Result<OwnedEvent> make_event(const CudaDevicePtr& device);
Result<CudaIpcHandle> share_device(const CudaDevicePtr& device, CudaAddress at);
Result<OpenedMemory> open_device(const CudaDevicePtr& device, const CudaIpcHandle& handle);

// Memory of a device that peers may map too: made here or imported from another process. Readable and writable on
// `device`.
class MappedMemory {
 public:
  static Result<MappedMemory> create(const CudaDevicePtr& device, size_t bytes);
  // `fd` is what share() of the owner returned, sent over; `bytes` is its size().
  static Result<MappedMemory> open(const CudaDevicePtr& device, const UniqueFd& fd, size_t bytes);
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;
  ~MappedMemory();

  CudaAddress address() const { return address_; }
  size_t size() const { return size_; }  // what was asked for, rounded up to the device's granularity
  Result<UniqueFd> share() const;

 private:
  MappedMemory() = default;
  Status map();

  CudaDevicePtr device_;
  CudaMemoryHandle memory_ = 0;
  CudaAddress address_ = 0;
  size_t size_ = 0;
  bool held_ = false, mapped_ = false;
};

// What an address is to a GPU. Nothing: plain host memory that the driver does not know.
struct PointerKind {
  bool on_device = false, managed = false;
  int device = -1;        // ordinal; of host memory: of the context that registered it
  CudaAddress start = 0;  // of the allocation
  size_t bytes = 0;
  CudaAddress device_address = 0;  // of `at`, for kernels; 0: they cannot reach it
  bool ipc = false;                // share_device() can hand it to another process
};
Result<std::optional<PointerKind>> pointer_kind(const CudaDevicePtr& device, const void* at);

}  // namespace tutti::gpu
