// SPDX-License-Identifier: Apache-2.0
// The team: made, asked about, ended. Calls are in cuda_calls.cc.
#include "comm/cuda_team.h"

#include <algorithm>
#include <thread>

#include "base/env.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/thread.h"
#include "comm/communicator.h"
#include "gpu/cuda_peers.h"

namespace tutti {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<CudaTeam>> teams;  // expired entries go in ~CudaTeam
};
Registry& registry() {
  static Registry& only = *[] {
    auto* const made = new Registry;  // never destroyed: communicators may outlive static destruction
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

// A block of 512 threads with four packs of 16 bytes each: less would leave threads idle.
constexpr uint64_t kLeastShare = 32 << 10;

// Bytes of device memory that a byte moved through a slot touches: read, written, read, written.
constexpr double kTouches = 4;
constexpr double kTouchesInWindows = 2;  // read at one place, written at the other
// GB/s between GPUs, where nothing better is known: a PCIe slot of the fourth generation. Over a relay all goes twice
// over the link of that GPU. Through memory of the host the kernel that reads a slot waits for each of its loads.
constexpr double kBetweenGpus = 20, kByRelay = kBetweenGpus / 2, kThroughHost = 8;

double gbps_of(CudaRoute::Way way) {
  switch (way) {
    case CudaRoute::Way::Direct:
      return kBetweenGpus;
    case CudaRoute::Way::Relay:
      return kByRelay;
    case CudaRoute::Way::Host:
      break;
  }
  return kThroughHost;
}

// While calls are on their way to ranks of other processes: between two looks, and two questions to the kernel who is
// alive (Health::kDeathMs).
constexpr auto kWatchEvery = std::chrono::milliseconds(10), kAskPeersEvery = std::chrono::milliseconds(50);

}  // namespace

Result<std::shared_ptr<CudaTeam>> CudaTeam::join(const Options& options) {
  const std::string tag(reinterpret_cast<const char*>(options.tag.bytes.data()), options.tag.bytes.size());
  Registry& all = registry();
  std::shared_ptr<CudaTeam> team;  // outlives the lock: its destructor takes it too
  const std::lock_guard lock(all.mutex);
  if (const auto known = all.teams.find(tag); known != all.teams.end()) team = known->second.lock();
  if (team == nullptr) {
    team.reset(new CudaTeam(tag, options));
    TUTTI_TRY(team->create(options));
    all.teams[tag] = team;
  }
  return team;
}

Status CudaTeam::enter(int rank, Communicator& comm) {
  const std::lock_guard lock(mutex_);
  comms_[index(rank)] = &comm;
  if (bridge_ != nullptr) TUTTI_TRY(bridge_->enter(rank, comm, device(rank).gpu));
  if (!seats_.waits_for_others() || watcher_.joinable()) return {};
  message_summary_ = comm.summary();
  message_summary_.protocols = "simple";
  TUTTI_ASSIGN_OR_RETURN(watcher_,
                         start_thread("tutti-cuda", "a thread that looks after GPU calls", [this] { watch(); }));
  return {};
}

CudaTeam::~CudaTeam() {
  if (bridge_ != nullptr) bridge_->end();
  if (watcher_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      watch_ends_ = true;
      watch_wakes_.notify_all();
    }
    watcher_.join();
  }
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto at = all.teams.find(tag_);
  if (at != all.teams.end() && at->second.expired()) all.teams.erase(at);
}

Status CudaTeam::create(const Options& options) {
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaRun* const cuda, gpu::load_cuda(env().cuda_library));
  const gpu::AllowedWhileCapturing allowed(*cuda);
  device_index_.resize(comms_.size());
  stores_.resize(comms_.size());
  barrier_words_.resize(comms_.size());
  std::map<int, size_t> places;
  for (const int rank : locals_) {
    const int ordinal = seats_.of(rank).ordinal;
    const auto [at, fresh] = places.emplace(ordinal, devices_.size());
    if (fresh) {
      TeamDevice made;
      TUTTI_ASSIGN_OR_RETURN(made.gpu, gpu::CudaContextOwner::retain(*cuda, ordinal));
      TUTTI_ASSIGN_OR_RETURN(made.kernels, cuda::LoadedKernels::on(made.gpu));
      TUTTI_ASSIGN_OR_RETURN(made.store, cuda::DeviceStore::create(made.gpu));
      TUTTI_ASSIGN_OR_RETURN(made.side, gpu::make_stream(made.gpu));
      devices_.push_back(std::move(made));
    }
    devices_[at->second].ranks.push_back(rank);
    device_index_[index(rank)] = at->second;
  }
  for (const int rank : locals_) stores_[index(rank)] = devices_[device_index_[index(rank)]].store.get();
  TUTTI_TRY(open_peers());
  TUTTI_ASSIGN_OR_RETURN(launcher_, CudaLauncher::create(devices_, seats_.waits_for_others()));
  if (seats_.bridged()) {
    bridge_ = std::make_unique<CudaBridge>(
        seats_, CudaBridge::Asks{[this] { return at_rest(); }, [this](const Status& why) { lost(why); }});
  }
  if (linked()) {
    TUTTI_TRY(create_links(options));
  } else {
    use_ends(std::make_unique<cuda::CudaEnds>(stores_, sizes()));
  }
  windows_ = std::make_unique<CudaWindowBook>(seats_, options.process, devices_, device_index_, links_.get());
  scratch_ = std::make_unique<cuda::ScratchMemory>(stores_);
  for (const int rank : locals_) {
    cuda::DeviceStore* const store = stores_[index(rank)];
    TUTTI_ASSIGN_OR_RETURN(std::byte* const word, store->take(sizeof(uint64_t)));
    TUTTI_TRY(store->zero(word, sizeof(uint64_t)));
    barrier_words_[index(rank)] = word;
  }
  TUTTI_TRY(finish_stores());
  make_fabric();
  return {};
}

Status CudaTeam::create_links(const Options& options) {
  CudaLinks::Options links;
  links.seats = &seats_;
  links.process = options.process;
  links.sizes = sizes_;
  links.secret = options.secret;
  links.tag = options.tag;
  for (const TeamDevice& one : devices_) {
    if (seats_.stepped() && !gpu::stream_values(*one.gpu))
      return invalid_usage(
          "CUDA device {} is used by several processes, and its streams cannot wait for values: give each process a "
          "GPU of its own, or drive all ranks from one process",
          one.gpu->ordinal());
    links.devices.push_back({one.gpu, one.store.get(), one.ranks});
  }
  TUTTI_ASSIGN_OR_RETURN(links_, CudaLinks::create(std::move(links)));
  return {};
}

Status CudaTeam::connect(const std::vector<gpu::CudaIpcHandle>& handles, const Deadline& deadline) {
  if (links_ == nullptr) return {};
  TUTTI_TRY(links_->connect(handles, deadline));
  cuda::CudaEnds::Shared shared = links_->shared();
  if (seats_.stepped()) {
    const int me = locals_.front();
    launcher_->use_words(links_->words(me), links_->words_on_gpu(me), links_->word_layout());
  }
  use_ends(std::make_unique<cuda::CudaEnds>(stores_, sizes(), std::move(shared)));
  return {};
}

void CudaTeam::use_ends(std::unique_ptr<cuda::CudaEnds> ends) {
  ends_ = std::move(ends);
  ends_->use_outside(bridge_.get());
}

Status CudaTeam::finish_stores() {
  for (const TeamDevice& one : devices_) TUTTI_TRY(one.store->finish());
  return {};
}

// Kernels of one device touch the memory of every other that it maps: ends of its ranks, and buffers.
Status CudaTeam::open_peers() {
  for (const TeamDevice& from : devices_) {
    for (const TeamDevice& to : devices_) {
      if (from.gpu == to.gpu || !maps(from.ranks.front(), to)) continue;
      TUTTI_TRY(gpu::open_peer(from.gpu, to.gpu));
    }
  }
  return {};
}

// A ring is as slow as the slowest of its neighbours; what else there is may use any pair. Linked ranks alone.
void CudaTeam::find_slowest(double& ring, double& any) const {
  ring = any = kBetweenGpus;
  for (int a = 0; a < n(); ++a) {
    for (int b = a + 1; b < n(); ++b) {
      if (!seats_.linked(a, b)) continue;
      const double gbps = gbps_of(seats_.route(a, b).way);
      any = std::min(any, gbps);
      if (b == a + 1 || (a == 0 && b == n() - 1)) ring = std::min(ring, gbps);
    }
  }
}

// Alike on all ranks, as plans follow from it.
void CudaTeam::make_fabric() {
  const double share = seats_.least_memory_gbps() / kTouches / static_cast<double>(seats_.most_ranks_on_a_gpu());
  const bool one_gpu = seats_.gpus() == 1;
  double ring = share, any = share;
  if (!one_gpu) {
    find_slowest(ring, any);
    ring = std::min(ring, share);
    any = std::min(any, share);
  }
  const double in_place = share * kTouches / kTouchesInWindows;
  const double remote = !windows_->possible() ? 0 : one_gpu ? in_place : std::min(in_place, kBetweenGpus);
  fabric_ = {.ranks = n(),
             .domains = 1,
             .inside = one_gpu ? LinkClass::NvLink : LinkClass::Pcie,
             .ring_gbps = ring,
             .tree_gbps = any / 2,
             .star_gbps = any,
             .remote_gbps = remote,
             .rings = sizes_.most_channels,
             .trees = sizes_.most_channels,
             .gpu = seats_.kind(),
             .gpus = seats_.gpus(),
             .least_share = kLeastShare};
}

void CudaTeam::describe_in(Summary& summary) const {
  summary.fabric = &fabric_;
  summary.mapped = true;
  summary.single_copy = false;
  summary.copy_from = static_cast<uint64_t>(env().cuda_copy);
  summary.ranks_per_core = 1;  // of kernels, which do not share a core
  summary.slot_capacity = sizes_.simple_bytes;
  summary.ll_slots = sizes_.line_slots;
  summary.ll128_slots = sizes_.line128_slots;
  if (seats_.stepped()) summary.protocols = "simple";
  summary.most_channels = sizes_.most_channels;
  summary.cache_bytes = UINT64_MAX;
}

void CudaTeam::stop(const Status& why) {
  launcher_->stop();  // at once: who holds the lock may be waiting for a kernel
  const std::lock_guard lock(mutex_);
  fail(why);
}

// Under mutex_.
void CudaTeam::fail(const Status& why) {
  launcher_->stop();
  if (bridge_ != nullptr) bridge_->stop();
  if (failure_.ok()) failure_ = why;
  watch_wakes_.notify_all();
  for (Communicator* comm : comms_) {
    if (comm != nullptr) comm->fail(why);
  }
  changed_.notify_all();
}

// In the bridge's thread, as what follows. A transport has failed, and with it the communicator.
void CudaTeam::lost(const Status& why) {
  launcher_->stop();  // at once: who holds the lock may be waiting for a kernel
  const std::lock_guard lock(mutex_);
  fail(cause_of(why));
}

// Who has the lock is bringing or ending a call.
bool CudaTeam::at_rest() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  (void)look().ok();  // a failure is the communicators'
  return !launcher_->busy();
}

// Under mutex_. Kernels that end may have been ended because a transport has failed: then that is what there is to say,
// as well as this rank can explain it.
Status CudaTeam::cause_of(const Status& seen) {
  const Status carried = bridge_ != nullptr ? bridge_->failure() : Status();
  if (carried.ok() || !failure_.ok()) return seen;
  for (Communicator* comm : comms_) {
    if (comm != nullptr) return comm->explain_lost(carried);
  }
  return carried;
}

void CudaTeam::poll() {
  // Who has the lock looks as well.
  if (const std::unique_lock lock(mutex_, std::try_to_lock); lock.owns_lock()) (void)look().ok();
}

// Under mutex_. What the GPUs say: who has ended, with what; and whether somebody stands still.
Status CudaTeam::look() {
  const gpu::AllowedWhileCapturing allowed(devices_.front().gpu->cuda());
  const Status lost = launcher_->retire([this](CudaFlight& flight) { ended(flight); });
  if (!lost.ok()) fail(lost);
  TUTTI_TRY(failure_);
  const CudaFlight* const oldest = launcher_->oldest();
  if (oldest == nullptr) return {};
  const auto now = CudaFlight::Clock::now();
  constexpr auto kAskEvery = std::chrono::seconds(1);
  if (now - oldest->since < kAskEvery) return {};
  if (now - asked_ > kAskEvery) {
    asked_ = now;
    launcher_->ask();
  }
  // A launch that waits for other work of its stream is not ours to judge; one that waits for ranks is.
  if (env().timeout < 0 || now - oldest->since < std::chrono::milliseconds(env().timeout)) return {};
  const std::optional<Waiting> found = waiting(*oldest);
  if (!found) return {};
  fail(
      remote_error("rank {} waits for rank {} in step {} of {}, on CUDA device {}, for longer than TUTTI_TIMEOUT: "
                   "does other work of the application fill a device?",
                   found->note->rank, found->report.peer, found->report.step, describe(found->note->call),
                   device_of(found->note->rank)));
  return failure_;
}

// Under mutex_. The first rank of the call that is known to wait for another.
std::optional<CudaTeam::Waiting> CudaTeam::waiting(const CudaFlight& flight) const {
  if (flight.notes.empty()) return std::nullopt;
  if (const cuda::StepWait* const step = launcher_->waiting(flight); step != nullptr) {
    const auto number = static_cast<uint32_t>(step->step);
    return Waiting{&flight.notes.front(), {cuda::Ended::Waiting, step->side, step->peer, number}};
  }
  for (const CudaFlight::Note& note : flight.notes) {
    for (uint32_t i = 0; i < note.count; ++i) {
      const auto report = cuda::Report::of(load_relaxed(flight.reports[note.first + i]));
      if (report.ended == cuda::Ended::Waiting) return Waiting{&note, report};
    }
  }
  return std::nullopt;
}

// Under mutex_.
void CudaTeam::ended(CudaFlight& flight) {
  Status why;
  for (const CudaFlight::Note& note : flight.notes) {
    if (Communicator* const comm = comms_[index(note.rank)]; comm != nullptr && note.number != 0) {
      comm->ended(note.message, {note.number, note.record});
    }
    for (uint32_t i = 0; i < note.count && why.ok(); ++i) {
      const auto report = cuda::Report::of(load_relaxed(flight.reports[note.first + i]));
      if (report.ended == cuda::Ended::No || report.ended == cuda::Ended::Waiting) continue;
      if (report.ended == cuda::Ended::Refused && note.may_be_refused) continue;  // the launch behind has done it
      const char* const what = report.ended == cuda::Ended::Stopped    ? "was ended while it waited for"
                               : report.ended == cuda::Ended::Mismatch ? "met another call's slot from"
                                                                       : "cannot use the memory of";
      why = remote_error("rank {}: {} on CUDA device {} {} rank {} in step {}", note.rank, describe(note.call),
                         device_of(note.rank), what, report.peer, report.step);
    }
  }
  if (!why.ok()) fail(cause_of(why));
}

// Under mutex_. What the boards of ranks in other processes say, and the kernel of their processes.
Status CudaTeam::look_at_peers() {
  Communicator* comm = nullptr;
  for (const int rank : locals_) comm = comms_[index(rank)] != nullptr ? comms_[index(rank)] : comm;
  if (comm == nullptr) return {};
  const auto now = CudaFlight::Clock::now();
  if (now - peers_asked_ >= kAskPeersEvery) {
    peers_asked_ = now;
    TUTTI_TRY(comm->ask_peers());
  }
  const CudaFlight* const oldest = launcher_->oldest();
  if (oldest == nullptr || oldest->notes.empty()) return {};
  const CudaFlight::Note& note = oldest->notes.front();
  comm = comms_[index(note.rank)];
  if (comm == nullptr || note.number == 0) return {};
  StuckCall stuck;
  stuck.call = note.call;
  stuck.message = note.message;
  // What waits for other work of its stream is not late.
  const std::optional<Waiting> found = waiting(*oldest);
  if (found) stuck.idle_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - oldest->since).count();
  return comm->look_at_stuck(stuck, [&] {
    return found ? fmt::format("rank {}", found->report.peer) : std::string("other work of its stream");
  });
}

void CudaTeam::watch() {
  std::unique_lock lock(mutex_);
  while (!watch_ends_) {
    // What kernels have left may still have to leave.
    if (!launcher_->busy() && (bridge_ == nullptr || bridge_->flushed())) {
      watch_wakes_.wait(lock);
      continue;
    }
    (void)look().ok();  // a failure is the communicators'
    if (failure_.ok()) {
      const Status found = look_at_peers();
      if (!found.ok()) fail(found);
    } else {
      launcher_->stop();
    }
    watch_wakes_.wait_for(lock, kWatchEvery);
  }
}

void CudaTeam::drain() {
  constexpr auto kShortest = std::chrono::microseconds(20), kLongest = std::chrono::microseconds(1000);
  for (auto pause = kShortest;; pause = std::min(pause * 2, kLongest)) {
    {
      const std::lock_guard lock(mutex_);
      (void)look().ok();  // a failure is the communicator's
      // What kernels have left for peers leaves before this rank does.
      if (launcher_->oldest() == nullptr && (bridge_ == nullptr || !failure_.ok() || bridge_->flushed())) return;
    }
    std::this_thread::sleep_for(pause);
  }
}

void CudaTeam::leave(int rank) {
  drain();
  if (bridge_ != nullptr) bridge_->leave(rank);
  const std::lock_guard lock(mutex_);
  comms_[index(rank)] = nullptr;
  left_[index(rank)] = true;
  changed_.notify_all();
}

}  // namespace tutti
