// SPDX-License-Identifier: Apache-2.0
// The team: made, asked about, ended. Calls are in cuda_calls.cc.
#include "comm/cuda_team.h"

#include <algorithm>
#include <thread>

#include "base/env.h"
#include "base/fork.h"
#include "base/log.h"
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

// Memory of connections: all slots of a rank to the others together, and the least for one.
constexpr uint64_t kSlotsOfRank = 4 << 20, kLeastSlots = 64 << 10, kMostSlots = 1 << 20;
constexpr uint64_t kLineSlots = 16;

// Multiprocessors that the application's kernels shall have beside a call's: half of them. More channels than these
// fill no link.
constexpr int kMostChannels = 16;
// A block of 512 threads with four packs of 16 bytes each: less would leave threads idle.
constexpr uint64_t kLeastShare = 32 << 10;

// Bytes of device memory that a byte moved through a slot touches: read, written, read, written.
constexpr double kTouches = 4;
// GB/s where nothing better is known: the slowest memory of a GPU that CUDA 12 runs on moves more. Between GPUs: a PCIe
// slot of the fourth generation.
constexpr double kUnknownMemory = 300, kBetweenGpus = 20;

double memory_gbps(const gpu::CudaContextOwner& device) {
  constexpr int kMemoryClockKhz = 36, kMemoryBusBits = 37;
  const double peak = 2.0 * device.attribute(kMemoryClockKhz) * 1e3 * device.attribute(kMemoryBusBits) / 8 * 1e-9;
  return peak > 0 ? peak : kUnknownMemory;
}

}  // namespace

Result<std::shared_ptr<CudaTeam>> CudaTeam::join(const std::string& tag, const std::vector<int>& devices) {
  Registry& all = registry();
  std::shared_ptr<CudaTeam> team;  // outlives the lock: its destructor takes it too
  const std::lock_guard lock(all.mutex);
  if (const auto known = all.teams.find(tag); known != all.teams.end()) team = known->second.lock();
  if (team == nullptr) {
    team.reset(new CudaTeam(tag, static_cast<int>(devices.size())));
    TUTTI_TRY(team->create(devices));
    all.teams[tag] = team;
  }
  return team;
}

void CudaTeam::enter(int rank, Communicator& comm) {
  const std::lock_guard lock(mutex_);
  comms_[index(rank)] = &comm;
}

CudaTeam::~CudaTeam() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto at = all.teams.find(tag_);
  if (at != all.teams.end() && at->second.expired()) all.teams.erase(at);
}

Status CudaTeam::create(const std::vector<int>& ordinals) {
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaRun* const cuda, gpu::load_cuda(env().cuda_library));
  const gpu::AllowedWhileCapturing allowed(*cuda);
  std::map<int, size_t> places;
  for (size_t rank = 0; rank < ordinals.size(); ++rank) {
    const auto [at, fresh] = places.emplace(ordinals[rank], devices_.size());
    if (fresh) {
      TeamDevice made;
      TUTTI_ASSIGN_OR_RETURN(made.gpu, gpu::CudaContextOwner::retain(*cuda, ordinals[rank]));
      TUTTI_ASSIGN_OR_RETURN(made.kernels, cuda::LoadedKernels::on(made.gpu));
      TUTTI_ASSIGN_OR_RETURN(made.store, cuda::DeviceStore::create(made.gpu));
      TUTTI_ASSIGN_OR_RETURN(made.side, gpu::make_stream(made.gpu));
      made.multiprocessors = std::max(made.gpu->attribute(gpu::kCudaMultiprocessors), 1);
      devices_.push_back(std::move(made));
    }
    devices_[at->second].ranks.push_back(static_cast<int>(rank));
    device_index_.push_back(at->second);
  }
  for (const size_t at : device_index_) stores_.push_back(devices_[at].store.get());
  TUTTI_TRY(open_peers());
  TUTTI_ASSIGN_OR_RETURN(launcher_, CudaLauncher::create(devices_));
  const uint64_t n = ordinals.size();
  simple_bytes_ = env().buffer_bytes > 0 ? env().buffer_bytes : std::clamp(kSlotsOfRank / n, kLeastSlots, kMostSlots);
  ends_ = std::make_unique<cuda::CudaEnds>(stores_, cuda::CudaEnds::Sizes{simple_bytes_, kLLPayloadBytes, kLineSlots});
  scratch_ = std::make_unique<cuda::ScratchMemory>(stores_);
  for (cuda::DeviceStore* store : stores_) {
    TUTTI_ASSIGN_OR_RETURN(std::byte* const word, store->take(sizeof(uint64_t)));
    TUTTI_TRY(store->zero(word, sizeof(uint64_t)));
    barrier_words_.push_back(word);
  }
  TUTTI_TRY(finish_stores());
  make_fabric();
  return {};
}

Status CudaTeam::finish_stores() {
  for (const TeamDevice& one : devices_) TUTTI_TRY(one.store->finish());
  return {};
}

// Kernels of one device touch the memory of every other.
Status CudaTeam::open_peers() {
  for (const TeamDevice& from : devices_) {
    for (const TeamDevice& to : devices_) {
      if (from.gpu == to.gpu) continue;
      TUTTI_TRY(gpu::open_peer(from.gpu, to.gpu));
    }
  }
  return {};
}

// The devices' name; empty: they have several.
static std::string one_kind(const std::vector<TeamDevice>& devices) {
  const std::string first = devices.front().gpu->name();
  const auto same = [&](const TeamDevice& one) { return one.gpu->name() == first; };
  return std::all_of(devices.begin(), devices.end(), same) ? first : std::string();
}

void CudaTeam::make_fabric() {
  size_t most_ranks = 1;
  int fewest_multiprocessors = devices_.front().multiprocessors;
  double gbps = memory_gbps(*devices_.front().gpu);
  for (const TeamDevice& one : devices_) {
    most_ranks = std::max(most_ranks, one.ranks.size());
    fewest_multiprocessors = std::min(fewest_multiprocessors, one.multiprocessors);
    gbps = std::min(gbps, memory_gbps(*one.gpu));
  }
  constexpr int kParts = 2;  // of a channel, at most (a tree's ways)
  const int blocks = fewest_multiprocessors / 2 / static_cast<int>(most_ranks);
  most_channels_ = std::clamp(blocks / kParts, 1, kMostChannels);
  most_message_blocks_ = static_cast<uint32_t>(std::max(fewest_multiprocessors / 2, 2 * most_channels_));
  const double share = gbps / kTouches / static_cast<double>(most_ranks);
  const double link = devices_.size() == 1 ? share : std::min(share, kBetweenGpus);
  fabric_ = {.ranks = n(),
             .domains = 1,
             .inside = devices_.size() == 1 ? LinkClass::NvLink : LinkClass::Pcie,
             .ring_gbps = link,
             .tree_gbps = link / 2,
             .star_gbps = link,
             .rings = most_channels_,
             .trees = most_channels_,
             .gpu = one_kind(devices_),
             .gpus = static_cast<int>(devices_.size()),
             .least_share = kLeastShare};
}

void CudaTeam::describe_in(Summary& summary) const {
  summary.fabric = &fabric_;
  summary.mapped = true;
  summary.single_copy = false;
  summary.ranks_per_core = 1;  // of kernels, which do not share a core
  summary.slot_capacity = simple_bytes_;
  summary.ll_slots = kLineSlots;
  summary.most_channels = most_channels_;
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
  if (failure_.ok()) failure_ = why;
  for (Communicator* comm : comms_) {
    if (comm != nullptr) comm->fail(why);
  }
  changed_.notify_all();
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
  // A launch that waits for other work of its stream is not ours to judge; one whose blocks say that they wait is.
  if (env().timeout < 0 || now - oldest->since < std::chrono::milliseconds(env().timeout)) return {};
  for (const CudaFlight::Note& note : oldest->notes) {
    for (uint32_t i = 0; i < note.count; ++i) {
      const auto report = cuda::Report::of(load_relaxed(oldest->reports[note.first + i]));
      if (report.ended != cuda::Ended::Waiting) continue;
      fail(
          remote_error("rank {} waits for rank {} in step {} of {}, on CUDA device {}, for longer than TUTTI_TIMEOUT: "
                       "does other work of the application fill a device?",
                       note.rank, report.peer, report.step, describe(note.call), device_of(note.rank)));
      return failure_;
    }
  }
  return {};
}

// Under mutex_.
void CudaTeam::ended(CudaFlight& flight) {
  Status why;
  for (const CudaFlight::Note& note : flight.notes) {
    if (Communicator* const comm = comms_[index(note.rank)]; comm != nullptr && note.number != 0) {
      Request request;  // what ended() looks at
      request.coll = note.message ? Coll::SendRecv : Coll::AllReduce;
      comm->ended(request, {note.number, note.record});
    }
    for (uint32_t i = 0; i < note.count && why.ok(); ++i) {
      const auto report = cuda::Report::of(load_relaxed(flight.reports[note.first + i]));
      if (report.ended == cuda::Ended::No || report.ended == cuda::Ended::Waiting) continue;
      const char* const what = report.ended == cuda::Ended::Stopped    ? "was ended while it waited for"
                               : report.ended == cuda::Ended::Mismatch ? "met another call's slot from"
                                                                       : "cannot use the memory of";
      why = remote_error("rank {}: {} on CUDA device {} {} rank {} in step {}", note.rank, describe(note.call),
                         device_of(note.rank), what, report.peer, report.step);
    }
  }
  if (!why.ok()) fail(why);
}

void CudaTeam::drain() {
  constexpr auto kShortest = std::chrono::microseconds(20), kLongest = std::chrono::microseconds(1000);
  for (auto pause = kShortest;; pause = std::min(pause * 2, kLongest)) {
    {
      const std::lock_guard lock(mutex_);
      (void)look().ok();  // a failure is the communicator's
      if (launcher_->oldest() == nullptr) return;
    }
    std::this_thread::sleep_for(pause);
  }
}

void CudaTeam::leave(int rank) {
  drain();
  const std::lock_guard lock(mutex_);
  comms_[index(rank)] = nullptr;
  left_[index(rank)] = true;
  changed_.notify_all();
}

}  // namespace tutti
