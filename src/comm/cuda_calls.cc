// SPDX-License-Identifier: Apache-2.0
// Calls of a team: brought by threads, matched, launched.
#include <algorithm>
#include <bit>
#include <utility>

#include "base/deadline.h"
#include "base/env.h"
#include "base/log.h"
#include "comm/call_shape.h"
#include "comm/communicator.h"
#include "comm/cuda_team.h"

namespace tutti {

struct CudaSubmission {
  using Clock = std::chrono::steady_clock;
  struct Order {  // a stream of this thread that has to wait for a launch by another
    size_t device;
    gpu::CudaStreamHandle stream;
    const gpu::OwnedEvent* done;
  };
  std::vector<std::unique_ptr<CudaTeam::Pending>> calls;
  size_t waiting = 0;  // not launched yet
  Status status;       // the first failure among them
  std::vector<Order> orders;
};

namespace {

constexpr int kMostKnownBuffers = 64;

// Threads of a block: one for each 16 bytes of a slice, within what kernels take.
unsigned threads_for(const Plan& plan, uint64_t bytes) {
  if (env().cuda_threads > 0) {
    const auto wanted = static_cast<unsigned>(env().cuda_threads) / cuda::kWarpThreads * cuda::kWarpThreads;
    return std::clamp<unsigned>(wanted, cuda::kLeastThreads, cuda::kMostThreads);
  }
  constexpr uint64_t kEach = 16, kLeast = 64;
  const uint64_t slice = std::min(std::max<uint64_t>(bytes, 1), plan.slice_bytes);
  return static_cast<unsigned>(std::clamp<uint64_t>(std::bit_ceil(slice / kEach), kLeast, cuda::kMostThreads));
}

bool moves_nothing(const Request& request) { return request.tables == nullptr && request.count == 0; }

// Bytes of tables in the memory of a flight, as take() rounds them.
uint64_t table_bytes(const Request& request, int n) {
  return request.tables == nullptr ? 0 : 4 * ((static_cast<uint64_t>(n) * sizeof(uint64_t) + 15) / 16 * 16);
}
const uint64_t* keep(const std::vector<uint64_t>& table, CudaFlight& flight) {
  if (table.empty()) return nullptr;
  auto* const at = flight.take<uint64_t>(table.size());
  std::copy(table.begin(), table.end(), at);
  return at;
}

// What a rank reads and writes of its two buffers, in bytes; a table of blocks is taken at its word.
uint64_t side_bytes(const Layout& layout, int blocks) {
  if (blocks == 0) return 0;
  switch (layout.kind) {
    case Layout::Kind::Region:
      return layout.length;
    case Layout::Kind::Strided:
      return layout.length * static_cast<uint64_t>(blocks);
    case Layout::Kind::Table:
      break;
  }
  return *std::max_element(layout.lengths, layout.lengths + blocks);
}

}  // namespace

// ---- where buffers are ----

Result<const std::byte*> CudaTeam::reach(int rank, const void* buffer, const char* which, const Request& request) {
  const auto at = reinterpret_cast<uintptr_t>(buffer);
  const gpu::CudaDevicePtr& mine = device(rank).gpu;
  for (const KnownBuffer& known : known_buffers_) {
    if (at >= known.start && at < known.end && known.device == mine->ordinal())
      return static_cast<const std::byte*>(buffer);
  }
  TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::PointerKind> kind, gpu::pointer_kind(mine, buffer));
  if (!kind.has_value()) {
    // Grace Hopper, or a kernel that hands pages over to GPUs: all memory of the process is theirs.
    if (mine->attribute(gpu::kCudaPageableMemoryAccess) != 0) return static_cast<const std::byte*>(buffer);
    return invalid_argument(
        "rank {}: the {} of {} is pageable host memory, which CUDA device {} cannot use: pass memory of the device "
        "(cudaMalloc), managed memory (cudaMallocManaged), or register it (cudaHostRegister)",
        rank, which, describe(request), mine->ordinal());
  }
  if (kind->on_device && !kind->managed && kind->device != mine->ordinal()) {
    const bool peer = std::any_of(devices_.begin(), devices_.end(), [&](const TeamDevice& one) {
      return one.gpu->ordinal() == kind->device && maps(rank, one);
    });
    if (!peer)
      return invalid_argument(
          "rank {}: the {} of {} is memory of CUDA device {}, but the rank's device is {}: pass memory of that device",
          rank, which, describe(request), kind->device, mine->ordinal());
  }
  if (kind->device_address == 0)
    return invalid_argument(
        "rank {}: the {} of {} is host memory that was registered without a mapping for devices: register it with "
        "cudaHostRegisterMapped",
        rank, which, describe(request));
  // Memory of a device stays that until the address is given to something else of a device; of host memory it is not
  // known when it is unregistered.
  if (kind->on_device && !kind->managed && kind->bytes > 0) {
    if (known_buffers_.size() == kMostKnownBuffers) known_buffers_.erase(known_buffers_.begin());
    known_buffers_.push_back({kind->start, kind->start + kind->bytes, mine->ordinal()});
  }
  return reinterpret_cast<const std::byte*>(kind->device_address);
}

Status CudaTeam::resolve(Pending& pending) {
  const int rank = pending.call.rank;
  const Request& request = pending.call.request;
  Communicator& comm = *comms_[index(rank)];
  TUTTI_TRY(gpu::CudaStream(device(rank).gpu, pending.call.stream).check_device());
  if (request.output == comm.barrier_word()) {
    pending.input = pending.output = barrier_words_[index(rank)];
    pending.input_bytes = pending.output_bytes = request.bytes();
    return {};
  }
  const BlockTables* const tables = request.tables.get();
  const CollLayout layout = layout_of(
      request, n(), rank, {tables ? tables->in_offsets.data() : nullptr, tables ? tables->in_lengths.data() : nullptr},
      {tables ? tables->out_offsets.data() : nullptr, tables ? tables->out_lengths.data() : nullptr});
  const bool sends = request.point_to_point() && request.is_send;
  const bool receives = request.point_to_point() && !request.is_send;
  const uint64_t in = receives ? 0 : sends ? request.bytes() : side_bytes(layout.input, layout.input_blocks);
  const uint64_t out = sends ? 0 : receives ? request.bytes() : side_bytes(layout.output, layout.output_blocks);
  pending.input_bytes = in;
  pending.output_bytes = out;
  if (in > 0) {
    TUTTI_ASSIGN_OR_RETURN(pending.input, reach(rank, request.input, sends ? "buffer" : "send buffer", request));
  }
  if (out > 0) {
    TUTTI_ASSIGN_OR_RETURN(const std::byte* const to,
                           reach(rank, request.output, receives ? "buffer" : "receive buffer", request));
    pending.output = const_cast<std::byte*>(to);
  }
  return {};
}

// ---- plans ----

Result<const CudaTeam::Planned*> CudaTeam::plan_of(const Request& request, Buffers buffers) {
  const std::tuple key{request.kind(), request.bytes(), buffers};
  if (const auto known = plans_.find(key); known != plans_.end()) return &known->second;
  TUTTI_ASSIGN_OR_RETURN(Planned planned, make_planned(request, buffers));
  TUTTI_TRY(finish_stores());
  const Plan& plan = planned.plan.plan;
  log_info(Subsystem::Plan, "{}: {} -> {}/{}, {} channel(s), slices of {} bytes, {} block(s) for each rank, on CUDA",
           first_comm().name(), describe(request), name(plan.algo), name(plan.proto), plan.channels, plan.slice_bytes,
           planned.plan.block_count);
  return &plans_.emplace(key, std::move(planned)).first->second;
}

Result<CudaTeam::Planned> CudaTeam::make_planned(const Request& request, Buffers buffers) {
  Summary summary = first_comm().summary();
  Shape shape = shape_of(request);
  summary.windows = buffers != Buffers::Anywhere;
  summary.single_copy = buffers == Buffers::InWindows || buffers == Buffers::InWindowsInPlace;
  summary.copies = summary.single_copy;
  shape.in_place = buffers == Buffers::InWindowsInPlace;
  ScheduleArgs args{.n = n(), .root = request.root, .hosts = summary.ranks().hosts};
  TUTTI_ASSIGN_OR_RETURN(const Plan plan,
                         seats_.stepped() ? stepped_plan(summary, shape, args) : make_plan(summary, shape));
  Planned planned;
  if (plan.copies) {
    planned.plan.plan = plan;
    planned.plan.proto = cuda::KernelProto::Remote;
    planned.plan.ranks.resize(static_cast<size_t>(n()));
    return planned;
  }
  TUTTI_ASSIGN_OR_RETURN(planned.plan, place(plan, args));
  if (plan.proto != Proto::Rma || buffers != Buffers::Unknown) return planned;
  TUTTI_ASSIGN_OR_RETURN(const Plan otherwise, plan_after_refusal(summary, shape));
  TUTTI_ASSIGN_OR_RETURN(cuda::PlacedPlan placed, place(otherwise, args));
  planned.otherwise = std::make_unique<cuda::PlacedPlan>(std::move(placed));
  return planned;
}

Result<cuda::PlacedPlan> CudaTeam::place(const Plan& plan, ScheduleArgs args) {
  args.user = plan.user;
  return cuda::place_collective(plan, args, stores_, *ends_, *scratch_, seats_.stepped());
}

// Alike on all ranks, as windows come and go at the same place among the calls. Where ranks are in several processes
// nobody knows all buffers.
CudaTeam::Buffers CudaTeam::buffers_of(const Set& set) const {
  if (!windows_->any() || set.front()->call.request.tables != nullptr) return Buffers::Anywhere;
  if (seats_.several_processes()) return Buffers::Unknown;
  bool in_place = false;
  for (const Pending* one : set) {
    const auto in_window = [&](const void* at, uint64_t bytes) {
      return bytes == 0 || windows_->find(one->call.rank, at, bytes).number != 0;
    };
    if (!in_window(one->input, one->input_bytes) || !in_window(one->output, one->output_bytes))
      return Buffers::Anywhere;
    in_place |= one->input == one->output && one->input_bytes > 0 && one->output_bytes > 0;
  }
  return in_place ? Buffers::InWindowsInPlace : Buffers::InWindows;
}

// Remote access: what peers are told of the buffers.
void CudaTeam::open_buffers(cuda::CudaWork& work, const Pending& pending) const {
  work.windows = windows_->table(device_index_[index(pending.call.rank)]);
  Opening& opening = work.opening;
  opening.in_place = pending.input == pending.output && pending.input_bytes > 0 && pending.output_bytes > 0;
  opening.unused = (pending.input_bytes == 0 ? 1u : 0u) | (pending.output_bytes == 0 ? 2u : 0u);
  const auto place = [&](const void* at, uint64_t bytes, uint64_t& address, uint32_t& window) {
    address = reinterpret_cast<uint64_t>(at);
    if (bytes == 0 || work.windows.same_space) return;
    const CudaWindowBook::Place found = windows_->find(pending.call.rank, at, bytes);
    if (found.number == 0) return;
    window = found.number;
    address = found.offset;
  };
  place(pending.input, pending.input_bytes, opening.input, opening.input_window);
  place(pending.output, pending.output_bytes, opening.output, opening.output_window);
}

Result<const cuda::PlacedPlan*> CudaTeam::plan_of_message(const Pending& pending) {
  const Request& request = pending.call.request;
  // Between processes all messages go by one protocol: a group is then one launch, whatever its sizes.
  const Summary& summary = seats_.waits_for_others() ? message_summary_ : comms_[index(pending.call.rank)]->summary();
  TUTTI_ASSIGN_OR_RETURN(const Plan plan, make_plan(summary, shape_of(request)));
  const std::tuple key{pending.call.rank, request.root, request.is_send, plan.proto,
                       plan.slice_bytes * 64 + static_cast<uint64_t>(plan.channels)};
  if (const auto known = message_plans_.find(key); known != message_plans_.end()) return &known->second;
  const ScheduleArgs args{.me = pending.call.rank,
                          .n = n(),
                          .root = request.root,
                          .part = request.is_send ? 0 : 1,
                          .hosts = summary.ranks().hosts};
  TUTTI_ASSIGN_OR_RETURN(cuda::PlacedPlan placed, cuda::place_message(plan, args, stores_, *ends_, seats_.stepped()));
  TUTTI_TRY(finish_stores());
  return &message_plans_.emplace(key, std::move(placed)).first->second;
}

// The best plan whose steps the host can lay out beforehand. Alike on all ranks. What the user restricts the planner to
// may have none: the call has to run all the same.
Result<Plan> CudaTeam::stepped_plan(const Summary& summary, const Shape& shape, const ScheduleArgs& args) const {
  Summary free = summary;
  free.algorithms = "auto";
  free.schedules.clear();
  free.min_channels = 0;
  free.max_channels = 1;
  for (const Summary* const one : {&summary, static_cast<const Summary*>(&free)}) {
    TUTTI_ASSIGN_OR_RETURN(const std::vector<Candidate> candidates, plan_candidates(*one, shape));
    for (const Candidate& candidate : candidates) {
      ScheduleArgs its = args;
      its.user = candidate.plan.user;
      if (candidate.fits && candidate.plan.proto == Proto::Simple && cuda::walks_alike(candidate.plan, its))
        return candidate.plan;
    }
  }
  return error(Code::InternalError, "no plan of {} ranks goes in steps", args.n);
}

// ---- launches ----

void CudaTeam::add_walks(CudaStepGroup& group, CudaPart& part, const cuda::PlacedPlan& plan) const {
  group.parts.push_back(&part);
  for (const cuda::WalkedBlock& block : plan.walked) group.walks.emplace_back(block, part.work.layout, part.rank, n());
}

Status CudaTeam::launch_in_steps(CudaFlight& flight, std::vector<CudaPart>& parts, std::vector<CudaStepGroup>& groups,
                                 unsigned threads, unsigned shared_bytes) {
  const auto goes_on = [&]() -> Status {
    if (launcher_->stopped()) return remote_error("a call was ended while its steps were launched");
    TUTTI_TRY(look_at_peers());
    const auto waited = CudaFlight::Clock::now() - flight.since;
    if (env().timeout < 0 || waited < std::chrono::milliseconds(env().timeout)) return {};
    const cuda::StepWait* const step = launcher_->waiting(flight);
    if (step == nullptr) return {};
    return remote_error(
        "rank {} waits for rank {} in step {} of a call on CUDA device {}, for longer than TUTTI_TIMEOUT",
        parts.front().rank, step->peer, step->step, device_of(parts.front().rank));
  };
  return launcher_->launch_stepped(flight, parts, groups, threads, shared_bytes, goes_on);
}

Result<std::optional<gpu::CudaCapture>> CudaTeam::capture_of(const std::vector<CudaPart>& parts) const {
  TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::CudaCapture> capture, launcher_->capture_of(parts));
  if (capture && seats_.some_on_cpu())
    return invalid_usage(
        "calls of a communicator with ranks on the CPU cannot be captured: those ranks call, and do not replay; "
        "capture calls of a communicator whose ranks are all on GPUs (tuttiCommSplit)");
  return capture;
}

CudaPart CudaTeam::part_of(Pending& pending, const cuda::PlacedPlan& plan, CudaFlight& flight) {
  const Request& request = pending.call.request;
  const int rank = pending.call.rank;
  const cuda::PlacedPlan::OfRank& placed = plan.ranks[index(rank)];
  CudaPart part;
  part.rank = rank;
  part.device = device_index_[index(rank)];
  part.stream = pending.call.stream;
  part.ready = pending.waits ? &pending.ready : nullptr;
  part.blocks = plan.block_count;
  cuda::CudaWork& work = part.work;
  work.blocks = placed.blocks;
  work.input = pending.input;
  work.output = pending.output;
  work.scratch = placed.scratch;
  work.me = rank;
  work.n = n();
  work.identity = call_identity(request);
  BlockTable in{}, out{};
  if (const BlockTables* tables = request.tables.get()) {
    in = {keep(tables->in_offsets, flight), keep(tables->in_lengths, flight)};
    out = {keep(tables->out_offsets, flight), keep(tables->out_lengths, flight)};
  }
  work.layout = layout_of(request, n(), rank, in, out);
  if (reduces(request.coll)) {
    work.type = request.type;
    work.op = request.op;
    if (request.prescaled) work.pre = request.scale;
    work.pre_at = request.scale_at;
    if (request.average) work.post = Scale::divide(static_cast<uint32_t>(n()));
  }
  if (plan.proto == cuda::KernelProto::Remote) open_buffers(work, pending);
  return part;
}

// Books, kept once the kernels are on their way.
void CudaTeam::note(Pending& pending, const Plan& plan, CudaFlight& flight, uint32_t blocks, bool may_be_refused) {
  const Request& request = pending.call.request;
  Communicator& comm = *comms_[index(pending.call.rank)];
  const uint32_t identity = call_identity(request);
  const Communicator::CallMark mark = comm.posted(request, identity, plan);
  const uint32_t first = flight.notes.empty() ? 0 : flight.notes.back().first + flight.notes.back().count;
  flight.notes.push_back({pending.call.rank, first, blocks, board_call(request, identity, mark.number),
                          request.point_to_point(), may_be_refused, mark.number, mark.record});
}

// The reports of the launch that does what the first may not have done: of the same calls.
void CudaTeam::note_otherwise(const Set& set, const cuda::PlacedPlan& otherwise, CudaFlight& flight) {
  for (size_t i = 0; i < set.size(); ++i) {
    CudaFlight::Note more = flight.notes[i];
    more.first = flight.notes.back().first + flight.notes.back().count;
    more.count = otherwise.block_count;
    more.may_be_refused = false;
    more.number = more.record = 0;
    flight.notes.push_back(more);
  }
}

// Calls are numbered alike on all ranks, whatever they are on.
void CudaTeam::note_empty(const Pending& pending) {
  const Request& request = pending.call.request;
  Communicator& comm = *comms_[index(pending.call.rank)];
  Plan nothing;
  nothing.channels = 0;
  comm.ended(request.point_to_point(), comm.posted(request, call_identity(request), nothing));
}

Status CudaTeam::check_alike(const Set& set) const {
  const Request& first = set.front()->call.request;
  const auto alike = [&](const Request& other) {
    return other.kind() == first.kind() && (first.tables != nullptr || other.count == first.count);
  };
  for (const Pending* one : set) {
    if (alike(one->call.request)) continue;
    return remote_error(
        "{}: rank {} calls {} where rank {} calls {}: all ranks have to make the same calls in the same order",
        comms_[index(one->call.rank)]->name(), one->call.rank, describe(one->call.request), set.front()->call.rank,
        describe(first));
  }
  return {};
}

Status CudaTeam::launch_collective(Set& set, CudaFlight*& flight) {
  const Request& request = set.front()->call.request;
  if (moves_nothing(request)) {
    // Ranks on the CPU connect all the same, and wait for those whom they connect to.
    if (seats_.some_on_cpu()) TUTTI_TRY(plan_of(request, buffers_of(set)).status());
    for (const Pending* one : set) note_empty(*one);
    return {};
  }
  TUTTI_ASSIGN_OR_RETURN(const Planned* const planned, plan_of(request, buffers_of(set)));
  if (planned->plan.plan.copies) return launch_copies(set, planned->plan, flight);
  const cuda::PlacedPlan &plan = planned->plan, *const otherwise = planned->otherwise.get();
  uint64_t tables = 0;
  for (const Pending* one : set) tables += table_bytes(one->call.request, n());
  const uint32_t blocks = plan.block_count + (otherwise != nullptr ? otherwise->block_count : 0);
  TUTTI_ASSIGN_OR_RETURN(CudaFlight* const prepared,
                         launcher_->prepare(tables, set.size(), blocks * static_cast<uint32_t>(set.size())));
  const auto turn_of = [&](const cuda::PlacedPlan& its) {
    CudaLauncher::Turn turn;
    for (Pending* one : set) turn.parts.push_back(part_of(*one, its, *prepared));
    turn.proto = its.proto;
    turn.threads = threads_for(its.plan, request.tables == nullptr ? request.bytes() : its.plan.slice_bytes);
    turn.shared_bytes = its.shared_bytes;
    return turn;
  };
  std::vector<CudaLauncher::Turn> turns{turn_of(plan)};
  if (plan.stepped) {
    std::vector<CudaStepGroup> group(1);
    add_walks(group.front(), turns.front().parts.front(), plan);
    TUTTI_TRY(
        launch_in_steps(*prepared, turns.front().parts, group, turns.front().threads, turns.front().shared_bytes));
  } else {
    if (otherwise != nullptr) {
      turns.push_back(turn_of(*otherwise));
      // All blocks of a rank find the same.
      for (size_t i = 0; i < set.size(); ++i)
        turns.back().parts[i].work.after_refusal = prepared->reports + i * plan.block_count;
    }
    TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::CudaCapture> capture, capture_of(turns.front().parts));
    TUTTI_TRY(launcher_->launch(*prepared, turns, capture));
  }
  for (Pending* one : set) note(*one, plan.plan, *prepared, plan.block_count, otherwise != nullptr);
  if (otherwise != nullptr) note_otherwise(set, *otherwise, *prepared);
  flight = prepared;
  return {};
}

// By copy engines: each rank's part of the schedule, on its GPU.
Status CudaTeam::launch_copies(Set& set, const cuda::PlacedPlan& plan, CudaFlight*& flight) {
  std::vector<CudaBuffers> buffers(comms_.size());
  for (const Pending* one : set) buffers[index(one->call.rank)] = {one->input, one->output};
  TUTTI_ASSIGN_OR_RETURN(CudaFlight* const prepared, launcher_->prepare(0, set.size(), 0));
  std::vector<CudaPart> parts;
  std::vector<std::vector<CudaCopy>> copies;
  for (Pending* one : set) {
    parts.push_back(part_of(*one, plan, *prepared));
    const ScheduleArgs args{.me = one->call.rank, .n = n(), .root = one->call.request.root};
    copies.push_back(copies_of(plan.plan, args, parts.back().work.layout, buffers));
  }
  TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::CudaCapture> capture, capture_of(parts));
  TUTTI_TRY(launcher_->launch_copies(*prepared, parts, copies, capture));
  for (Pending* one : set) note(*one, plan.plan, *prepared, 0);
  flight = prepared;
  return {};
}

// Pairs of different ends and of one protocol, side by side.
Status CudaTeam::launch_messages(std::vector<Message>& wave, CudaFlight*& flight) {
  uint32_t blocks = 0, shared = 0;
  unsigned threads = cuda::kLeastThreads;
  auto proto = cuda::KernelProto::Simple;
  for (const Message& one : wave) {
    blocks += one.blocks();
    one.for_halves([&](const Pending& half, const cuda::PlacedPlan* plan) {
      proto = plan->proto;
      shared = std::max(shared, plan->shared_bytes);
      threads = std::max(threads, threads_for(plan->plan, half.call.request.bytes()));
    });
  }
  TUTTI_ASSIGN_OR_RETURN(CudaFlight* const prepared, launcher_->prepare(0, wave.size() * 2, blocks));
  std::vector<CudaPart> parts;
  for (const Message& one : wave) {
    one.for_halves(
        [&](Pending& half, const cuda::PlacedPlan* plan) { parts.push_back(part_of(half, *plan, *prepared)); });
  }
  if (seats_.stepped()) {
    std::vector<CudaStepGroup> groups(2);  // sends, receives
    auto part = parts.begin();
    for (const Message& one : wave) {
      one.for_halves([&](const Pending& half, const cuda::PlacedPlan* plan) {
        add_walks(groups[half.call.request.is_send ? 0 : 1], *part++, *plan);
      });
    }
    std::erase_if(groups, [](const CudaStepGroup& group) { return group.parts.empty(); });
    TUTTI_TRY(launch_in_steps(*prepared, parts, groups, threads, shared));
  } else {
    TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::CudaCapture> capture, capture_of(parts));
    CudaLauncher::Turn turn{std::move(parts), proto, threads, shared};
    TUTTI_TRY(launcher_->launch(*prepared, std::span(&turn, 1), capture));
  }
  for (const Message& one : wave) {
    one.for_halves(
        [&](Pending& half, const cuda::PlacedPlan* plan) { note(half, plan->plan, *prepared, plan->block_count); });
  }
  flight = prepared;
  return {};
}

// A rank's message to itself, both halves of which its own thread has brought.
Status CudaTeam::copy_to_self(Message& message) {
  const Request& sent = message.send->call.request;
  const TeamDevice& here = device(message.send->call.rank);
  const gpu::CudaStream from(here.gpu, message.send->call.stream), to(here.gpu, message.receive->call.stream);
  const bool apart = from.handle() != to.handle();
  gpu::OwnedEvent& join = message.send->ready;
  if (apart) {
    TUTTI_ASSIGN_OR_RETURN(join, gpu::make_event(here.gpu));
    TUTTI_TRY(from.record(join));
    TUTTI_TRY(to.wait(join));
  }
  if (sent.bytes() > 0 && message.send->input != message.receive->output)
    TUTTI_TRY(to.copy(reinterpret_cast<uintptr_t>(message.receive->output),
                      reinterpret_cast<uintptr_t>(message.send->input), sent.bytes()));
  if (!apart) return {};
  TUTTI_TRY(to.record(join));
  return from.wait(join);
}

// ---- matching ----

void CudaTeam::launched(Pending& pending, const CudaFlight* flight, const CudaSubmission& mine, const Status& status) {
  CudaSubmission& by = *pending.by;
  --by.waiting;
  if (by.status.ok()) by.status = status;
  if (&by == &mine) return;
  if (flight != nullptr && status.ok()) {
    const size_t at = device_index_[index(pending.call.rank)];
    by.orders.push_back({at, pending.call.stream, &flight->done[at]});
  }
  changed_.notify_all();
}

void CudaTeam::match(CudaSubmission& mine) {
  const auto complete = [this] {
    return std::all_of(locals_.begin(), locals_.end(), [this](int rank) { return !queues_[index(rank)].empty(); });
  };
  while (failure_.ok() && complete()) {
    Set set;
    for (const int rank : locals_) {
      set.push_back(queues_[index(rank)].front());
      queues_[index(rank)].pop_front();
    }
    CudaFlight* flight = nullptr;
    Status status = check_alike(set);
    const bool alike = status.ok();
    if (alike) status = launch_collective(set, flight);
    for (Pending* one : set) launched(*one, flight, mine, status);
    if (!alike || launcher_->stopped() || status.code() == Code::CudaError) fail(status);
  }
  if (failure_.ok()) match_messages(mine);
}

Status CudaTeam::check_alike(const Message& message) const {
  if (message.send == nullptr || message.receive == nullptr) return {};
  const Request &sent = message.send->call.request, &received = message.receive->call.request;
  if (sent.bytes() == received.bytes() && sent.type == received.type) return {};
  return remote_error("rank {} sends {} to rank {}, which receives {}: give both the same count and type",
                      message.send->call.rank, describe(sent), message.receive->call.rank, describe(received));
}

Status CudaTeam::plan_message(Message& message) {
  if (message.send != nullptr) {
    TUTTI_ASSIGN_OR_RETURN(message.send_plan, plan_of_message(*message.send));
  }
  if (message.receive != nullptr) {
    TUTTI_ASSIGN_OR_RETURN(message.receive_plan, plan_of_message(*message.receive));
  }
  return {};
}

void CudaTeam::match_messages(CudaSubmission& mine) {
  for (;;) {
    // One of each pair of ranks at a time: two would use the same ends.
    std::map<cuda::KernelProto, std::vector<Message>> waves;
    std::vector<Message> own;
    bool any = false;
    Status status;
    for (auto at = lanes_.begin(); at != lanes_.end();) {
      const auto [from, to] = at->first;
      Lane& lane = at->second;
      const bool sends = !lane.sends.empty(), receives = !lane.receives.empty();
      if ((!sends && is_here(from)) || (!receives && is_here(to)) || (!sends && !receives)) {
        at = sends || receives ? std::next(at) : lanes_.erase(at);
        continue;
      }
      any = true;
      Message message;
      if (sends) {
        message.send = lane.sends.front();
        lane.sends.pop_front();
      }
      if (receives) {
        message.receive = lane.receives.front();
        lane.receives.pop_front();
      }
      if (status.ok()) status = check_alike(message);
      const bool moves = from != to && message.request().count > 0;
      // As above: ranks on the CPU connect all the same.
      if (status.ok() && (moves || (from != to && seats_.some_on_cpu()))) status = plan_message(message);
      const cuda::PlacedPlan* const plan = message.send_plan != nullptr ? message.send_plan : message.receive_plan;
      (plan != nullptr && moves ? waves[plan->proto] : own).push_back(message);
      ++at;
    }
    if (!any) return;
    const auto end = [&](Message& message, const CudaFlight* flight, const Status& how) {
      message.for_halves([&](Pending& half, const cuda::PlacedPlan*) { launched(half, flight, mine, how); });
    };
    for (Message& message : own) {
      const bool to_self = message.send != nullptr && message.receive != nullptr &&
                           message.send->call.rank == message.receive->call.rank;
      if (status.ok() && to_self) status = copy_to_self(message);
      if (status.ok() && !to_self)
        message.for_halves([&](Pending& half, const cuda::PlacedPlan*) { note_empty(half); });
      end(message, nullptr, status);
    }
    for (auto& [proto, wave] : waves) {
      for (size_t begin = 0; begin < wave.size();) {
        std::vector<Message> some;
        uint32_t blocks = 0;
        for (; begin < wave.size(); ++begin) {
          const uint32_t more = wave[begin].blocks();
          if (!some.empty() && blocks + more > sizes_.most_message_blocks) break;
          blocks += more;
          some.push_back(wave[begin]);
        }
        CudaFlight* flight = nullptr;
        if (status.ok()) status = launch_messages(some, flight);
        for (Message& message : some) end(message, flight, status);
      }
    }
    if (status.ok()) continue;
    if (launcher_->stopped() || status.code() == Code::CudaError || status.code() == Code::RemoteError) fail(status);
    return;
  }
}

Result<std::shared_ptr<CudaSubmission>> CudaTeam::enqueue(std::vector<Call> calls) {
  const std::lock_guard lock(mutex_);
  const gpu::AllowedWhileCapturing allowed(devices_.front().gpu->cuda());
  TUTTI_TRY(look());
  auto mine = std::make_shared<CudaSubmission>();
  for (Call& call : calls) {
    auto pending = std::make_unique<Pending>();
    pending->call = std::move(call);
    pending->by = mine.get();
    const Status usable = resolve(*pending);
    if (usable.code() == Code::CudaError) fail(usable);  // an argument error is the caller's alone
    TUTTI_TRY(usable);
    mine->calls.push_back(std::move(pending));
  }
  mine->waiting = mine->calls.size();
  for (const auto& one : mine->calls) {
    const Request& request = one->call.request;
    const int me = one->call.rank;
    if (!request.point_to_point()) {
      queues_[index(me)].push_back(one.get());
    } else if (request.is_send) {
      lanes_[{me, request.root}].sends.push_back(one.get());
    } else {
      lanes_[{request.root, me}].receives.push_back(one.get());
    }
  }
  match(*mine);
  watch_wakes_.notify_all();
  if (bridge_ != nullptr) bridge_->wake();
  if (mine->waiting == 0 || !failure_.ok()) return mine;
  const Status marked = mark_places(*mine);
  if (marked.ok()) return mine;
  withdraw(*mine);
  return marked;
}

// The calls of `mine` that wait for other ranks: their places in the streams, which only this thread may name.
Status CudaTeam::mark_places(CudaSubmission& mine) {
  for (const auto& one : mine.calls) {
    if (!queued(*one)) continue;
    const TeamDevice& here = device(one->call.rank);
    const gpu::CudaStream stream(here.gpu, one->call.stream);
    TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::CudaCapture> capture, stream.capture());
    if (capture)
      return invalid_usage(
          "rank {}: {} is being captured, but not all ranks it needs have called in this group: a call that is "
          "captured "
          "needs the calls of all its ranks between the same tuttiGroupStart and tuttiGroupEnd",
          one->call.rank, describe(one->call.request));
    if (one->call.request.point_to_point() && one->call.request.root == one->call.rank)
      return invalid_usage(
          "rank {} sends to or receives from itself without the other half: put each send to oneself and its receive "
          "into "
          "the same group",
          one->call.rank);
    TUTTI_ASSIGN_OR_RETURN(one->ready, gpu::make_event(here.gpu));
    TUTTI_TRY(stream.record(one->ready));
    one->waits = true;
  }
  return {};
}

bool CudaTeam::queued(const Pending& pending) const {
  const auto in = [&](const std::deque<Pending*>& queue) {
    return std::find(queue.begin(), queue.end(), &pending) != queue.end();
  };
  const Request& request = pending.call.request;
  if (!request.point_to_point()) return in(queues_[index(pending.call.rank)]);
  const int me = pending.call.rank;
  const auto lane = lanes_.find(request.is_send ? std::pair{me, request.root} : std::pair{request.root, me});
  return lane != lanes_.end() && in(request.is_send ? lane->second.sends : lane->second.receives);
}

void CudaTeam::withdraw(CudaSubmission& submission) {
  const auto drop = [&](std::deque<Pending*>& queue) {
    std::erase_if(queue, [&](const Pending* one) { return one->by == &submission; });
  };
  for (auto& queue : queues_) drop(queue);
  for (auto& [pair, lane] : lanes_) {
    drop(lane.sends);
    drop(lane.receives);
  }
}

// Which ranks the first call that waits is missing, in words; `gone`: whether one of them will never call.
std::string CudaTeam::missing_for(const CudaSubmission& submission, bool& gone) const {
  for (const auto& one : submission.calls) {
    if (!queued(*one)) continue;
    const Request& request = one->call.request;
    std::string who;
    for (const int rank : locals_) {
      const bool missing = request.point_to_point() ? rank == request.root : queues_[index(rank)].empty();
      if (!missing) continue;
      who += fmt::format("{}{}", who.empty() ? "" : ", ", rank);
      gone = gone || left_[index(rank)];
    }
    return fmt::format("{}: rank {} waits in {} for the call of rank(s) {}", comms_[index(one->call.rank)]->name(),
                       one->call.rank, describe(request), who);
  }
  return {};
}

bool CudaTeam::is_launched(const CudaSubmission& submission) {
  const std::lock_guard lock(mutex_);
  return submission.waiting == 0 || !failure_.ok();
}

Status CudaTeam::wait(CudaSubmission& submission) {
  constexpr auto kLookEvery = std::chrono::milliseconds(20);
  const Deadline deadline = Deadline::in_ms(env().timeout), warning = Deadline::in_ms(env().warn_after);
  constexpr const char* kRemedy =
      "ranks on CUDA devices call in one group (tuttiGroupStart), or each from a thread of its own";
  std::unique_lock lock(mutex_);
  for (bool warned = false; submission.waiting > 0 && failure_.ok();) {
    bool gone = false;
    const std::string missing = missing_for(submission, gone);
    if (gone) fail(remote_error("{}, which has left the communicator", missing));
    if (deadline.passed()) fail(remote_error("{}, for longer than TUTTI_TIMEOUT: {}", missing, kRemedy));
    if (!failure_.ok()) break;
    if (!warned && warning.passed()) {
      warned = true;
      log_warn(Subsystem::Health, "{}: {}", missing, kRemedy);
    }
    changed_.wait_for(lock, kLookEvery);
  }
  withdraw(submission);
  // Several workers may wait for one submission.
  for (const CudaSubmission::Order& order : std::exchange(submission.orders, {}))
    TUTTI_TRY(gpu::CudaStream(devices_[order.device].gpu, order.stream).wait(*order.done));
  if (submission.waiting > 0) return failure_;
  return submission.status;
}

}  // namespace tutti
