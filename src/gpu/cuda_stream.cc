// SPDX-License-Identifier: Apache-2.0
#include "gpu/cuda_stream.h"

namespace tutti::gpu {

template <class Call>
Status CudaStream::in_context(const char* name, Call call) const {
  const CudaScope scope(*device_);
  TUTTI_TRY(scope.status());
  return device_->status(call(device_->cuda()), name);
}

Status CudaStream::check_device() const {
  CudaContext theirs = nullptr;
  TUTTI_TRY(in_context("cuStreamGetCtx", [&](const CudaRun& cuda) { return cuda.stream_context(handle_, &theirs); }));
  if (theirs == device_->handle()) return {};
  CudaDevice ordinal = -1;
  if (device_->cuda().context_push(theirs) == kCudaSuccess) {
    CudaContext popped = nullptr;
    (void)device_->cuda().context_device(&ordinal);
    (void)device_->cuda().context_pop(&popped);
  }
  if (ordinal == device_->ordinal())
    return error(Code::InvalidArgument,
                 "the stream belongs to a context of CUDA device {} other than its primary context, which the CUDA "
                 "runtime and Tutti use: make it with cudaStreamCreate()",
                 ordinal);
  return error(Code::InvalidArgument,
               "the stream belongs to CUDA device {}, the communicator to device {}: call cudaSetDevice() before the "
               "stream is made",
               ordinal, device_->ordinal());
}

Status CudaStream::copy(CudaAddress to, CudaAddress from, size_t bytes) const {
  if (bytes == 0) return {};
  return in_context("cuMemcpyAsync", [&](const CudaRun& cuda) { return cuda.copy_async(to, from, bytes, handle_); });
}
Status CudaStream::fill(CudaAddress to, unsigned char byte, size_t bytes) const {
  if (bytes == 0) return {};
  return in_context("cuMemsetD8Async", [&](const CudaRun& cuda) { return cuda.set_async(to, byte, bytes, handle_); });
}
Status CudaStream::wait_value(CudaAddress at, uint64_t least) const {
  return in_context("cuStreamWaitValue64", [&](const CudaRun& cuda) {
    return cuda.stream_wait_value(handle_, at, least, kCudaWaitGreaterOrEqual);
  });
}
Status CudaStream::write_value(CudaAddress at, uint64_t value) const {
  return in_context("cuStreamWriteValue64",
                    [&](const CudaRun& cuda) { return cuda.stream_write_value(handle_, at, value, 0); });
}
Status CudaStream::call_host(CudaHostFunction function, void* argument) const {
  return in_context("cuLaunchHostFunc",
                    [&](const CudaRun& cuda) { return cuda.launch_host(handle_, function, argument); });
}
Status CudaStream::record(const OwnedEvent& event) const {
  return in_context("cuEventRecord", [&](const CudaRun& cuda) { return cuda.event_record(event.get(), handle_); });
}
Status CudaStream::wait(const OwnedEvent& event) const {
  return in_context("cuStreamWaitEvent",
                    [&](const CudaRun& cuda) { return cuda.stream_wait_event(handle_, event.get(), 0); });
}

Result<std::optional<CudaCapture>> CudaStream::capture() const {
  CudaCaptureStatus status = kCudaNotCapturing;
  CudaCapture capture;
  TUTTI_TRY(in_context("cuStreamGetCaptureInfo", [&](const CudaRun& cuda) {
    return cuda.capture_info(handle_, &status, &capture.id, &capture.graph, nullptr, nullptr);
  }));
  if (status == kCudaNotCapturing) return std::optional<CudaCapture>();
  if (status == kCudaCapturing) return std::optional<CudaCapture>(capture);
  return error(Code::CudaError,
               "the stream's capture on CUDA device {} was invalidated by a call before this one: end it with "
               "cudaStreamEndCapture() and look for the first CUDA call that failed since it began",
               device_->ordinal());
}

Result<bool> CudaStream::idle() const {
  const CudaScope scope(*device_);
  TUTTI_TRY(scope.status());
  const int code = device_->cuda().stream_query(handle_);
  if (code == kCudaNotReady) return false;
  TUTTI_TRY(device_->status(code, "cuStreamQuery"));
  return true;
}
Status CudaStream::synchronize() const {
  return in_context("cuStreamSynchronize", [&](const CudaRun& cuda) { return cuda.stream_synchronize(handle_); });
}

bool stream_values(const CudaContextOwner& device) { return device.attribute(kCudaStreamValues64) != 0; }

Result<bool> reached(const CudaDevicePtr& device, const OwnedEvent& event) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  const int code = device->cuda().event_query(event.get());
  if (code == kCudaNotReady) return false;
  TUTTI_TRY(device->status(code, "cuEventQuery"));
  return true;
}
Status synchronize(const CudaDevicePtr& device, const OwnedEvent& event) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  return device->status(device->cuda().event_synchronize(event.get()), "cuEventSynchronize");
}

namespace {
// A user object calls its function even if no graph took it: the function is ours only from then on.
struct Kept {
  CudaHostFunction release;
  void* object;
  bool taken = false;
};
void end_kept(void* at) {
  const std::unique_ptr<Kept> kept(static_cast<Kept*>(at));
  if (kept->taken) kept->release(kept->object);
}
}  // namespace

Status keep_with_graph(const CudaDevicePtr& device, CudaGraph graph, void* object, CudaHostFunction release) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  const CudaRun& cuda = device->cuda();
  auto kept = std::make_unique<Kept>(Kept{release, object});
  CudaUserObject made = nullptr;
  TUTTI_TRY(
      device->status(cuda.user_object(&made, kept.get(), end_kept, 1, kCudaUserObjectNoSync), "cuUserObjectCreate"));
  Kept* const theirs = kept.release();
  theirs->taken = true;  // before: the graph may end on another thread as soon as it has it
  const int code = cuda.graph_retain(graph, made, 1, kCudaGraphMovesReference);
  if (code == kCudaSuccess) return {};
  theirs->taken = false;
  (void)cuda.user_object_release(made, 1);
  return device->status(code, "cuGraphRetainUserObject");
}

}  // namespace tutti::gpu
