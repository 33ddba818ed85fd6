// SPDX-License-Identifier: Apache-2.0
// The fake CUDA driver: capture of streams into graphs, and their replay. A graph's branches run at the same time.
#include <algorithm>

#include "tests/fakes/fake_cuda_state.h"

using namespace tutti::gpu;
using namespace tutti::fakes;

// What an instance runs outlives the instance's handle while it runs.
struct CUgraphExec_st {
  std::shared_ptr<const Nodes> nodes;
  std::map<CUuserObject_st*, int> kept;
  Point last;  // its launches do not overlap
};

namespace {

thread_local int t_mode = kCudaCaptureGlobal;

// The object ends when nobody refers to it: without the lock, since its function is ours to call.
void drop(CUuserObject_st* object, int references) {
  {
    const std::lock_guard lock(driver().mutex);
    object->count -= references;
    if (object->count > 0) return;
    --driver().kept;
  }
  object->end(object->object);
  delete object;
}

// Nodes that `from` come after, themselves included.
std::vector<bool> before(const Nodes& nodes, const std::vector<size_t>& from) {
  std::vector<bool> reached(nodes.size());
  std::vector<size_t> left = from;
  while (!left.empty()) {
    const size_t node = left.back();
    left.pop_back();
    if (reached[node]) continue;
    reached[node] = true;
    left.insert(left.end(), nodes[node].after.begin(), nodes[node].after.end());
  }
  return reached;
}

// All work of the other streams of a capture has to have come back to the stream it began with.
bool joined(const Capture& capture) {
  const std::vector<bool> reached = before(capture.graph->nodes, capture.origin->last);
  for (const CUstream_st* stream : driver().streams) {
    if (stream->capture.get() != &capture) continue;
    for (const size_t node : stream->last)
      if (!reached[node]) return false;
  }
  return std::find(reached.begin(), reached.end(), false) == reached.end();
}

struct Run {
  const Nodes& nodes;
  std::mutex mutex;
  std::vector<size_t> waits;  // for so many nodes
  std::vector<std::vector<size_t>> next;
  std::vector<std::thread> threads;
};
// Runs a node and what became ready by it: the first here, others on threads of their own.
void run_from(Run& run, size_t node) {
  for (bool more = true; more;) {
    run.nodes[node].run();
    more = false;
    const std::lock_guard lock(run.mutex);
    for (const size_t next : run.next[node]) {
      if (--run.waits[next] > 0) continue;
      if (more) {
        run.threads.emplace_back([&run, next] { run_from(run, next); });
      } else {
        more = true;
        node = next;
      }
    }
  }
}

}  // namespace

namespace tutti::fakes {

int unsafe_while_capturing() {
  if (t_mode == kCudaCaptureRelaxed) return kCudaSuccess;
  int code = kCudaSuccess;
  for (const auto& capture : driver().captures) {
    if (capture->mode == kCudaCaptureRelaxed) continue;
    const bool mine = capture->thread == std::this_thread::get_id();
    if (!mine && (capture->mode != kCudaCaptureGlobal || t_mode != kCudaCaptureGlobal)) continue;
    capture->lost = true;
    code = kCudaCaptureUnsupported;
  }
  return code;
}

void run_nodes(const Nodes& nodes) {
  Run run{nodes, {}, std::vector<size_t>(nodes.size()), std::vector<std::vector<size_t>>(nodes.size()), {}};
  std::vector<size_t> first;
  for (size_t node = 0; node < nodes.size(); ++node) {
    run.waits[node] = nodes[node].after.size();
    for (const size_t other : nodes[node].after) run.next[other].push_back(node);
    if (nodes[node].after.empty()) first.push_back(node);
  }
  for (size_t i = 1; i < first.size(); ++i) {
    const std::lock_guard lock(run.mutex);
    run.threads.emplace_back([&run, node = first[i]] { run_from(run, node); });
  }
  if (!first.empty()) run_from(run, first[0]);
  for (size_t i = 0;; ++i) {  // threads may still begin others
    std::thread thread;
    {
      const std::lock_guard lock(run.mutex);
      if (i == run.threads.size()) return;
      thread = std::move(run.threads[i]);
    }
    thread.join();
  }
}

}  // namespace tutti::fakes

int cuThreadExchangeStreamCaptureMode(int* mode) {
  std::swap(*mode, t_mode);
  return kCudaSuccess;
}
int cuStreamBeginCapture_v2(CudaStreamHandle handle, int mode) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (stream == stream->context->legacy) return kCudaCaptureUnsupported;
  if (stream->capture != nullptr) return stream->capture->lost = true, kCudaCaptureUnsupported;
  auto capture = std::make_shared<Capture>();
  capture->id = driver().next_capture++;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  capture->graph = new CUgraph_st;
  ++driver().graphs;
  stream->capture = capture;
  stream->last.clear();
  driver().captures.push_back(capture);
  return kCudaSuccess;
}
int cuStreamEndCapture(CudaStreamHandle handle, CudaGraph* graph) {
  CudaGraph lost = nullptr;
  int code = kCudaSuccess;
  {
    ENTER();
    CUstream_st* const stream = stream_of(handle);
    *graph = nullptr;
    if (stream == nullptr || stream->capture == nullptr) return kCudaInvalidValue;
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture->origin != stream) return capture->lost = true, kCudaCaptureUnmatched;
    if (capture->mode != kCudaCaptureRelaxed && capture->thread != std::this_thread::get_id())
      return kCudaCaptureWrongThread;
    if (capture->lost) code = kCudaCaptureInvalidated;
    if (!capture->lost && !joined(*capture)) code = kCudaCaptureUnjoined;
    for (CUstream_st* each : driver().streams) {
      if (each->capture != capture) continue;
      each->capture = nullptr;
      each->last.clear();
    }
    std::erase(driver().captures, capture);
    (code == kCudaSuccess ? *graph : lost) = capture->graph;
  }
  if (lost != nullptr) (void)cuGraphDestroy(lost);
  return code;
}
int cuStreamGetCaptureInfo_v2(CudaStreamHandle handle, CudaCaptureStatus* status, uint64_t* id, CudaGraph* graph,
                              const CudaGraphNode** nodes, size_t* count) {
  ENTER();
  const CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr) return kCudaInvalidHandle;
  if (nodes != nullptr || count != nullptr) return kCudaNotSupported;
  if (stream->capture == nullptr) return *status = kCudaNotCapturing, kCudaSuccess;
  *status = stream->capture->lost ? kCudaCaptureLost : kCudaCapturing;
  if (id != nullptr) *id = stream->capture->id;
  if (graph != nullptr) *graph = stream->capture->graph;
  return kCudaSuccess;
}

int cuGraphInstantiateWithFlags(CudaGraphExec* exec, CudaGraph graph, unsigned long long) {
  ENTER();
  *exec = new CUgraphExec_st{std::make_shared<const Nodes>(graph->nodes), graph->kept, {}};
  for (auto& [object, count] : graph->kept) object->count += count;
  ++driver().execs;
  return kCudaSuccess;
}
int cuGraphLaunch(CudaGraphExec exec, CudaStreamHandle handle) {
  ENTER();
  CUstream_st* const stream = stream_of(handle);
  if (stream == nullptr || exec == nullptr) return kCudaInvalidHandle;
  const int code = enqueue(stream, [nodes = exec->nodes] { run_nodes(*nodes); }, {exec->last});
  if (code == kCudaSuccess && stream->capture == nullptr) exec->last = {stream->queue, stream->queue->put};
  return code;
}
int cuGraphExecDestroy(CudaGraphExec exec) {
  std::map<CUuserObject_st*, int> kept;
  {
    ENTER();
    (void)wait_for(lock, here(), {exec->last});  // what it keeps is kept as long as it runs
    kept = exec->kept;
    --driver().execs;
  }
  delete exec;
  for (const auto& [object, count] : kept) drop(object, count);
  return kCudaSuccess;
}
int cuGraphDestroy(CudaGraph graph) {
  {
    ENTER();
    --driver().graphs;
  }
  for (const auto& [object, count] : graph->kept) drop(object, count);
  delete graph;
  return kCudaSuccess;
}

int cuUserObjectCreate(CudaUserObject* object, void* what, CudaHostFunction end, unsigned count, unsigned flags) {
  ENTER();
  if (flags != kCudaUserObjectNoSync || count == 0) return kCudaInvalidValue;
  *object = new CUuserObject_st{what, end, static_cast<int>(count)};
  ++driver().kept;
  return kCudaSuccess;
}
int cuUserObjectRelease(CudaUserObject object, unsigned count) {
  { ENTER(); }
  drop(object, static_cast<int>(count));
  return kCudaSuccess;
}
int cuGraphRetainUserObject(CudaGraph graph, CudaUserObject object, unsigned count, unsigned flags) {
  ENTER();
  graph->kept[object] += static_cast<int>(count);
  if ((flags & kCudaGraphMovesReference) == 0) object->count += static_cast<int>(count);
  return kCudaSuccess;
}
