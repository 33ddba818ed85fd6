// SPDX-License-Identifier: Apache-2.0
// The arena's places never overlap, keep writers apart, and cost nothing until they are used.
#include "transports/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "tests/transports/stage.h"
#include "transports/inproc/inproc_transport.h"

namespace tutti::test {
namespace {

constexpr uint64_t KiB = 1024, MiB = 1024 * KiB;

ArenaLayout layout_of(ArenaShape shape) {
  Result<ArenaLayout> layout = ArenaLayout::compute(shape);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return *layout;
}

TEST(Arena, SizesFollowTheNumberOfRanks) {
  struct Row {
    int ranks;
    uint64_t capacity, fan_capacity, ll_slots;
    int channels;
  };
  for (const Row& row : {Row{2, 4 * MiB, 4 * MiB, 64, 8}, Row{3, 2 * MiB, 2 * MiB, 64, 8}, Row{8, MiB, MiB, 64, 8},
                         Row{9, 512 * KiB, 512 * KiB, 16, 4}, Row{16, 512 * KiB, 512 * KiB, 16, 4},
                         Row{17, 128 * KiB, 256 * KiB, 16, 4}, Row{64, 128 * KiB, 256 * KiB, 16, 4},
                         Row{65, 64 * KiB, 256 * KiB, 16, 2}, Row{1000, 64 * KiB, 256 * KiB, 16, 2}}) {
    const TransportLimits limits = layout_of({.local_ranks = row.ranks}).limits();
    EXPECT_EQ(limits.capacity, row.capacity) << row.ranks;
    EXPECT_EQ(limits.fan_capacity, row.fan_capacity) << row.ranks;
    EXPECT_EQ(limits.ll_slots, row.ll_slots) << row.ranks;
    EXPECT_EQ(limits.channels, row.channels) << row.ranks;
  }
  EXPECT_EQ(layout_of({.local_ranks = 4, .channels = 3, .buffer_bytes = 10'000}).limits(),
            (TransportLimits{.channels = 3, .capacity = 12'288, .fan_capacity = 12'288, .ll_slots = 64}));
}

TEST(Arena, RefusesImpossibleShapes) {
  for (const ArenaShape& shape :
       {ArenaShape{.local_ranks = 0}, ArenaShape{.local_ranks = 5000}, ArenaShape{.local_ranks = 2, .channels = -1},
        ArenaShape{.local_ranks = 2, .channels = 65}, ArenaShape{.local_ranks = 2, .buffer_bytes = 100},
        ArenaShape{.local_ranks = 2, .buffer_bytes = uint64_t{1} << 40}})
    EXPECT_EQ(ArenaLayout::compute(shape).status().code(), Code::InvalidArgument);
}

// Every byte range of every connection, to be found disjoint.
struct Range {
  uint64_t begin, end;
};
void add_parts(const ConnectionPlace& place, std::vector<Range>& parts) {
  const uint64_t lines = place.readers * sizeof(CounterLine);
  std::vector<Range> mine = {
      {place.descriptors, place.descriptors + SimpleMemory::kMostInFlight * sizeof(SlotDescriptor)},
      {place.tail, place.tail + sizeof(CounterLine)},
      {place.heads, place.heads + lines},
      {place.ll_heads, place.ll_heads + lines},
      {place.ll_slots, place.ll_slots + place.ll_slot_count * kLLSlotBytes},
      {place.slots, place.slots + place.capacity}};
  if (place.ll_near != 0) mine.push_back({place.ll_near, place.ll_near + place.ll_slot_count * kLLSlotBytes});
  for (const Range& part : mine) {
    EXPECT_GE(part.begin, place.begin);
    EXPECT_LE(part.end, place.begin + place.bytes);
    EXPECT_EQ(part.begin % kCacheLine, 0u);
    parts.push_back(part);
  }
  EXPECT_EQ(place.slots % kPageBytes, 0u);
  // Written by different ranks: never in one pair of lines.
  EXPECT_NE(place.tail / 128, place.heads / 128);
  EXPECT_NE(place.heads / 128, place.ll_heads / 128);
}

TEST(Arena, PlacesNeverOverlap) {
  for (const ArenaShape& shape :
       {ArenaShape{1, 0, 0}, ArenaShape{2, 0, 0}, ArenaShape{3, 2, 5000}, ArenaShape{9, 0, 0}, ArenaShape{17, 4, 0},
        ArenaShape{65, 1, 4096}, ArenaShape{2, 0, 0, true}, ArenaShape{5, 2, 0, true}, ArenaShape{17, 4, 5000, true}}) {
    const ArenaLayout layout = layout_of(shape);
    std::vector<Range> parts;
    for (int a = 0; a < shape.local_ranks; ++a) {
      parts.push_back({layout.joined_line(a), layout.joined_line(a) + sizeof(CounterLine)});
      parts.push_back({layout.control_page(a), layout.control_page(a) + kPageBytes});
      EXPECT_LE(parts.back().end, layout.shared_head_bytes());
      for (int b = 0; b < shape.local_ranks; ++b)
        for (int index = 0; index < layout.per_pair() && a != b; ++index) add_parts(layout.pair(a, b, index), parts);
      for (int channel = 0; channel < layout.limits().channels && shape.local_ranks > 1; ++channel) {
        EXPECT_EQ(layout.fan(a, channel).ll_near != 0, shape.share_cores);
        add_parts(layout.fan(a, channel), parts);
      }
    }
    std::sort(parts.begin(), parts.end(), [](const Range& x, const Range& y) { return x.begin < y.begin; });
    for (size_t i = 1; i < parts.size(); ++i) ASSERT_LE(parts[i - 1].end, parts[i].begin);
    EXPECT_LE(parts.back().end, layout.bytes());
    EXPECT_EQ(layout.bytes() % kPageBytes, 0u);
  }
}

// A rank polls one line per peer: these must not fall into few sets of its L1 cache (64 sets of lines).
TEST(Arena, SpreadsPolledLinesOverCacheSets) {
  const ArenaLayout layout = layout_of({.local_ranks = 64});
  std::map<uint64_t, int> tails, flags;
  for (int sender = 1; sender < 64; ++sender) {
    const ConnectionPlace place = layout.pair(sender, 0, 0);
    ++tails[place.tail / kCacheLine % 64];
    ++flags[place.ll_slots / kCacheLine % 64];
  }
  for (const auto& [set, lines] : tails) EXPECT_LE(lines, 8);
  for (const auto& [set, lines] : flags) EXPECT_LE(lines, 1);
}

uint64_t resident_bytes(const std::byte* base, uint64_t bytes) {
  std::vector<unsigned char> pages(bytes / kPageBytes);
  EXPECT_EQ(::mincore(const_cast<std::byte*>(base), bytes, pages.data()), 0);
  return kPageBytes * static_cast<uint64_t>(std::count_if(pages.begin(), pages.end(), [](auto p) { return p & 1; }));
}

std::vector<int> first_ranks(int n) {
  std::vector<int> ranks(n);
  for (int r = 0; r < n; ++r) ranks[r] = r;
  return ranks;
}

uint64_t proc_status_kib(const std::string& field) {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  char line[256];
  uint64_t value = 0;
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr)
    if (std::string(line).starts_with(field + ":")) value = std::strtoull(line + field.size() + 1, nullptr, 10);
  if (file != nullptr) std::fclose(file);
  return value;
}

// 64 ranks, each 4 KiB to all others, the promise of at most 64 MiB per rank in all.
TEST(Arena, AllToAllAmong64RanksTouchesLittle) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "sanitizers add shadow memory to what is measured";
#endif
  constexpr int n = 64;
  const ArenaLayout layout = layout_of({.local_ranks = n});
  const uint64_t before = proc_status_kib("VmRSS");
  std::vector<std::unique_ptr<InprocTransport>> ranks;
  for (int r = 0; r < n; ++r) {
    auto made = InprocTransport::create({}, {.me = r, .ranks = first_ranks(n)}, layout);
    ASSERT_TRUE(made.ok()) << made.status().message();
    ranks.push_back(std::move(*made));
  }
  const auto grown_per_rank = [&] { return (proc_status_kib("VmRSS") - before) / n; };
  constexpr int kRepeats = 20;
  uint64_t after_one = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    for (int from = 0; from < n; ++from)
      for (int to = 0; to < n; ++to) {
        if (from == to) continue;
        LLSender& out = (*ranks[from]->send_end(to, 0, Use::Collective))->ll;
        ASSERT_TRUE(out.has_room());
        fill({out.payload(), kLLPayloadBytes}, repeat);
        out.publish(1);
        LLReceiver& in = (*ranks[to]->receive_end(from, 0, Use::Collective))->ll;
        ASSERT_TRUE(in.ready(1));
        in.release();
      }
    if (repeat == 0) after_one = grown_per_rank();
  }
  // A process touches what it sends and what it receives, so its own resident set counts each page twice per rank.
  std::printf("per rank after one exchange: %lu KiB, after %d: %lu KiB (shared by the two ends)\n", 2 * after_one,
              kRepeats, 2 * grown_per_rank());
  EXPECT_LT(2 * after_one, 4 * 1024u);
  EXPECT_LT(2 * grown_per_rank(), 16 * 1024u);
}

TEST(Arena, SmallExchangeTouchesFewPages) {
  Result<Mapping> memory = Mapping::anonymous(layout_of({.local_ranks = 2}).bytes());
  ASSERT_TRUE(memory.ok());
  const ConnectionPlace place = layout_of({.local_ranks = 2}).pair(0, 1, 0);
  SimpleSender out(place.simple(memory->base()));
  SimpleReceiver in(place.simple(memory->base()), 0);
  ASSERT_TRUE(out.cut({64, 64}));
  in.cut({64, 64});
  for (int m = 0; m < 64; ++m) {
    ASSERT_TRUE(out.has_room());
    fill({out.slot(), 64}, m);
    out.publish(64, 1);
    ASSERT_TRUE(in.ready());
    in.release();
  }
  EXPECT_EQ(resident_bytes(memory->base(), memory->bytes()), 2 * kPageBytes);  // counters, and one page of slots
}

// More slots than may be in flight: the sender waits for the reader all the same, and goes on to the next of them.
TEST(Arena, ASenderCyclesThroughMoreSlotsThanAreInFlight) {
  const ArenaLayout layout = layout_of({.local_ranks = 2});
  Result<Mapping> memory = Mapping::anonymous(layout.bytes());
  ASSERT_TRUE(memory.ok());
  const SimpleMemory fifo = layout.pair(0, 1, 0).simple(memory->base());
  for (const uint64_t most : {uint64_t{1}, uint64_t{2}, SimpleMemory::kMostInFlight}) {
    const uint64_t slots = 3 * most / 2 + 1;
    SimpleSender out(fifo);
    SimpleReceiver in(fifo, 0);
    ASSERT_TRUE(out.cut({64, slots}, most));
    uint64_t sent = 0;
    const auto send = [&] {
      ASSERT_EQ(out.slot(), fifo.slots + sent % slots * 64);
      fill({out.slot(), 64}, sent++);
      out.publish(64, 1);
    };
    while (out.has_room(most)) send();
    EXPECT_EQ(sent, most);
    for (uint64_t received = 0; received < 4 * slots; ++received) {
      ASSERT_TRUE(in.ready() && in.matches(1));
      in.cut_as_sent();
      ASSERT_TRUE(holds({in.slot(), 64}, received)) << received;
      in.release();
      ASSERT_TRUE(out.has_room(most));
      send();
      ASSERT_FALSE(out.has_room(most));
    }
    while (in.ready()) in.release();
    fifo.tail->value = fifo.heads[0].value = 0;  // as new, for the next pair of ends
  }
}

TEST(Inproc, LastRankOutFrees) {
  const ArenaLayout layout = layout_of({.local_ranks = 2});
  const HostGroup zero{0, {0, 1}}, one{1, {0, 1}};
  auto a = InprocTransport::create({}, zero, layout), b = InprocTransport::create({}, one, layout);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)->control_page(0).data(), (*b)->control_page(0).data());
  (*a)->control_page(0)[0] = std::byte{7};
  a->reset();
  EXPECT_EQ((*b)->control_page(0)[0], std::byte{7});  // still there for the other
  b->reset();
  auto again = InprocTransport::create({}, zero, layout);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->control_page(0)[0], std::byte{0});  // a new arena
}

TEST(Inproc, KeepsCommunicatorsAndHostGroupsApart) {
  const ArenaLayout layout = layout_of({.local_ranks = 2});
  CommunicatorTag other{};
  other[0] = std::byte{1};
  auto a = InprocTransport::create({}, {0, {0, 1}}, layout);
  auto b = InprocTransport::create(other, {0, {0, 1}}, layout);
  auto c = InprocTransport::create({}, {2, {2, 3}}, layout);
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  std::set<std::byte*> pages = {(*a)->control_page(0).data(), (*b)->control_page(0).data(),
                                (*c)->control_page(2).data()};
  EXPECT_EQ(pages.size(), 3u);
}

TEST(Inproc, NamesARankWithAnotherLayout) {
  auto a = InprocTransport::create({}, {0, {0, 1}}, layout_of({.local_ranks = 2}));
  auto b = InprocTransport::create({}, {1, {0, 1}}, layout_of({.local_ranks = 2, .channels = 2}));
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(b.status().code(), Code::InvalidUsage);
  EXPECT_NE(b.status().message().find("rank 1 computed"), std::string::npos) << b.status().message();
}

TEST(Inproc, ComesAndGoesFromManyThreads) {
  const ArenaLayout layout = layout_of({.local_ranks = 4, .channels = 1});
  std::vector<std::thread> threads;
  for (int r = 0; r < 4; ++r)
    threads.emplace_back([&, r] {
      for (int i = 0; i < 200; ++i) EXPECT_TRUE(InprocTransport::create({}, {r, {0, 1, 2, 3}}, layout).ok());
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tutti::test
