// SPDX-License-Identifier: Apache-2.0
// The fake CUDA driver: streams, events, copies, host functions, modules and launches. A kernel runs on the CPU, a
// fiber for each of its threads, when the device has room for it.
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/fakes/cuda_threads.h"
#include "tests/fakes/fake_cuda_state.h"

using namespace tutti::gpu;
using namespace tutti::fakes;

struct CUmod_st {};
struct CUfunc_st {
  const Kernel* kernel;
};

namespace {

thread_local std::map<CUctx_st*, CUstream_st*> t_own;  // what handle 2 means here, in each context

void work_off(const std::shared_ptr<Queue>& queue) {
  may_touch_all();
  Driver& all = driver();
  Lock lock(all.mutex);
  const auto ready = [&] {
    if (queue->waiting.empty()) return queue->closed;
    if (queue->context->broken != 0) return true;
    for (const Point& point : queue->waiting.front().after)
      if (!point.reached()) return false;
    return true;
  };
  for (;;) {
    all.changed.wait(lock, ready);
    if (queue->waiting.empty()) break;
    Queue::Work work = std::move(queue->waiting.front());
    queue->waiting.pop_front();
    const bool lost = queue->context->broken != 0;
    lock.unlock();
    if (!lost) work.run();
    work = {};  // what it holds may end here: without the lock
    lock.lock();
    ++queue->done;
    all.changed.notify_all();
  }
  std::erase(all.queues, queue);
}

CUstream_st* new_stream(CUctx_st* context, bool blocking) {
  auto* const stream = new CUstream_st;
  stream->context = context;
  stream->queue = open_queue(context, blocking);
  driver().streams.push_back(stream);
  return stream;
}

Point last_of(const CUstream_st& stream) { return {stream.queue, stream.queue->put}; }

int blocks_per_multiprocessor(unsigned threads, size_t shared_bytes) {
  if (threads == 0 || threads > 1024 || shared_bytes > kSharedPerBlock) return 0;
  int most = std::min(kThreadsPerMultiprocessor / static_cast<int>(threads), kBlocksPerMultiprocessor);
  if (shared_bytes > 0) most = std::min(most, static_cast<int>(kSharedPerMultiprocessor / shared_bytes));
  return most;
}

void run_kernel(CUctx_st* context, const Kernel& kernel, const std::vector<std::byte>& parameter, unsigned blocks,
                unsigned threads, size_t shared_bytes) {
  // A launch that is not cooperative may be larger than the device; this one then has the device for itself.
  const int room = kMultiprocessors * kThreadsPerMultiprocessor;
  const int takes = static_cast<int>(std::min(uint64_t{blocks} * threads, static_cast<uint64_t>(room)));
  {
    Lock lock(driver().mutex);
    driver().changed.wait(lock, [&] { return context->broken != 0 || context->resident_threads + takes <= room; });
    if (context->broken != 0) return;
    if (const int code = injected("kernel"); code != kCudaSuccess) {
      context->broken = code;
      driver().changed.notify_all();
      return;
    }
    context->resident_threads += takes;
  }
  tutti::cuda::Grid grid;
  grid.blocks = blocks;
  grid.threads = static_cast<int>(threads);
  grid.shared_bytes = shared_bytes;
  grid.patience = UINT64_MAX;
  grid.goes_on = [context](uint64_t) {
    std::this_thread::yield();
    return context->broken == 0;
  };
  {
    const KernelRights rights(*context);
    (void)tutti::cuda::run_grid(grid, [&] { kernel.body(parameter.data()); });
  }
  const std::lock_guard lock(driver().mutex);
  context->resident_threads -= takes;
  driver().changed.notify_all();
}

// Only what ends a wait for a value: a look at memory that anybody may write.
void wait_value(const CUctx_st* context, CudaAddress at, uint64_t value, unsigned flags) {
  auto& word = *reinterpret_cast<uint64_t*>(at);
  for (unsigned looks = 0; context->broken == 0; ++looks) {
    const uint64_t seen = std::atomic_ref<uint64_t>(word).load(std::memory_order_acquire);
    if (flags == kCudaWaitEqual ? seen == value : static_cast<int64_t>(seen - value) >= 0) return;
    if (looks < 100) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));  // as hardware that polls
    }
  }
}

int wait_on_host(Lock& lock, CUctx_st* context, const Point& point) { return wait_for(lock, context, {point}); }

}  // namespace

namespace tutti::fakes {

std::shared_ptr<Queue> open_queue(CUctx_st* context, bool blocking) {
  auto queue = std::make_shared<Queue>();
  queue->context = context;
  queue->blocking = blocking;
  driver().queues.push_back(queue);
  std::thread([queue] { work_off(queue); }).detach();
  return queue;
}

CUstream_st* stream_of(CudaStreamHandle handle) {
  CUctx_st* const context = here();
  if (handle == nullptr || reinterpret_cast<uintptr_t>(handle) == kCudaLegacyStream) {
    if (context->legacy == nullptr) context->legacy = new_stream(context, false);
    return context->legacy;
  }
  if (reinterpret_cast<uintptr_t>(handle) == kCudaPerThreadStream) {
    CUstream_st*& own = t_own[context];
    if (own == nullptr) own = new_stream(context, true);
    return own;
  }
  for (CUstream_st* stream : driver().streams)
    if (stream == handle) return stream;
  return nullptr;
}

int wait_for(Lock& lock, CUctx_st* context, const std::vector<Point>& points) {
  driver().changed.wait(lock, [&] {
    if (context->broken != 0) return true;
    for (const Point& point : points)
      if (!point.reached()) return false;
    return true;
  });
  return context->broken;
}

std::vector<Point> all_points(const CUctx_st* context) {
  std::vector<Point> points;
  for (const auto& queue : driver().queues)
    if (queue->context == context) points.push_back({queue, queue->put});
  return points;
}

int enqueue(CUstream_st* stream, std::function<void()> run, std::vector<Point> after) {
  if (stream->capture != nullptr) {
    Capture& capture = *stream->capture;
    if (capture.lost) return kCudaCaptureInvalidated;
    capture.graph->nodes.push_back({std::move(run), stream->last});
    stream->last = {capture.graph->nodes.size() - 1};
    return kCudaSuccess;
  }
  Queue& queue = *stream->queue;
  const bool legacy = stream == stream->context->legacy;
  for (CUstream_st* other : driver().streams) {
    if (other->context != stream->context || other == stream || !other->queue->blocking || !legacy) continue;
    if (other->capture != nullptr) {  // it would have to wait for what is only recorded
      other->capture->lost = true;
      return kCudaCaptureImplicit;
    }
    after.push_back(last_of(*other));
  }
  if (queue.blocking && stream->context->legacy != nullptr) after.push_back(last_of(*stream->context->legacy));
  queue.waiting.push_back({std::move(after), std::move(run)});
  ++queue.put;
  driver().changed.notify_all();
  return kCudaSuccess;
}

}  // namespace tutti::fakes

int cuStreamCreateWithPriority(CudaStreamHandle* stream, unsigned flags, int) {
  ENTER();
  *stream = new_stream(here(), (flags & kCudaStreamNonBlocking) == 0);
  ++driver().user_streams;
  return kCudaSuccess;
}
// What is queued is still done.
int cuStreamDestroy_v2(CudaStreamHandle stream) {
  ENTER();
  if (std::erase(driver().streams, stream) == 0) return kCudaInvalidHandle;
  if (stream->capture != nullptr) stream->capture->lost = true;
  stream->queue->closed = true;
  delete stream;
  --driver().user_streams;
  driver().changed.notify_all();
  return kCudaSuccess;
}
int cuStreamGetCtx(CudaStreamHandle handle, CudaContext* context) {
  ENTER();
  const CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  return *context = stream->context, kCudaSuccess;
}
int cuStreamQuery(CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (stream->capture != nullptr) return stream->capture->lost = true, kCudaCaptureUnsupported;
  return last_of(*stream).reached() ? +kCudaSuccess : +kCudaNotReady;
}
int cuStreamSynchronize(CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (stream->capture != nullptr) return stream->capture->lost = true, kCudaCaptureUnsupported;
  return wait_on_host(lock, here(), last_of(*stream));
}
int cuStreamWaitEvent(CudaStreamHandle handle, CudaEventHandle event, unsigned) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr || event == nullptr) return kCudaInvalidHandle;
  if (event->capture != nullptr) {
    if (stream->capture != nullptr && stream->capture != event->capture) {
      stream->capture->lost = event->capture->lost = true;
      return kCudaCaptureMerge;
    }
    stream->capture = event->capture;  // it belongs to the capture from here on
    stream->last.insert(stream->last.end(), event->last.begin(), event->last.end());
    return event->capture->lost ? +kCudaCaptureInvalidated : +kCudaSuccess;
  }
  if (stream->capture != nullptr) return stream->capture->lost = true, kCudaCaptureIsolation;
  return enqueue(stream, [] {}, {event->point});
}
int cuStreamWaitValue64_v2(CudaStreamHandle handle, CudaAddress at, uint64_t value, unsigned flags) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (!is_known(at) || at % 8 != 0) return kCudaInvalidValue;
  return enqueue(stream, [context = here(), at, value, flags] { wait_value(context, at, value, flags); });
}
int cuStreamWriteValue64_v2(CudaStreamHandle handle, CudaAddress at, uint64_t value, unsigned) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (!is_known(at) || at % 8 != 0) return kCudaInvalidValue;
  return enqueue(stream, [at, value] {
    std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(at)).store(value, std::memory_order_release);
  });
}

int cuEventCreate(CudaEventHandle* event, unsigned) {
  ENTER();
  *event = new CUevent_st;
  ++driver().events;
  return kCudaSuccess;
}
int cuEventDestroy_v2(CudaEventHandle event) {
  ENTER();
  delete event;
  --driver().events;
  return kCudaSuccess;
}
int cuEventRecord(CudaEventHandle event, CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr || event == nullptr) return kCudaInvalidHandle;
  if (stream->capture != nullptr) {
    if (stream->capture->lost) return kCudaCaptureInvalidated;
    *event = {{}, stream->capture, stream->last};
    return kCudaSuccess;
  }
  const int code = enqueue(stream, [] {});
  if (code == kCudaSuccess) *event = {last_of(*stream), nullptr, {}};
  return code;
}
int cuEventQuery(CudaEventHandle event) {
  ENTER_UNSAFE();
  if (event->capture != nullptr) return event->capture->lost = true, kCudaCapturedEvent;
  return event->point.reached() ? +kCudaSuccess : +kCudaNotReady;
}
int cuEventSynchronize(CudaEventHandle event) {
  ENTER_UNSAFE();
  if (event->capture != nullptr) return event->capture->lost = true, kCudaCapturedEvent;
  const Point point = event->point;
  return wait_on_host(lock, here(), point);
}

int cuMemcpyAsync(CudaAddress to, CudaAddress from, size_t bytes, CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  return enqueue(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes); });
}
int cuMemcpy(CudaAddress to, CudaAddress from, size_t bytes) {
  ENTER_UNSAFE();
  CUstream_st* const stream = stream_of(nullptr);
  const int code =
      enqueue(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes); });
  return code != kCudaSuccess ? code : wait_on_host(lock, here(), last_of(*stream));
}
int cuMemsetD8Async(CudaAddress to, unsigned char byte, size_t bytes, CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  return enqueue(stream, [=] { std::memset(reinterpret_cast<void*>(to), byte, bytes); });
}
int cuLaunchHostFunc(CudaStreamHandle handle, CudaHostFunction function, void* argument) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  return enqueue(stream, [=] {
    t_in_host_function = true;
    function(argument);
    t_in_host_function = false;
  });
}

int cuModuleLoadData(CudaModule* module, const void* image) {
  ENTER_UNSAFE();
  if (image == nullptr) return kCudaInvalidValue;
  *module = new CUmod_st;
  ++driver().modules;
  return kCudaSuccess;
}
int cuModuleUnload(CudaModule module) {
  ENTER_UNSAFE();
  (void)wait_for(lock, here(), all_points(here()));
  delete module;
  --driver().modules;
  return kCudaSuccess;
}
int cuModuleGetFunction(CudaFunction* function, CudaModule, const char* name) {
  ENTER();
  const auto found = kernels().find(name);
  if (found == kernels().end()) return kCudaNotFound;
  static std::map<std::string, CUfunc_st>& functions = *new std::map<std::string, CUfunc_st>;
  *function = &functions.try_emplace(name, CUfunc_st{&found->second}).first->second;
  return kCudaSuccess;
}
int cuFuncGetAttribute(int* value, int which, CudaFunction function) {
  ENTER();
  switch (which) {
    case kCudaFunctionMostThreads:
      return *value = 512, kCudaSuccess;
    case kCudaFunctionRegisters:
      return *value = 128, kCudaSuccess;
    case kCudaFunctionLocalBytes:
      return *value = function->kernel->local_bytes, kCudaSuccess;
  }
  return kCudaInvalidValue;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CudaFunction, int threads, size_t shared_bytes) {
  ENTER();
  return *blocks = blocks_per_multiprocessor(static_cast<unsigned>(threads), shared_bytes), kCudaSuccess;
}

// FAKE_CUDA_IDLE_KERNELS=N, for programs that these tests start: kernels do nothing from the Nth launch on, as one of
// which a defect has eaten the work.
static bool does_nothing() {
  static const char* const from = std::getenv("FAKE_CUDA_IDLE_KERNELS");
  static int launches = 0;  // under the driver's lock
  return from != nullptr && ++launches >= std::atoi(from);
}

// What needs more local memory than is reserved waits for the device before it is queued, as on a GPU: work that waits
// for this launch then never ends.
int cuLaunchKernelEx(const CudaLaunchConfig* config, CudaFunction function, void** parameters, void**) {
  ENTER();
  CUstream_st* const stream = stream_of(config->stream);
  if (stream == nullptr || function == nullptr) return kCudaInvalidHandle;
  const unsigned blocks = config->grid[0], threads = config->block[0], shared_bytes = config->shared_bytes;
  const int each = blocks_per_multiprocessor(threads, shared_bytes);
  if (each == 0 || blocks == 0 || threads > 512) return kCudaInvalidValue;
  bool cooperative = false;
  for (unsigned i = 0; i < config->attribute_count; ++i)
    cooperative |= config->attributes[i].id == kCudaLaunchCooperative && config->attributes[i].value.cooperative != 0;
  if (cooperative && blocks > static_cast<unsigned>(each * kMultiprocessors)) return kCudaCooperativeTooLarge;
  const Kernel& kernel = *function->kernel;
  if (static_cast<size_t>(kernel.local_bytes) > here()->stack && stream->capture == nullptr) {
    if (const int code = wait_for(lock, here(), all_points(here())); code != kCudaSuccess) return code;
  }
  if (does_nothing()) return enqueue(stream, [] {});
  std::vector<std::byte> parameter(kernel.parameter_bytes);
  std::memcpy(parameter.data(), parameters[0], parameter.size());
  return enqueue(stream, [context = here(), &kernel, parameter = std::move(parameter), blocks, threads, shared_bytes] {
    run_kernel(context, kernel, parameter, blocks, threads, shared_bytes);
  });
}
