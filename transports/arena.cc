// SPDX-License-Identifier: Apache-2.0
// Sizes and places of the arena (arena.h), and the mappings that hold one.
#include "transports/arena.h"

#include <sys/mman.h>

#include <algorithm>

namespace tutti {
namespace {

constexpr uint64_t KiB = 1024, MiB = 1024 * KiB;
constexpr uint64_t kLineGap = 2 * kCacheLine;  // the adjacent-line prefetcher works on pairs of lines
constexpr uint64_t kDescriptorBytes = SimpleMemory::kMostInFlight * sizeof(SlotDescriptor);

// Three counters of a pair, each kLineGap apart, rotate through what the descriptors leave of the page.
constexpr uint64_t kPairCountersBytes = 3 * kLineGap;
constexpr uint64_t kPairRotations = (kPageBytes - kDescriptorBytes) / kPairCountersBytes;
static_assert(kPairRotations == 8);
// LL slots start at any line of a page.
constexpr uint64_t kLinesPerPage = kPageBytes / kCacheLine;

constexpr uint64_t round_up(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Chosen so that few ranks can cycle through more than their L2 caches (Profile::cycled_bytes), and so that all-to-all
// among many ranks keeps within tens of MiB per rank. What the planner leaves untouched costs nothing.
struct SizeRow {
  int most_ranks;
  uint64_t capacity;
};
constexpr SizeRow kCapacities[] = {
    {2, 4 * MiB},    {4, 2 * MiB},    {8, 1 * MiB},
    {16, 512 * KiB}, {64, 128 * KiB}, {ArenaLayout::kMostLocalRanks, 64 * KiB},
};
constexpr uint64_t kLeastFanCapacity = 256 * KiB;
constexpr uint64_t kLeastBuffer = kPageBytes, kMostBuffer = 1024 * MiB;
constexpr int kFewRanks = 8;                             // up to here memory is no concern
constexpr uint64_t kLLSlotsFew = 64, kLLSlotsMany = 16;  // powers of two, at least 4 (LLReceiver::release)

uint64_t default_capacity(int local_ranks) {
  for (const SizeRow& row : kCapacities)
    if (local_ranks <= row.most_ranks) return row.capacity;
  return std::rbegin(kCapacities)->capacity;
}

}  // namespace

SimpleMemory ConnectionPlace::simple(std::byte* base) const {
  return {.tail = reinterpret_cast<TailLine*>(base + tail),
          .heads = reinterpret_cast<CounterLine*>(base + heads),
          .readers = readers,
          .descriptors = reinterpret_cast<SlotDescriptor*>(base + descriptors),
          .slots = base + slots,
          .capacity = capacity};
}

LLMemory ConnectionPlace::ll(std::byte* base) const {
  return {.heads = reinterpret_cast<CounterLine*>(base + ll_heads),
          .readers = readers,
          .slots = base + ll_slots,
          .slot_count = ll_slot_count,
          .near = ll_near != 0 ? base + ll_near : nullptr};
}

int ArenaLayout::most_channels(int local_ranks) {
  if (local_ranks <= kFewRanks) return 8;
  return local_ranks <= 64 ? 4 : 2;
}

Result<ArenaLayout> ArenaLayout::compute(const ArenaShape& shape) {
  const int ranks = shape.local_ranks;
  if (ranks < 1 || ranks > kMostLocalRanks)
    return invalid_argument("{} ranks on one host: a shared arena serves 1 to {}", ranks, kMostLocalRanks);
  if (shape.channels < 0 || shape.channels > kMostChannels)
    return invalid_argument("{} channels: an arena has 1 to {}", shape.channels, kMostChannels);
  if (shape.buffer_bytes != 0 && (shape.buffer_bytes < kLeastBuffer || shape.buffer_bytes > kMostBuffer))
    return invalid_argument(
        "a connection's buffer of {} bytes: set TUTTI_BUFFER_BYTES to 4K .. 1G, or 0 for the default",
        shape.buffer_bytes);

  ArenaLayout layout;
  layout.local_ranks_ = ranks;
  TransportLimits& limits = layout.limits_;
  limits.channels = shape.channels != 0 ? shape.channels : most_channels(ranks);
  limits.capacity = shape.buffer_bytes != 0 ? round_up(shape.buffer_bytes, kPageBytes) : default_capacity(ranks);
  limits.fan_capacity = shape.buffer_bytes != 0 ? limits.capacity : std::max(limits.capacity, kLeastFanCapacity);
  limits.ll_slots = ranks <= kFewRanks ? kLLSlotsFew : kLLSlotsMany;

  const uint64_t n = static_cast<uint64_t>(ranks);
  layout.ll_area_bytes_ = round_up(limits.ll_slots * kLLSlotBytes + (kLinesPerPage - 1) * kCacheLine, kPageBytes);
  layout.near_area_bytes_ = shape.share_cores ? layout.ll_area_bytes_ : 0;
  layout.pair_bytes_ = kPageBytes + layout.ll_area_bytes_ + limits.capacity;
  const uint64_t reader_lines = round_up((n - 1) * sizeof(CounterLine), kLineGap);
  layout.fan_counters_bytes_ = round_up(kDescriptorBytes + kLineGap + 2 * reader_lines, kPageBytes);
  layout.fan_bytes_ =
      layout.fan_counters_bytes_ + layout.ll_area_bytes_ + layout.near_area_bytes_ + limits.fan_capacity;

  layout.control_ = round_up(n * sizeof(CounterLine), kPageBytes);
  layout.pairs_ = layout.control_ + n * kPageBytes;
  layout.fans_ = layout.pairs_ + n * (n - 1) * static_cast<uint64_t>(layout.per_pair()) * layout.pair_bytes_;
  // A lone rank has no peers to fan out to.
  const uint64_t fans = ranks > 1 ? n * static_cast<uint64_t>(limits.channels) : 0;
  layout.bytes_ = layout.fans_ + fans * layout.fan_bytes_;
  return layout;
}

ConnectionPlace ArenaLayout::pair(int sender, int receiver, int index) const {
  const int column = receiver < sender ? receiver : receiver - 1;  // a rank has no connection to itself
  const uint64_t row = static_cast<uint64_t>(sender) * static_cast<uint64_t>(local_ranks_ - 1) + column;
  // The same rotation for no two neighbours that one rank polls: fixed receiver, any sender, and the reverse.
  const uint64_t rotation = static_cast<uint64_t>(sender) + receiver + index;

  ConnectionPlace place;
  place.begin = pairs_ + (row * per_pair() + index) * pair_bytes_;
  place.bytes = pair_bytes_;
  place.descriptors = place.begin;
  place.tail = place.begin + kDescriptorBytes + rotation % kPairRotations * kPairCountersBytes;
  place.heads = place.tail + kLineGap;
  place.ll_heads = place.heads + kLineGap;
  place.ll_slots = place.begin + kPageBytes + rotation % kLinesPerPage * kCacheLine;
  place.slots = place.begin + kPageBytes + ll_area_bytes_;
  place.readers = 1;
  place.capacity = limits_.capacity;
  place.ll_slot_count = limits_.ll_slots;
  return place;
}

ConnectionPlace ArenaLayout::fan(int sender, int channel) const {
  const uint64_t index = static_cast<uint64_t>(sender) * limits_.channels + channel;
  const uint64_t rotation = static_cast<uint64_t>(sender) + channel;

  ConnectionPlace place;
  place.begin = fans_ + index * fan_bytes_;
  place.bytes = fan_bytes_;
  place.readers = local_ranks_ - 1;
  place.descriptors = place.begin;
  place.tail = place.begin + kDescriptorBytes;
  place.heads = place.tail + kLineGap;
  place.ll_heads = place.heads + round_up(place.readers * sizeof(CounterLine), kLineGap);
  place.ll_slots = place.begin + fan_counters_bytes_ + rotation % kLinesPerPage * kCacheLine;
  if (near_area_bytes_ != 0) place.ll_near = place.ll_slots + ll_area_bytes_;
  place.slots = place.begin + fan_counters_bytes_ + ll_area_bytes_ + near_area_bytes_;
  place.capacity = limits_.fan_capacity;
  place.ll_slot_count = limits_.ll_slots;
  return place;
}

Mapping::~Mapping() {
  if (base_ != nullptr) ::munmap(base_, bytes_);
}

Result<Mapping> Mapping::anonymous(uint64_t bytes) {
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED)
    return errno_status("mmap", fmt::format("{} bytes of private memory (is `ulimit -v` too low?)", bytes));
  // With transparent huge pages, touching one line would cost 2 MiB. Failure (a kernel without them) is harmless.
  (void)::madvise(base, bytes, MADV_NOHUGEPAGE);
  (void)::madvise(base, bytes, MADV_DONTFORK);  // a child could not use it, and would copy it page by page
  Mapping mapping;
  mapping.base_ = static_cast<std::byte*>(base);
  mapping.bytes_ = bytes;
  return mapping;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
void Mapping::populate() const {
  (void)::madvise(base_, bytes_, MADV_HUGEPAGE);        // where the kernel backs shared memory so
  (void)::madvise(base_, bytes_, MADV_POPULATE_WRITE);  // kernels before 5.14: at first use
}

Result<Mapping> Mapping::shared(int fd, uint64_t bytes, std::string_view what) {
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED)
    return errno_status("mmap", fmt::format("{} bytes of {} (is `ulimit -v` too low?)", bytes, what));
  // A child must not write to its parent's peers, nor keep their memory alive.
  (void)::madvise(base, bytes, MADV_DONTFORK);
  Mapping mapping;
  mapping.base_ = static_cast<std::byte*>(base);
  mapping.bytes_ = bytes;
  return mapping;
}

}  // namespace tutti
