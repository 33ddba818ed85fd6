// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_launcher.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "comm/cuda_gate.h"

namespace tutti {
namespace {

constexpr uint64_t kLeastMemory = 4096;

// What a graph holds on to.
using GraphGone = std::shared_ptr<std::atomic<bool>>;
void graph_is_gone(void* held) {
  const std::unique_ptr<GraphGone> flag(static_cast<GraphGone*>(held));
  (*flag)->store(true, std::memory_order_release);
}

}  // namespace

Result<std::unique_ptr<CudaLauncher>> CudaLauncher::create(std::vector<TeamDevice>& devices, bool waits_for_others) {
  std::unique_ptr<CudaLauncher> launcher(new CudaLauncher(devices, waits_for_others));
  TUTTI_ASSIGN_OR_RETURN(launcher->control_memory_,
                         gpu::allocate_pinned(devices.front().gpu, sizeof(cuda::CudaControl)));
  launcher->control_ = new (launcher->control_memory_.get()) cuda::CudaControl;
  return launcher;
}

CudaLauncher::~CudaLauncher() { CudaGate::of_process().leave(this); }

Result<std::optional<gpu::CudaCapture>> CudaLauncher::capture_of(const std::vector<CudaPart>& parts) const {
  std::optional<gpu::CudaCapture> common;
  const CudaPart* first = nullptr;
  for (const CudaPart& part : parts) {
    if (part.ready != nullptr) continue;  // a stream of another thread: not captured, or it would not have waited
    std::optional<gpu::CudaCapture> its;
    const bool known = first != nullptr && part.stream == first->stream && part.device == first->device;
    if (known) continue;
    TUTTI_ASSIGN_OR_RETURN(its, stream(part.device, part.stream).capture());
    if (first == nullptr) {
      first = &part;
      common = its;
      continue;
    }
    if (its.has_value() != common.has_value() || (its.has_value() && its->id != common->id))
      return invalid_usage(
          "the streams of ranks {} and {} are not part of the same capture, but their calls are one launch: capture "
          "one "
          "of the streams and let the others join it (cudaEventRecord on it, cudaStreamWaitEvent on them)",
          first->rank, part.rank);
  }
  return common;
}

Result<CudaFlight*> CudaLauncher::prepare(uint64_t table_bytes, size_t works, uint32_t blocks) {
  uint64_t wanted = table_bytes + blocks * sizeof(uint64_t) + 16 * (devices_.size() + 2);
  if (works > cuda::kFewWorks) wanted += 2 * works * sizeof(cuda::CudaWork);  // fused, and once more in steps
  CudaFlight* flight = nullptr;
  for (CudaFlight*& one : resting_) {
    if (one->bytes < wanted) continue;
    flight = std::exchange(one, resting_.back());
    resting_.pop_back();
    break;
  }
  if (flight == nullptr) {
    auto made = std::make_unique<CudaFlight>();
    made->bytes = std::max(wanted, kLeastMemory);
    TUTTI_ASSIGN_OR_RETURN(made->memory, gpu::allocate_pinned(devices_.front().gpu, made->bytes));
    made->done.resize(devices_.size());
    made->met.resize(devices_.size());
    made->copied.resize(devices_.size());
    flight = made.get();
    flights_.push_back(std::move(made));
  }
  flight->used = 0;
  flight->notes.clear();
  flight->devices.clear();
  flight->waits.clear();
  flight->graph_gone.reset();
  flight->report_count = blocks;
  flight->reports = flight->take<uint64_t>(blocks);
  std::fill_n(flight->reports, blocks, 0);
  return flight;
}

std::vector<CudaLauncher::Grid> CudaLauncher::cut(CudaFlight& flight, std::vector<CudaPart>& parts,
                                                  uint32_t& first_report) const {
  std::vector<Grid> grids(devices_.size());
  for (CudaPart& part : parts) {
    Grid& grid = grids[part.device];
    part.work.first_block = grid.blocks;
    part.work.block_count = part.blocks;
    part.work.control = control_;
    part.work.reports = flight.reports + first_report;
    first_report += part.blocks;
    grid.blocks += part.blocks;
    grid.parts.push_back(&part);
  }
  for (size_t device = 0; device < grids.size(); ++device) {
    Grid& grid = grids[device];
    if (grid.parts.empty()) continue;
    const size_t works = grid.parts.size();
    cuda::CudaWork* at = grid.launch.few;
    if (works > static_cast<size_t>(cuda::kFewWorks)) grid.launch.works = at = flight.take<cuda::CudaWork>(works);
    for (CudaPart* part : grid.parts) *at++ = part->work;
    grid.launch.work_count = static_cast<uint32_t>(works);
    grid.ours = true;
    for (const CudaPart* part : grid.parts) {
      if (part->ready != nullptr) continue;
      if (std::exchange(grid.ours, false)) {
        grid.stream = part->stream;
      } else if (part->stream != grid.stream &&
                 std::find(grid.joining.begin(), grid.joining.end(), part->stream) == grid.joining.end()) {
        grid.joining.push_back(part->stream);
      }
    }
    if (grid.ours) grid.stream = devices_[device].side.get();
  }
  return grids;
}

Result<int> CudaLauncher::places_for(const Grid& grid, size_t device, cuda::KernelProto proto, unsigned threads,
                                     unsigned shared_bytes) const {
  TUTTI_ASSIGN_OR_RETURN(const int most, devices_[device].kernels->most_blocks_at_once(proto, threads, shared_bytes));
  if (static_cast<int>(grid.blocks) <= most) return most;
  return invalid_usage(
      "CUDA device {} holds {} blocks at once, and the call needs {} for {} rank(s): use fewer ranks on the device, or "
      "fewer channels (TUTTI_MAX_CHANNELS, or maxChannels)",
      devices_[device].gpu->ordinal(), most, grid.blocks, grid.parts.size());
}

// The streams of all ranks, and the communicator's launch before.
Status CudaLauncher::wait_for_work_before(const Grid& grid, size_t device, uint64_t capture) {
  const gpu::CudaStream on = stream(device, grid.stream);
  for (const gpu::CudaStreamHandle other : grid.joining) {
    gpu::OwnedEvent& join = joins_[device];
    if (!join) {
      TUTTI_ASSIGN_OR_RETURN(join, gpu::make_event(devices_[device].gpu));
    }
    TUTTI_TRY(stream(device, other).record(join));
    TUTTI_TRY(on.wait(join));
  }
  for (const CudaPart* part : grid.parts) {
    if (part->ready != nullptr) TUTTI_TRY(on.wait(*part->ready));
  }
  // What is captured and what is not have no order but that in which the program launches its graphs.
  const Tail& tail = tails_[device];
  if (tail.done != nullptr && tail.capture == capture) TUTTI_TRY(on.wait(*tail.done));
  return {};
}

Status CudaLauncher::order_after(const Grid& grid, size_t device, const CudaFlight& flight) const {
  for (const gpu::CudaStreamHandle other : grid.joining) TUTTI_TRY(stream(device, other).wait(flight.done[device]));
  return {};
}

// A graph's launch cannot wait for what is not in the graph (docs/cuda.md).
Status CudaLauncher::pass_gate(gpu::CudaStreamHandle on, size_t device, uint32_t blocks, int places, bool captured) {
  const auto before =
      CudaGate::of_process().ask(this, devices_[device].gpu->ordinal(), static_cast<int>(blocks), places);
  for (const gpu::OwnedEvent* done : before) {
    if (!captured) TUTTI_TRY(stream(device, on).wait(*done));
  }
  if (gates_[device]) return {};
  TUTTI_ASSIGN_OR_RETURN(gates_[device], gpu::make_event(devices_[device].gpu));
  return {};
}

// All that comes before the kernels on one device, whatever may fail.
Status CudaLauncher::make_ready(const std::vector<CutTurn>& turns, size_t device, bool several,
                                const std::optional<gpu::CudaCapture>& capture) {
  uint32_t blocks = 0;
  int places = INT32_MAX;
  for (const CutTurn& one : turns) {
    const Grid& grid = one.grids[device];
    TUTTI_ASSIGN_OR_RETURN(const int its,
                           places_for(grid, device, one.turn->proto, one.turn->threads, one.turn->shared_bytes));
    places = std::min(places, its);
    blocks = std::max(blocks, grid.blocks);
  }
  const Grid& first = turns.front().grids[device];
  TUTTI_TRY(wait_for_work_before(first, device, capture ? capture->id : 0));
  return several ? pass_gate(first.stream, device, blocks, places, capture.has_value()) : Status();
}

// The kernels on one device, and what comes after them there.
Status CudaLauncher::put(const std::vector<CutTurn>& turns, size_t device, CudaFlight& flight, uint64_t capture,
                         bool& begun) {
  const Grid& first = turns.front().grids[device];
  const gpu::CudaStream on = stream(device, first.stream);
  for (const CutTurn& one : turns) {
    const Grid& grid = one.grids[device];
    TUTTI_TRY(cuda::launch(*devices_[device].kernels, one.turn->proto, on, grid.blocks, one.turn->threads,
                           one.turn->shared_bytes, grid.launch));
    begun = true;
  }
  TUTTI_TRY(on.record(flight.done[device]));
  tails_[device] = {&flight.done[device], capture};
  if (waits_beyond(flight) && capture == 0) {
    TUTTI_TRY(on.record(gates_[device]));
    CudaGate::of_process().note(this, devices_[device].gpu->ordinal(), &gates_[device]);
  }
  return order_after(first, device, flight);
}

Status CudaLauncher::keep(CudaFlight& flight, const std::optional<gpu::CudaCapture>& capture) {
  flight.since = CudaFlight::Clock::now();
  if (!capture) {
    flying_.push_back(&flight);
    return {};
  }
  flight.graph_gone = std::make_shared<std::atomic<bool>>(false);
  captured_.push_back(&flight);
  auto held = std::make_unique<GraphGone>(flight.graph_gone);
  TUTTI_TRY(gpu::keep_with_graph(devices_.front().gpu, capture->graph, held.get(), graph_is_gone));
  (void)held.release();  // the graph's
  return {};
}

Status CudaLauncher::launch(CudaFlight& flight, std::span<Turn> turns, const std::optional<gpu::CudaCapture>& capture) {
  std::vector<CutTurn> cuts;
  uint32_t reports = 0;
  for (Turn& turn : turns) cuts.push_back({&turn, cut(flight, turn.parts, reports)});
  for (size_t device = 0; device < devices_.size(); ++device) {
    if (cuts.front().grids[device].parts.empty()) continue;
    flight.devices.push_back(device);
    if (flight.done[device]) continue;
    TUTTI_ASSIGN_OR_RETURN(flight.done[device], gpu::make_event(devices_[device].gpu));
  }
  // All that may fail comes before the first kernel, which the others would leave waiting.
  const bool several = waits_beyond(flight);
  const std::unique_lock<std::mutex> inside = several ? CudaGate::of_process().enter() : std::unique_lock<std::mutex>();
  for (const size_t device : flight.devices) TUTTI_TRY(make_ready(cuts, device, several, capture));
  Status status;
  size_t running = 0;
  for (size_t i = 0; i < flight.devices.size() && status.ok(); ++i) {
    bool begun = false;
    status = put(cuts, flight.devices[i], flight, capture ? capture->id : 0, begun);
    running += begun;
  }
  if (running == 0) return status;
  if (!status.ok()) stop();  // what runs would wait for the rest for ever
  flight.devices.resize(running);
  const Status kept = keep(flight, capture);
  return status.ok() ? kept : status;
}

// ---- copies ----

Status CudaLauncher::event_on(size_t device, gpu::OwnedEvent& event) const {
  if (event) return {};
  TUTTI_ASSIGN_OR_RETURN(event, gpu::make_event(devices_[device].gpu));
  return {};
}

// Every GPU of the flight has recorded its event; each waits for those of the others.
Status CudaLauncher::meet(const CudaFlight& flight, const std::vector<Grid>& grids,
                          const std::vector<gpu::OwnedEvent>& events) {
  for (const size_t device : flight.devices) {
    for (const size_t other : flight.devices) {
      if (other != device) TUTTI_TRY(stream(device, grids[device].stream).wait(events[other]));
    }
  }
  return {};
}

Status CudaLauncher::launch_copies(CudaFlight& flight, std::vector<CudaPart>& parts,
                                   const std::vector<std::vector<CudaCopy>>& copies,
                                   const std::optional<gpu::CudaCapture>& capture) {
  const uint64_t capture_id = capture ? capture->id : 0;
  uint32_t reports = 0;
  const std::vector<Grid> grids = cut(flight, parts, reports);
  for (size_t device = 0; device < devices_.size(); ++device) {
    if (grids[device].parts.empty()) continue;
    flight.devices.push_back(device);
    for (gpu::OwnedEvent* const event : {&flight.done[device], &flight.met[device], &flight.copied[device]})
      TUTTI_TRY(event_on(device, *event));
  }
  for (const size_t device : flight.devices) {
    TUTTI_TRY(wait_for_work_before(grids[device], device, capture_id));
    TUTTI_TRY(stream(device, grids[device].stream).record(flight.met[device]));
  }
  TUTTI_TRY(meet(flight, grids, flight.met));
  for (size_t i = 0; i < parts.size(); ++i) {
    const gpu::CudaStream on = stream(parts[i].device, grids[parts[i].device].stream);
    for (const CudaCopy& one : copies[i]) TUTTI_TRY(on.copy(one.to, one.from, one.bytes));
  }
  for (const size_t device : flight.devices)
    TUTTI_TRY(stream(device, grids[device].stream).record(flight.copied[device]));
  TUTTI_TRY(meet(flight, grids, flight.copied));
  for (const size_t device : flight.devices) {
    TUTTI_TRY(stream(device, grids[device].stream).record(flight.done[device]));
    tails_[device] = {&flight.done[device], capture_id};
    TUTTI_TRY(order_after(grids[device], device, flight));
  }
  return keep(flight, capture);
}

Status CudaLauncher::retire(const std::function<void(CudaFlight&)>& ended) {
  Status lost;
  while (!flying_.empty()) {
    CudaFlight& first = *flying_.front();
    bool done = true;
    for (const size_t device : first.devices) {
      const Result<bool> reached = gpu::reached(devices_[device].gpu, first.done[device]);
      if (!reached.ok()) {
        lost = reached.status();  // with its context: nothing runs there any more
      } else {
        done = done && *reached;
      }
    }
    if (!done && lost.ok()) break;
    ended(first);
    resting_.push_back(&first);
    flying_.pop_front();
  }
  for (size_t i = 0; i < captured_.size();) {
    if (!captured_[i]->graph_gone->load(std::memory_order_acquire)) {
      ++i;
      continue;
    }
    ended(*captured_[i]);
    resting_.push_back(std::exchange(captured_[i], captured_.back()));
    captured_.pop_back();
  }
  return lost;
}

void CudaLauncher::ask() { store_relaxed(control_->ask, control_->ask + 1); }

// Stepped: streams wait for words, which no kernel would write any more. Peers that have not ended yet may write lower
// ones again; who stops does so until nothing flies.
void CudaLauncher::stop() {
  store_relaxed(control_->end, uint64_t{1});
  constexpr uint64_t kLetGo = uint64_t{1} << 62;  // above all positions, also in the modular order of stream waits
  for (uint64_t i = 0; words_ != nullptr && i < word_count_; ++i) {
    auto& word = reinterpret_cast<cuda::PeerWords::Words*>(words_)[i];
    store_release(word.head.value, kLetGo);
    store_release(word.tail.value, kLetGo);
  }
}

// ---- stepped ----

const cuda::StepWait* CudaLauncher::waiting(const CudaFlight& flight) const {
  if (flight.waits.empty()) return nullptr;
  const Result<bool> begun = gpu::reached(devices_[flight.devices.front()].gpu, flight.begun);
  if (!begun.ok() || !*begun) return nullptr;
  const auto unmet = std::find_if(flight.waits.begin(), flight.waits.end(), [this](const cuda::StepWait& one) {
    return load_relaxed(*reinterpret_cast<const uint64_t*>(words_ + one.at)) < one.least;
  });
  return unmet == flight.waits.end() ? nullptr : &*unmet;
}

// The parts of a group as one launch.
void CudaLauncher::gather(CudaStepGroup& group, CudaFlight& flight) const {
  cuda::CudaWork* at = group.launch.few;
  if (group.parts.size() > static_cast<size_t>(cuda::kFewWorks))
    group.launch.works = at = flight.take<cuda::CudaWork>(group.parts.size());
  for (CudaPart* part : group.parts) {
    part->work.first_block = group.blocks;
    group.blocks += part->blocks;
    *at++ = part->work;
  }
  group.launch.work_count = static_cast<uint32_t>(group.parts.size());
  group.launch.begins = 1;
}

Status CudaLauncher::put_turn(CudaStepGroup& group, const cuda::StepTurn& turn, const gpu::CudaStream& on,
                              size_t device, CudaFlight& flight, unsigned threads, unsigned shared_bytes) {
  for (const cuda::StepWait& wait : turn.waits)
    TUTTI_TRY(on.wait_value(reinterpret_cast<uintptr_t>(words_on_gpu_ + wait.at), wait.least));
  flight.waits.insert(flight.waits.end(), turn.waits.begin(), turn.waits.end());
  group.launch.moves = turn.moves;
  TUTTI_TRY(cuda::launch(*devices_[device].kernels, cuda::KernelProto::Simple, on, group.blocks, threads, shared_bytes,
                         group.launch));
  group.launch.begins = 0;
  return {};
}

// A stream holds about a thousand launches; one more would wait in the driver, where no failure could end it.
Status CudaLauncher::pace(uint64_t turns, const gpu::CudaStream& on, const std::function<Status()>& goes_on) {
  constexpr uint64_t kTurns = 128;
  constexpr auto kPause = std::chrono::microseconds(50);
  if (turns % kTurns != 0) return {};
  gpu::OwnedEvent& pace = paces_[turns / kTurns % 2];
  if (!pace) {
    TUTTI_ASSIGN_OR_RETURN(pace, gpu::make_event(on.device()));
  }
  while (turns >= 2 * kTurns) {
    TUTTI_ASSIGN_OR_RETURN(const bool there, gpu::reached(on.device(), pace));
    if (there) break;
    TUTTI_TRY(goes_on());
    std::this_thread::sleep_for(kPause);
  }
  return on.record(pace);
}

Status CudaLauncher::put_steps(std::vector<CudaStepGroup>& groups, const gpu::CudaStream& on, size_t device,
                               CudaFlight& flight, unsigned threads, unsigned shared_bytes,
                               const std::function<Status()>& goes_on) {
  uint64_t turns = 0;
  for (bool more = true; more;) {
    more = false;
    for (CudaStepGroup& group : groups) {
      const cuda::StepTurn turn = cuda::next_turn(group.walks, positions_);
      if (turn.moves == 0) continue;
      more = true;
      TUTTI_TRY(put_turn(group, turn, on, device, flight, threads, shared_bytes));
      TUTTI_TRY(pace(++turns, on, goes_on));
    }
  }
  return {};
}

Status CudaLauncher::launch_stepped(CudaFlight& flight, std::vector<CudaPart>& parts,
                                    std::vector<CudaStepGroup>& groups, unsigned threads, unsigned shared_bytes,
                                    const std::function<Status()>& goes_on) {
  const size_t device = parts.front().device;
  TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::CudaCapture> capture, capture_of(parts));
  if (capture)
    return invalid_usage(
        "calls on GPUs that several processes share cannot be captured: their streams wait for values that other "
        "processes write; give each process a GPU of its own, or drive all ranks from one process");
  uint32_t reports = 0;
  Grid grid = std::move(cut(flight, parts, reports)[device]);
  for (CudaStepGroup& group : groups) gather(group, flight);
  flight.devices.push_back(device);
  for (gpu::OwnedEvent* const event : {&flight.done[device], &flight.begun}) {
    if (*event) continue;
    TUTTI_ASSIGN_OR_RETURN(*event, gpu::make_event(devices_[device].gpu));
  }
  const gpu::CudaStream on = stream(device, grid.stream);
  TUTTI_TRY(wait_for_work_before(grid, device, 0));
  TUTTI_TRY(on.record(flight.begun));
  flight.since = CudaFlight::Clock::now();
  Status status = put_steps(groups, on, device, flight, threads, shared_bytes, goes_on);
  if (!status.ok()) stop();  // the positions are not those of the ends any more
  Status marked = on.record(flight.done[device]);
  if (marked.ok()) {
    tails_[device] = {&flight.done[device], 0};
    marked = order_after(grid, device, flight);
  }
  const Status kept = keep(flight, std::nullopt);
  for (const Status& one : {marked, kept}) {
    if (status.ok()) status = one;
  }
  return status;
}

}  // namespace tutti
