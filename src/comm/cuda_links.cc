// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_links.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/fork.h"
#include "base/log.h"
#include "base/thread.h"
#include "transports/shm/shm_transport.h"

namespace tutti {

// Arenas whose owner has gone before those that have them open. A thread looks while there are any; it ends with the
// last. One lock, under which nothing waits.
struct CudaLinks::Departed {
  std::mutex mutex;
  std::vector<std::unique_ptr<Lent>> lent;

  static Departed& of_process() {
    static Departed& only = *[] {
      auto* const made = new Departed;  // never destroyed: peers may outlive static destruction
      guard_at_fork(made->mutex);
      return made;
    }();
    return only;
  }

  void keep(std::unique_ptr<Lent> one) {
    const std::lock_guard lock(mutex);
    lent.push_back(std::move(one));
    if (lent.size() > 1) return;
    Result<std::thread> thread = start_thread("tutti-departed", "a thread that waits for peers", [this] { watch(); });
    if (thread.ok()) {
      thread->detach();
    } else {
      log_warn(Subsystem::Transport, "memory that other processes use is freed when this process ends: {}",
               thread.status().message());
    }
  }

  void watch() {
    constexpr auto kLookEvery = std::chrono::milliseconds(5);
    for (;;) {
      std::this_thread::sleep_for(kLookEvery);
      std::vector<std::unique_ptr<Lent>> free;  // freed without the lock: the driver may wait for the device
      const std::lock_guard lock(mutex);
      const auto first = std::partition(lent.begin(), lent.end(), [](const auto& one) { return one->in_use(); });
      free.assign(std::make_move_iterator(first), std::make_move_iterator(lent.end()));
      lent.erase(first, lent.end());
      if (lent.empty()) return;
    }
  }
};

bool CudaLinks::Lent::in_use() const {
  return std::any_of(others.begin(), others.end(), [this](int other) { return lock.held_by(other); });
}

CudaLinks::CudaLinks(Options options)
    : options_(std::move(options)),
      map_(options_.seats->peer_map(island())),
      words_{map_.n(), options_.sizes.most_channels},
      handles_(n()),
      own_(n()),
      seen_(n()) {
  for (int number = 0; number <= map_.host(); ++number)
    arenas_.push_back(options_.sizes.arena(map_.ends(number), options_.sizes.most_channels));
}

uint64_t CudaLinks::words_bytes() const {
  return options_.seats->stepped() ? static_cast<uint64_t>(map_.n()) * words_.bytes() : cuda::PeerArena::kAlign;
}
uint64_t CudaLinks::object_bytes() const { return words_bytes() + (map_.any_by_host() ? arenas_.back().bytes() : 0); }

shm::DescriptorPassing CudaLinks::passing() const {
  shm::DescriptorPassing passing;
  std::memcpy(passing.key.secret.data(), options_.secret.bytes.data(), passing.key.secret.size());
  std::memcpy(passing.key.tag.data(), options_.tag.bytes.data(), passing.key.tag.size());
  constexpr uint64_t kPurpose = 0x63756461'6c696e6bull;  // "cudalink": no other passing has it
  for (size_t i = 0; i < sizeof kPurpose; ++i) passing.key.tag[i] ^= static_cast<std::byte>(kPurpose >> 8 * i);
  passing.ranks = island().processes;
  passing.owner_local = 0;
  passing.local = island().number_of_process(options_.process);
  passing.what = "the memory of GPU connections";
  return passing;
}

Result<std::unique_ptr<CudaLinks>> CudaLinks::create(Options options) {
  std::unique_ptr<CudaLinks> links(new CudaLinks(std::move(options)));
  const Options& chosen = links->options_;
  for (const Device& device : chosen.devices) {
    for (const int rank : device.ranks) {
      const cuda::PeerArena& layout = links->arenas_[static_cast<size_t>(links->island().number_of(rank))];
      TUTTI_ASSIGN_OR_RETURN(gpu::DeviceMemory arena, gpu::allocate_device(device.gpu, layout.bytes()));
      TUTTI_TRY(device.store->zero(reinterpret_cast<void*>(arena.get()), layout.zeroed()));
      if (links->several_processes()) {
        TUTTI_ASSIGN_OR_RETURN(links->handles_[static_cast<size_t>(rank)], gpu::share_device(device.gpu, arena.get()));
      }
      links->own_[static_cast<size_t>(rank)] = arena.get();
      links->lent_.arenas.push_back(std::move(arena));
    }
  }
  if (links->island().processes.front() == chosen.process) {
    TUTTI_ASSIGN_OR_RETURN(links->lent_.object, SharedMemory::create(links->object_bytes()));
    if (links->several_processes()) {
      TUTTI_ASSIGN_OR_RETURN(links->listener_, links->passing().listen());
    }
  }
  return links;
}

Status CudaLinks::share_object(const Deadline& deadline) {
  const int me = island().number_of_process(options_.process);
  int object = -1;
  UniqueFd fetched;
  if (me == 0) {
    object_ = lent_.object->base();
    object = lent_.object->descriptor();
  } else {
    shm::Grant grant{};
    TUTTI_ASSIGN_OR_RETURN(fetched, passing().fetch(deadline, grant));
    object = fetched.get();
    // Huge pages round it up on the owner's side.
    if (grant.bytes < object_bytes())
      return remote_error("rank {} shares {} bytes for GPU connections, this rank computed {}: please report it",
                          island().processes.front(), grant.bytes, object_bytes());
    TUTTI_TRY(check_shared_object(object, grant.bytes, grant.is_file != 0));
    TUTTI_ASSIGN_OR_RETURN(mapping_, Mapping::shared(object, grant.bytes, "the memory of GPU connections"));
    mapping_.populate();
    object_ = mapping_.base();
  }
  TUTTI_ASSIGN_OR_RETURN(lent_.lock, LifeLock::take(object, me));
  locked_ = true;
  for (int other = 0; other < static_cast<int>(island().processes.size()); ++other) {
    if (other != me) lent_.others.push_back(other);
  }
  if (me != 0 || lent_.others.empty()) return {};
  return passing().serve(std::move(listener_), object, {lent_.object->bytes(), lent_.object->is_file()}, deadline);
}

// As kernels on the device find it. Null where they cannot: then no end of theirs lies there.
Result<std::byte*> CudaLinks::arena_of(int rank, const Device& device, const gpu::CudaIpcHandle& handle) {
  if (options_.seats->route(device.ranks.front(), rank).way != CudaRoute::Way::Direct) return nullptr;
  if (here(rank)) return reinterpret_cast<std::byte*>(own_[static_cast<size_t>(rank)]);
  Result<gpu::OpenedMemory> opened = gpu::open_device(device.gpu, handle);
  if (!opened.ok())
    return error(Code::CudaError,
                 "CUDA device {} cannot use memory of rank {}'s GPU, which another process shares with it: {}; the "
                 "GPUs have to reach each other (nvidia-smi topo -p2p r), and containers to share their IPC "
                 "namespace (--ipc=host)",
                 device.gpu->ordinal(), rank, opened.status().message());
  opened_.push_back(std::move(*opened));
  return reinterpret_cast<std::byte*>(opened_.back().get());
}

Status CudaLinks::open_arenas(const Device& device, const std::vector<gpu::CudaIpcHandle>& handles) {
  std::byte* object = nullptr;
  if (registered_) {
    TUTTI_ASSIGN_OR_RETURN(object, gpu::host_address(device.gpu, object_));
  }
  cuda::CudaEnds::Seen seen;
  for (const int rank : island().ranks) {
    TUTTI_ASSIGN_OR_RETURN(std::byte* const arena, arena_of(rank, device, handles[static_cast<size_t>(rank)]));
    seen.arenas.push_back(arena);
    if (options_.seats->stepped()) seen.words.push_back(object + words_at(rank));
  }
  seen.arenas.push_back(map_.any_by_host() ? object + words_bytes() : nullptr);
  for (const int viewer : device.ranks) seen_[static_cast<size_t>(viewer)] = seen;
  return {};
}

Status CudaLinks::connect(const std::vector<gpu::CudaIpcHandle>& handles, const Deadline& deadline) {
  TUTTI_TRY(share_object(deadline));
  if (options_.seats->stepped() || map_.any_by_host()) {
    TUTTI_ASSIGN_OR_RETURN(registered_, gpu::register_host(options_.devices.front().gpu, object_, object_bytes()));
  }
  for (const Device& device : options_.devices) TUTTI_TRY(open_arenas(device, handles));
  return {};
}

bool CudaLinks::window_held_by_others(uint32_t window) const {
  return std::any_of(lent_.others.begin(), lent_.others.end(),
                     [&](int other) { return lent_.lock.held_by(window_lock(window, other)); });
}

CudaLinks::~CudaLinks() {
  opened_.clear();
  registered_ = {};
  if (!locked_) return;  // nobody has anything of ours
  lent_.lock.release(island().number_of_process(options_.process));
  if (lent_.in_use()) Departed::of_process().keep(std::make_unique<Lent>(std::move(lent_)));
}

}  // namespace tutti
