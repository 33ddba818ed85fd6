// SPDX-License-Identifier: Apache-2.0
// What the parts of the fake CUDA driver share: fake_cuda.cc has contexts and memory, fake_cuda_streams.cc streams,
// events, copies and launches, fake_cuda_graphs.cc capture and graphs.
//
// One lock guards everything. A stream is a queue with a thread of its own, which runs one piece of work after the
// other without the lock; a piece begins when the points it comes after are reached. So work of different streams runs
// at the same time, and what waits (a kernel for another rank, a stream for a value) keeps nobody else.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gpu/cuda_run_abi.h"
#include "tests/fakes/fake_cuda.h"

#define EXPORT extern "C" __attribute__((visibility("default")))
#define DECLARE_CUDA(member, symbol, required, parameters) EXPORT tutti::gpu::CudaFunctions::member##_function symbol;
#define DECLARE_RUN(member, symbol, required, parameters) EXPORT tutti::gpu::CudaRunFunctions::member##_function symbol;
TUTTI_CUDA_FUNCTIONS(DECLARE_CUDA)
TUTTI_CUDA_RUN_FUNCTIONS(DECLARE_RUN)
#undef DECLARE_CUDA
#undef DECLARE_RUN

namespace tutti::fakes {

inline constexpr int kMultiprocessors = 16, kThreadsPerMultiprocessor = 2048, kBlocksPerMultiprocessor = 32;
inline constexpr size_t kSharedPerMultiprocessor = 228 << 10, kSharedPerBlock = 48 << 10;
inline constexpr size_t kDefaultStack = 1024;

// Work in the order of its numbers, from 1 on; `done` of it has ended.
struct Queue {
  struct Work;
  CUctx_st* context = nullptr;
  bool blocking = false;  // ordered with the legacy stream
  std::deque<Work> waiting;
  uint64_t put = 0, done = 0;
  bool closed = false;
};
struct Point {
  std::shared_ptr<Queue> queue;
  uint64_t number = 0;
  bool reached() const { return queue == nullptr || queue->done >= number; }
};
struct Queue::Work {
  std::vector<Point> after;
  std::function<void()> run;
};

struct Node {
  std::function<void()> run;
  std::vector<size_t> after;  // nodes before this one
};
using Nodes = std::vector<Node>;

struct Capture {
  uint64_t id = 0;
  int mode = 0;
  std::thread::id thread;
  CUstream_st* origin = nullptr;
  CUgraph_st* graph = nullptr;
  bool lost = false;
};

struct Kernel {
  size_t parameter_bytes = 0;
  int local_bytes = 0;
  std::function<void(const void*)> body;  // in each thread of the grid
};
// Those that the fake knows by name.
const std::map<std::string, Kernel>& kernels();

struct Failure {
  int nth, code;
};

}  // namespace tutti::fakes

struct CUctx_st {
  int device = 0, retained = 0;
  std::atomic<int> broken = 0;
  int resident_threads = 0;  // of the kernels that run
  size_t stack = tutti::fakes::kDefaultStack;
  CUstream_st* legacy = nullptr;
  std::set<int> peers;  // devices whose memory kernels here may use
};
struct CUstream_st {
  CUctx_st* context = nullptr;
  std::shared_ptr<tutti::fakes::Queue> queue;
  std::shared_ptr<tutti::fakes::Capture> capture;
  std::vector<size_t> last;  // captured nodes that what comes next comes after
};
struct CUevent_st {
  tutti::fakes::Point point;
  std::shared_ptr<tutti::fakes::Capture> capture;
  std::vector<size_t> last;
};
struct CUuserObject_st {
  void* object = nullptr;
  tutti::gpu::CudaHostFunction end = nullptr;
  int count = 0;
};
struct CUgraph_st {
  tutti::fakes::Nodes nodes;
  std::map<CUuserObject_st*, int> kept;
};

namespace tutti::fakes {

enum class Kind { Device, Pinned, Opened, Mapped, Managed, Registered, Pool };
struct Range {
  Kind kind;
  size_t bytes;
  int device, fd;
};

struct Driver {
  std::mutex mutex;
  std::condition_variable changed;  // some work has ended, or a context broke
  std::deque<CUctx_st> contexts;
  std::map<uint64_t, Range> ranges;  // by start
  std::map<uint64_t, size_t> reserved;
  std::map<gpu::CudaMemoryHandle, size_t> handles;  // by descriptor + 1
  std::map<std::string, Failure> failures;
  std::vector<std::shared_ptr<Queue>> queues;
  std::vector<std::shared_ptr<Capture>> captures;  // under way
  std::vector<CUstream_st*> streams;               // all, the legacy ones included
  int flushes = 0, user_streams = 0, events = 0, modules = 0, graphs = 0, execs = 0, kept = 0;
  uint64_t next_capture = 1;
};
Driver& driver();

extern thread_local std::vector<CUctx_st*> t_current;
extern thread_local bool t_in_host_function;  // of cuLaunchHostFunc

// The error to return instead of doing what `symbol` does; success for none.
int injected(const char* symbol);
inline CUctx_st* here() { return t_current.back(); }

// All below: with the lock held.
using Lock = std::unique_lock<std::mutex>;

// For calls that are unsafe while a stream is captured: an error, and the capture is lost.
int unsafe_while_capturing();
// The stream a handle names; null: none.
CUstream_st* stream_of(gpu::CudaStreamHandle handle);
// Puts work on a stream, or into the graph it is captured into.
int enqueue(CUstream_st* stream, std::function<void()> run, std::vector<Point> after = {});
std::shared_ptr<Queue> open_queue(CUctx_st* context, bool blocking);
// Until it is reached, or the context has broken: the code then.
int wait_for(Lock& lock, CUctx_st* context, const std::vector<Point>& points);
std::vector<Point> all_points(const CUctx_st* context);
// Runs nodes, those that do not come after each other at the same time. Without the lock.
void run_nodes(const Nodes& nodes);

bool is_known(uint64_t at);
int forget(Kind kind, uint64_t at);

// As FAKE_CUDA_PEERS and FAKE_CUDA_NVLINK say.
bool reaches(int from, int to);
bool by_nvlink(int from, int to);
// Kernels on devices that may not use memory of `device` do not touch it from now on.
void guard_memory(uint64_t at, size_t bytes, int device);
// The calling thread, which runs no kernel, is not held back.
void may_touch_all();
// While it lives this thread touches what kernels on the device may use. Without the lock.
class KernelRights {
 public:
  explicit KernelRights(const CUctx_st& context);
  ~KernelRights();
  KernelRights(const KernelRights&) = delete;
};

// Opens a function that needs a context: the lock, what was injected, and a context that is well.
#define ENTER()                                                                                 \
  may_touch_all();                                                                              \
  Lock lock(driver().mutex);                                                                    \
  if (const int code = injected(__func__); code != tutti::gpu::kCudaSuccess) return code;       \
  if (t_in_host_function) return tutti::gpu::kCudaNotPermitted;                                 \
  if (t_current.empty() || t_current.back() == nullptr) return tutti::gpu::kCudaInvalidContext; \
  if (const int code = t_current.back()->broken; code != 0) return code
// The same, of a function that may wait for the device.
#define ENTER_UNSAFE() \
  ENTER();             \
  if (const int code = unsafe_while_capturing(); code != tutti::gpu::kCudaSuccess) return code

}  // namespace tutti::fakes
