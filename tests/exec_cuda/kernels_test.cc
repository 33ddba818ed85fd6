// SPDX-License-Identifier: Apache-2.0
// The bodies of the kernels, all ranks in one grid: every schedule of the catalog that sends through slots, by every
// protocol of the kernels, over fresh connections and over used ones.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "exec/cuda/step_table.h"
#include "fakes/cpu_kernels.h"
#include "fakes/cuda_threads.h"
#include "plan/plan.h"

namespace tutti::cuda {
namespace {

constexpr uint64_t kLineSlots = 4;

// Zeroed, as slots must be; aligned to 128.
class Memory {
 public:
  explicit Memory(uint64_t bytes) : lines_((bytes + 127) / 128) {}
  std::byte* data() { return lines_.data()->bytes; }

 private:
  struct alignas(128) Line {
    std::byte bytes[128] = {};
  };
  std::vector<Line> lines_;
};

// The connection of one ordered pair, in memory that both ends see.
struct Connection {
  Memory simple, ll, ll128;
  SimpleMemory simple_memory;
  LineMemory ll_memory, ll128_memory;

  Connection(const SlotCut& cut, uint64_t slice)
      : simple(sizeof(TailLine) + sizeof(CounterLine) + SimpleMemory::kMostInFlight * sizeof(SlotDescriptor) + 128 +
               cut.bytes * cut.count),
        ll(128 + kLineSlots * ll_slot_bytes(slice)),
        ll128(128 + kLineSlots * ll128_slot_bytes(slice)) {
    std::byte* at = simple.data();
    simple_memory.tail = reinterpret_cast<TailLine*>(at);
    simple_memory.heads = reinterpret_cast<CounterLine*>(at += sizeof(TailLine));
    simple_memory.readers = 1;
    simple_memory.descriptors = reinterpret_cast<SlotDescriptor*>(at += sizeof(CounterLine));
    simple_memory.slots = at + SimpleMemory::kMostInFlight * sizeof(SlotDescriptor);
    simple_memory.capacity = cut.bytes * cut.count;
    ll_memory = {reinterpret_cast<CounterLine*>(ll.data()), 1, ll.data() + 128, ll_slot_bytes(slice), kLineSlots};
    ll128_memory = {reinterpret_cast<CounterLine*>(ll128.data()), 1, ll128.data() + 128, ll128_slot_bytes(slice),
                    kLineSlots};
  }
};

// All ranks of one plan, ready to be launched again and again.
class Ranks {
 public:
  Ranks(const Plan& plan, int n, int root) : plan_(plan), n_(n), root_(root) {
    const SlotCut cut{plan.slice_bytes, plan.slots};
    const auto count = static_cast<size_t>(n);
    for (int channel = 0; channel < plan.channels; ++channel) {
      sends_.emplace_back(count, std::vector<CudaSendEnd>(count));
      receives_.emplace_back(count, std::vector<CudaReceiveEnd>(count));
      for (size_t from = 0; from < count; ++from) {
        for (size_t to = 0; to < count; ++to) {
          Connection& pair = connections_.emplace_back(cut, plan.slice_bytes);
          sends_.back()[from][to] = {SimpleSender(pair.simple_memory), LineSender(pair.ll_memory),
                                     LineSender(pair.ll128_memory), true};
          receives_.back()[to][from] = {SimpleReceiver(pair.simple_memory, 0), LineReceiver(pair.ll_memory, 0),
                                        LineReceiver(pair.ll128_memory, 0), true};
        }
      }
    }
    for (int me = 0; me < n; ++me) {
      std::vector<CudaBlock>& mine = blocks_.emplace_back();
      for (int channel = 0; channel < plan.channels; ++channel) {
        for (int part = 0; part < plan.parts; ++part) {
          const AnySchedule schedule =
              make_schedule(plan.coll, plan.algo, {.me = me, .n = n, .root = root, .channel = channel, .part = part});
          const StepTable table(schedule, n);
          std::vector<int>& peers = peers_.emplace_back(table.peers);
          std::vector<Step>& steps = steps_.emplace_back(table.steps_with_peers_at(peers.data()));
          CudaBlock block;
          block.tiling = {channel, plan.channels, plan.blocks, plan.slices, plan.slice_bytes};
          block.cut = cut;
          block.steps = steps.data();
          block.step_count = static_cast<int>(steps.size());
          block.most_from = table.most_from;
          block.most_to = table.most_to;
          block.send = sends_[static_cast<size_t>(channel)][static_cast<size_t>(me)].data();
          block.receive = receives_[static_cast<size_t>(channel)][static_cast<size_t>(me)].data();
          shared_ = std::max(shared_, shared_bytes(table.most_from, table.most_to));
          mine.push_back(block);
        }
      }
    }
    reports_.resize(count * blocks_[0].size());
    scratch_.assign(count, std::vector<std::byte>(plan.scratch_bytes));
  }

  // One call. `in` and `out`: the ranks' buffers. `odd_rank` calls something else than the others.
  bool launch(CpuKernel body, uint64_t bytes, std::vector<std::vector<std::byte>>& in,
              std::vector<std::vector<std::byte>>& out, uint64_t seed, uint32_t odd_rank = UINT32_MAX) {
    std::vector<CudaWork> works(static_cast<size_t>(n_));
    const auto each = static_cast<uint32_t>(blocks_[0].size());
    std::fill(reports_.begin(), reports_.end(), 0);
    for (uint32_t r = 0; r < works.size(); ++r) {
      CudaWork& work = works[r];
      work.first_block = r * each;
      work.block_count = each;
      work.blocks = blocks_[r].data();
      work.input = in[r].data();
      work.output = out[r].data();
      work.scratch = scratch_[r].data();
      work.layout = coll_layout(plan_.coll, n_, static_cast<int>(r), root_, bytes);
      work.me = static_cast<int>(r);
      work.n = n_;
      work.identity = r == odd_rank ? 8 : 7;
      work.type = DataType::Float32;
      work.op = ReduceOp::Sum;
      work.control = &control;
      work.reports = &reports_[r * each];
    }
    CudaLaunch launch;
    launch.works = works.data();
    launch.work_count = static_cast<uint32_t>(n_);
    Grid grid{.blocks = each * static_cast<uint32_t>(n_), .threads = 32, .shared_bytes = shared_, .seed = seed};
    grid.goes_on = beside;
    return run_grid(grid, [&] { body(launch); });
  }
  Report report(int rank, size_t block = 0) const {
    return Report::of(reports_[static_cast<size_t>(rank) * blocks_[0].size() + block]);
  }
  bool all_fine() const {
    return std::all_of(reports_.begin(), reports_.end(), [](uint64_t word) { return word == 0; });
  }

  CudaControl control;
  std::function<bool(uint64_t)> beside;

 private:
  const Plan plan_;
  const int n_, root_;
  std::deque<Connection> connections_;
  std::deque<std::vector<std::vector<CudaSendEnd>>> sends_;        // by channel, rank, peer
  std::deque<std::vector<std::vector<CudaReceiveEnd>>> receives_;  // by channel, rank, peer
  std::deque<std::vector<int>> peers_;
  std::deque<std::vector<Step>> steps_;
  std::vector<std::vector<CudaBlock>> blocks_;
  std::vector<uint64_t> reports_;
  std::vector<std::vector<std::byte>> scratch_;
  uint32_t shared_ = 0;
};

constexpr KernelProto kSlotProtos[] = {KernelProto::Simple, KernelProto::LL, KernelProto::LL128};

// What rank r has in element i; small enough for sums to be exact.
float value(int r, uint64_t i, int call) { return static_cast<float>((r * 13 + static_cast<int>(i % 31) + call) % 64); }

uint64_t blocks_in(Coll coll, int n) {
  return coll == Coll::ReduceScatter || coll == Coll::AllToAll || coll == Coll::Scatter ? static_cast<uint64_t>(n) : 1;
}
uint64_t blocks_out(Coll coll, int n) {
  return coll == Coll::AllGather || coll == Coll::AllToAll || coll == Coll::Gather ? static_cast<uint64_t>(n) : 1;
}

// Element i of rank `me`'s output; negative: not to be looked at.
float expected(Coll coll, int n, int me, int root, uint64_t count, uint64_t i, int call) {
  const uint64_t block = i / count, within = i % count;
  const auto sum = [&](uint64_t at) {
    float total = 0;
    for (int r = 0; r < n; ++r) total += value(r, at, call);
    return total;
  };
  switch (coll) {
    case Coll::AllReduce:
      return sum(i);
    case Coll::Reduce:
      return me == root ? sum(i) : -1;
    case Coll::Broadcast:
      return value(root, i, call);
    case Coll::AllGather:
      return value(static_cast<int>(block), within, call);
    case Coll::ReduceScatter:
      return sum(static_cast<uint64_t>(me) * count + i);
    case Coll::AllToAll:
      return value(static_cast<int>(block), static_cast<uint64_t>(me) * count + within, call);
    case Coll::Gather:
      return me == root ? value(static_cast<int>(block), within, call) : -1;
    default:
      return value(root, static_cast<uint64_t>(me) * count + i, call);
  }
}

void check(const Plan& plan, KernelProto proto, int n, int root, uint64_t count) {
  SCOPED_TRACE(fmt::format("{} {} {} n {} root {} count {} slice {} channels {}", name(plan.coll), name(plan.algo),
                           kKernelProtoNames[static_cast<int>(proto)], n, root, count, plan.slice_bytes,
                           plan.channels));
  Ranks ranks(plan, n, root);
  for (int call = 0; call < 3; ++call) {
    const uint64_t ins = blocks_in(plan.coll, n) * count, outs = blocks_out(plan.coll, n) * count;
    std::vector<std::vector<std::byte>> in(static_cast<size_t>(n)), out(static_cast<size_t>(n));
    for (int r = 0; r < n; ++r) {
      std::vector<float> mine(ins);
      for (uint64_t i = 0; i < ins; ++i) mine[i] = value(r, i, call);
      in[static_cast<size_t>(r)].resize(ins * sizeof(float));
      std::memcpy(in[static_cast<size_t>(r)].data(), mine.data(), ins * sizeof(float));
      out[static_cast<size_t>(r)].resize(outs * sizeof(float));
    }
    ASSERT_TRUE(ranks.launch(cpu_kernel(proto), count * sizeof(float), in, out, static_cast<uint64_t>(call + 1)))
        << "stands still";
    ASSERT_TRUE(ranks.all_fine());
    for (int r = 0; r < n; ++r) {
      std::vector<float> got(outs);
      std::memcpy(got.data(), out[static_cast<size_t>(r)].data(), outs * sizeof(float));
      for (uint64_t i = 0; i < outs; ++i) {
        const float want = expected(plan.coll, n, r, root, count, i, call);
        if (want >= 0) {
          ASSERT_EQ(got[i], want) << "call " << call << " rank " << r << " element " << i;
        }
      }
    }
  }
}

std::vector<Plan> plans(Coll coll, int n, int root, uint64_t bytes, uint64_t slice_bytes, int channels) {
  Summary summary;
  summary.n = n;
  summary.slice_bytes = slice_bytes;
  summary.min_channels = summary.max_channels = channels;
  summary.protocols = "simple";
  const Result<std::vector<Candidate>> candidates =
      plan_candidates(summary, {.coll = coll, .bytes = bytes, .root = root});
  std::vector<Plan> found;
  if (!candidates) return found;
  for (const Candidate& candidate : *candidates) {
    if (candidate.fits && candidate.plan.proto == Proto::Simple) found.push_back(candidate.plan);
  }
  return found;
}

class EveryCollective : public testing::TestWithParam<Coll> {};

TEST_P(EveryCollective, GivesTheRightValuesByEveryProtocol) {
  int seen = 0;
  for (const int n : {1, 2, 3, 4, 5, 8}) {
    const int root = n / 2;
    for (const uint64_t count : {1, 7, 333}) {
      for (const int channels : {1, 2}) {
        for (const Plan& plan : plans(GetParam(), n, root, count * sizeof(float), 256, channels)) {
          for (const KernelProto proto : kSlotProtos) {
            check(plan, proto, n, root, count);
            if (HasFatalFailure()) return;
            ++seen;
          }
        }
      }
    }
  }
  EXPECT_GT(seen, 30);
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryCollective,
                         testing::Values(Coll::AllReduce, Coll::Reduce, Coll::Broadcast, Coll::AllGather,
                                         Coll::ReduceScatter, Coll::AllToAll, Coll::Gather, Coll::Scatter),
                         [](const auto& info) { return std::string(name(info.param)); });

// A rank that calls something else: who meets its slot says so, and the host ends the rest.
TEST(Kernels, AnotherCallIsAMismatchAndTheHostEndsTheOthers) {
  for (const KernelProto proto : kSlotProtos) {
    SCOPED_TRACE(kKernelProtoNames[static_cast<int>(proto)]);
    const std::vector<Plan> found = plans(Coll::AllReduce, 3, 0, 64, 256, 1);
    ASSERT_FALSE(found.empty());
    const Plan& plan = found.front();
    Ranks ranks(plan, 3, 0);
    std::vector<std::vector<std::byte>> in(3, std::vector<std::byte>(64)), out = in;
    ranks.beside = [&](uint64_t turn) {
      if (turn == 2000) store_relaxed(ranks.control.end, uint64_t{1});
      return true;
    };
    ASSERT_TRUE(ranks.launch(cpu_kernel(proto), 64, in, out, 1, 1)) << "stands still";
    int mismatches = 0;
    for (int r = 0; r < 3; ++r) {
      for (int block = 0; block < plan.parts; ++block) {
        const Report report = ranks.report(r, static_cast<size_t>(block));
        if (report.ended != Ended::Mismatch) continue;
        ++mismatches;
        EXPECT_TRUE(r == 1 || report.peer == 1) << "rank " << r << " blames " << report.peer;
      }
    }
    EXPECT_GT(mismatches, 0);
  }
}

}  // namespace
}  // namespace tutti::cuda
