// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_windows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/env.h"
#include "base/fork.h"
#include "base/log.h"
#include "comm/communicator.h"
#include "comm/cuda_team.h"
#include "comm/exchange.h"
#include "comm/window_passing.h"
#include "gpu/cuda_given.h"

namespace tutti {

struct CudaWindowBook::Opened {
  gpu::OpenedMemory ipc;
  std::optional<gpu::MappedMemory> mapped;
  std::shared_ptr<const gpu::GivenMemory> ours;  // a rank's here, as long as peers may use it
  gpu::CudaAddress start() const { return mapped ? mapped->address() : ipc.get(); }
};

namespace {

constexpr uint32_t kFirstNumbers = 64;

// IPC handles that this process has open, by device: a handle is opened once, whatever windows and communicators use
// its allocation.
struct OpenHandles {
  std::mutex mutex;
  std::map<std::pair<int, std::string>, std::weak_ptr<const CudaWindowBook::Opened>> by_handle;

  static OpenHandles& of_process() {
    static OpenHandles& only = *[] {
      auto* const made = new OpenHandles;  // never destroyed: communicators may outlive static destruction
      guard_at_fork(made->mutex);
      return made;
    }();
    return only;
  }
  Result<std::shared_ptr<const CudaWindowBook::Opened>> open(const gpu::CudaDevicePtr& device,
                                                             const gpu::CudaIpcHandle& handle) {
    const std::lock_guard lock(mutex);
    std::erase_if(by_handle, [](const auto& one) { return one.second.expired(); });
    auto& known = by_handle[{device->ordinal(), std::string(handle.reserved, sizeof handle.reserved)}];
    if (auto held = known.lock()) return held;
    auto made = std::make_shared<CudaWindowBook::Opened>();
    TUTTI_ASSIGN_OR_RETURN(made->ipc, gpu::open_device(device, handle));
    known = made;
    return std::shared_ptr<const CudaWindowBook::Opened>(std::move(made));
  }
};

}  // namespace

CudaWindowBook::CudaWindowBook(const CudaSeats& seats, int process, std::vector<TeamDevice>& devices,
                               std::vector<size_t> device_of_rank, CudaLinks* links)
    : seats_(seats),
      process_(process),
      devices_(devices),
      device_of_rank_(std::move(device_of_rank)),
      locals_(seats.ranks_of(process)),
      links_(seats.several_processes() ? links : nullptr),
      tables_(devices.size()) {}

bool CudaWindowBook::possible() const {
  return seats_.n() > 1 && !seats_.bridged() && seats_.all_direct() && !seats_.stepped();
}

std::vector<int> CudaWindowBook::ordinals() const {
  std::vector<int> all;
  for (const TeamDevice& one : devices_) all.push_back(one.gpu->ordinal());
  return all;
}

Result<CudaWindowBook::Mine> CudaWindowBook::look_at(int rank, void* base, uint64_t bytes) const {
  Mine mine;
  mine.part.address = reinterpret_cast<uint64_t>(base);
  mine.part.bytes = bytes;
  mine.lacks = "no memory of its GPU";
  if (bytes == 0) return mine;
  const gpu::CudaDevicePtr& device = devices_[device_of_rank_[static_cast<size_t>(rank)]].gpu;
  TUTTI_ASSIGN_OR_RETURN(const std::optional<gpu::PointerKind> kind, gpu::pointer_kind(device, base));
  if (!kind.has_value()) return mine;
  TUTTI_ASSIGN_OR_RETURN(gpu::Sharing sharing, gpu::sharing_of(device, base, *kind));
  mine.part.start = kind->start;
  mine.part.object_bytes = kind->bytes;
  const uint64_t offset = mine.part.address - kind->start;
  if (sharing != gpu::Sharing::None && (offset > kind->bytes || bytes > kind->bytes - offset)) {
    mine.lacks = "not one allocation";
    return mine;
  }
  const bool apart = links_ != nullptr;
  if (sharing == gpu::Sharing::Managed && apart) {
    mine.lacks = "managed memory, which other processes cannot use";
    return mine;
  }
  if (sharing == gpu::Sharing::Alone && (apart || seats_.gpus() > 1)) {
    mine.lacks = "memory of a pool (cudaMallocAsync), which other GPUs cannot use";
    return mine;
  }
  if (sharing == gpu::Sharing::Ipc && apart) {
    TUTTI_ASSIGN_OR_RETURN(mine.part.handle, gpu::share_device(device, kind->start));
  }
  if (sharing == gpu::Sharing::Mapped && apart) {
    Result<UniqueFd> exported = gpu::export_mapped(device, base);
    if (!exported.ok()) {
      mine.lacks = "mapped memory that was not created to be exported (CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)";
      return mine;
    }
    mine.exported = std::move(*exported);
  }
  if (sharing == gpu::Sharing::Mapped && seats_.gpus() > 1)
    TUTTI_TRY(gpu::give_access(device, kind->start, kind->bytes, ordinals()));
  mine.part.sharing = sharing;
  return mine;
}

uint32_t CudaWindowBook::free_number() const {
  uint32_t number = 1;
  while (entries_.count(number) != 0) ++number;
  return number;
}

// Tables that have `number`. Kernels on their way keep the smaller ones, whose rows stay as they are.
Status CudaWindowBook::reserve(uint32_t number) {
  if (number < capacity_) return {};
  const uint32_t wanted = std::max(kFirstNumbers, 2 * capacity_);
  std::vector<uint64_t> rows(devices_.size() * wanted * n());
  for (size_t device = 0; device < devices_.size(); ++device) {
    const auto row = rows_.begin() + static_cast<ptrdiff_t>(device * capacity_ * n());
    std::copy_n(row, capacity_ * n(), rows.begin() + static_cast<ptrdiff_t>(device * wanted * n()));
    const std::span<const uint64_t> all(rows.data() + device * wanted * n(), wanted * n());
    TUTTI_ASSIGN_OR_RETURN(tables_[device], devices_[device].store->place(all));
  }
  rows_ = std::move(rows);
  capacity_ = wanted;
  return {};
}

Result<gpu::CudaAddress> CudaWindowBook::address_on(size_t device, int owner, const WindowPart& part,
                                                    const UniqueFd& object, Entry& entry) {
  if (here(owner)) return part.address;
  const gpu::CudaDevicePtr& gpu = devices_[device].gpu;
  std::shared_ptr<const Opened> opened;
  if (part.sharing == gpu::Sharing::Ipc) {
    TUTTI_ASSIGN_OR_RETURN(opened, OpenHandles::of_process().open(gpu, part.handle));
  } else {
    auto made = std::make_shared<Opened>();
    TUTTI_ASSIGN_OR_RETURN(made->mapped, gpu::MappedMemory::open(gpu, object, part.object_bytes));
    opened = std::move(made);
  }
  const gpu::CudaAddress at = opened->start() + (part.address - part.start);
  entry.opened.push_back(std::move(opened));
  return at;
}

// The row of the window in the tables of all devices.
Status CudaWindowBook::place(Entry& entry, uint32_t number, const std::vector<UniqueFd>& objects) {
  TUTTI_TRY(reserve(number));
  for (size_t device = 0; device < devices_.size(); ++device) {
    uint64_t* const row = &rows_[(device * capacity_ + number) * n()];
    for (int owner = 0; owner < seats_.n(); ++owner) {
      const auto o = static_cast<size_t>(owner);
      TUTTI_ASSIGN_OR_RETURN(row[o], address_on(device, owner, entry.parts[o], objects[o], entry));
    }
    TUTTI_TRY(devices_[device].store->write(tables_[device] + number * n(), row, n() * sizeof(uint64_t)));
    TUTTI_TRY(devices_[device].store->finish());
  }
  return {};
}

Result<uint32_t> CudaWindowBook::open(uint64_t attempt, const std::vector<WindowPart>& parts,
                                      const std::vector<UniqueFd>& objects) {
  for (const auto& [number, entry] : entries_) {
    if (entry->attempt == attempt) return number;  // another rank of this process has done it
  }
  const uint32_t number = free_number();
  auto entry = std::make_unique<Entry>();
  entry->attempt = attempt;
  entry->parts = parts;
  entry->waits = links_ != nullptr && std::any_of(parts.begin(), parts.end(), [](const WindowPart& part) {
                   return part.sharing == gpu::Sharing::Ipc;
                 });
  for (const int rank : locals_) {
    auto kept = std::make_shared<Opened>();
    kept->ours = gpu::find_given_memory(reinterpret_cast<const void*>(parts[static_cast<size_t>(rank)].address));
    if (kept->ours != nullptr) entry->opened.push_back(std::move(kept));
  }
  // The lock first: who has seen the window live may ask for it.
  if (entry->waits) TUTTI_TRY(links_->hold_window(number));
  const Status placed = place(*entry, number, objects);
  if (!placed.ok() && entry->waits) links_->let_go_of_window(number);
  TUTTI_TRY(placed);
  entries_[number] = std::move(entry);
  return number;
}

CudaWindowBook::~CudaWindowBook() {
  for (auto& [number, entry] : entries_) {
    entry->opened.clear();
    if (!entry->ended && entry->waits) let_go(number);
  }
}

void CudaWindowBook::live(uint32_t number) {
  const auto at = entries_.find(number);
  if (at != entries_.end()) at->second->lives = !at->second->ended;
}

CudaWindowBook::Ended CudaWindowBook::end(uint32_t number) {
  const auto at = entries_.find(number);
  if (at == entries_.end() || at->second->ended) return {};
  at->second->lives = false;
  at->second->ended = true;
  return {at->second->waits, std::exchange(at->second->opened, {})};
}

bool CudaWindowBook::held(uint32_t number) const {
  const auto at = entries_.find(number);
  return at != entries_.end() && at->second->waits && links_->window_held_by_others(number);
}

void CudaWindowBook::leave(uint32_t number, int rank) {
  const auto at = entries_.find(number);
  if (at == entries_.end()) return;
  at->second->left.push_back(rank);
  if (at->second->left.size() == locals_.size()) entries_.erase(at);
}

bool CudaWindowBook::any() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& one) { return one.second->lives; });
}

CudaWindowBook::Place CudaWindowBook::find(int rank, const void* at, uint64_t bytes) const {
  const auto start = reinterpret_cast<uint64_t>(at);
  for (const auto& [number, entry] : entries_) {
    const WindowPart& part = entry->parts[static_cast<size_t>(rank)];
    const uint64_t offset = start - part.address;
    if (entry->lives && start >= part.address && offset <= part.bytes && bytes <= part.bytes - offset)
      return {number, offset};
  }
  return {};
}

// ---- registration ----

Summary Communicator::summary_in_windows() const {
  Summary summary = summary_;
  if (cuda_ == nullptr) return summary;  // whose windows it knows
  cuda_->with_windows([&](const CudaWindowBook& book) {
    summary.windows = book.any();
    summary.single_copy = summary.copies = book.any() && book.sees_all();
  });
  return summary;
}

Result<uint32_t> Communicator::register_cuda_window(void* base, uint64_t bytes) {
  drain();
  TUTTI_TRY(failure());
  const uint64_t attempt = ++window_attempts_;
  if (!cuda_->with_windows([](const CudaWindowBook& book) { return book.possible(); })) return 0;
  const auto takers = [&](int owner) { return window_takers(*bootstrap_, owner); };

  // 1 My part.
  Result<CudaWindowBook::Mine> mine =
      cuda_->with_windows([&](const CudaWindowBook& book) { return book.look_at(rank_, base, bytes); });
  WindowPart part = mine.ok() ? mine->part : WindowPart();
  UniqueFd listener;
  if (part.sharing == gpu::Sharing::Mapped && takers(rank_).size() > 1) {
    Result<UniqueFd> listening = window_passing(*bootstrap_, takers(rank_), rank_, attempt).listen();
    if (listening.ok()) {
      listener = std::move(*listening);
    } else {
      part.sharing = gpu::Sharing::None;
      mine->lacks = "not to be passed on";
    }
  }
  if (mine.ok() && part.sharing == gpu::Sharing::None)
    log_info(Subsystem::Transport, "{} rank {}: the window gains nothing: its memory is {}", name_, rank_, mine->lacks);

  // 2 Everybody's.
  TUTTI_ASSIGN_OR_RETURN(const std::vector<WindowPart> parts, exchange_words(*bootstrap_, mine.status(), part));
  if (std::any_of(parts.begin(), parts.end(), [](const WindowPart& one) { return one.sharing == gpu::Sharing::None; }))
    return 0;

  // 3 Descriptors, each in turn; then all that this process has not opened yet.
  std::vector<UniqueFd> objects(static_cast<size_t>(n_));
  Status status;
  for (int owner = 0; owner < n_; ++owner) {
    const WindowPart& theirs = parts[static_cast<size_t>(owner)];
    const std::vector<int> ranks = takers(owner);
    if (theirs.sharing != gpu::Sharing::Mapped || ranks.size() < 2) continue;
    if (!std::binary_search(ranks.begin(), ranks.end(), rank_)) continue;
    const shm::DescriptorPassing passing = window_passing(*bootstrap_, ranks, owner, attempt);
    const Deadline deadline = Deadline::in_ms(env().init_timeout);
    if (owner == rank_) {
      const Status served = passing.serve(std::move(listener), mine->exported.get(), {part.object_bytes, 0}, deadline);
      if (status.ok()) status = served;
      continue;
    }
    shm::Grant grant{};
    Result<UniqueFd> object = passing.fetch(deadline, grant);
    if (status.ok()) status = object.status();
    if (object.ok()) objects[static_cast<size_t>(owner)] = std::move(*object);
  }
  uint32_t number = 0;  // none: what was passed on cannot be used here
  if (status.ok()) {
    const Result<uint32_t> opened =
        cuda_->with_windows([&](CudaWindowBook& book) { return book.open(attempt, parts, objects); });
    if (opened.ok()) {
      number = *opened;
    } else {
      log_warn(Subsystem::Transport, "{} rank {}: no window: {}", name_, rank_, opened.status().message());
    }
  }

  // 4 All of it, on all ranks.
  const Result<std::vector<uint32_t>> numbers = exchange_words(*bootstrap_, status, number);
  const bool lives = numbers.ok() && number != 0 &&
                     std::all_of(numbers->begin(), numbers->end(), [&](uint32_t one) { return one == number; });
  if (!lives) {
    if (number != 0) {
      end_cuda_window(number);
      cuda_->with_windows([&](CudaWindowBook& book) { book.forget(number); });
    }
    TUTTI_TRY(numbers.status());
    return 0;
  }
  cuda_->with_windows([&](CudaWindowBook& book) { book.live(number); });
  log_info(Subsystem::Transport, "{} rank {}: window {} of {} bytes on GPUs", name_, rank_, number, bytes);
  return number;
}

// Without waiting for other processes.
void Communicator::end_cuda_window(uint32_t number) {
  CudaWindowBook::Ended ended = cuda_->with_windows([&](CudaWindowBook& book) { return book.end(number); });
  ended.opened.clear();  // may wait for the GPU: without the lock
  cuda_->with_windows([&](CudaWindowBook& book) {
    if (ended.locked) book.let_go(number);
  });
}

void Communicator::deregister_cuda_window(uint32_t number) {
  constexpr auto kLookEvery = std::chrono::microseconds(200);
  end_cuda_window(number);
  const Deadline deadline = Deadline::in_ms(env().timeout);
  const auto held = [&] { return cuda_->with_windows([&](const CudaWindowBook& book) { return book.held(number); }); };
  while (!failed() && held()) {
    if (deadline.passed()) {
      log_warn(Subsystem::Transport,
               "{} rank {}: another rank has not ended window {} within TUTTI_TIMEOUT: do not free its memory while it "
               "is open there",
               name_, rank_, number);
      break;
    }
    std::this_thread::sleep_for(kLookEvery);
  }
  cuda_->with_windows([&](CudaWindowBook& book) { book.leave(number, rank_); });
}

}  // namespace tutti
