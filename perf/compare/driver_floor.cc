// SPDX-License-Identifier: Apache-2.0
//
// The floors: what the machine allows, written with no library in between. Starts its own ranks, pinned like the peers.
//
//   --kind lines    one cache line between two processes: both store and wait ("exchange", the smallest possible 2-rank
//                   AllReduce of 8 B, with the data in the line), and one direction of a ping-pong ("one_way"); of more
//                   ranks the exchange alone, which is a matter of switches where they share cores
//   --kind memcpy   memcpy on one rank, and on all ranks at the same time
//   --kind staged   2-rank AllReduce of ordinary private buffers through cached shared slots
//   --kind mapped   2-rank AllReduce when each process can address the other's buffers
//   --kind tcp      2-rank collectives over a bare socket, with --hosts (tcp_floor.h)
//
// staged and mapped are peers like any other: same cells, same checks, same batches. They have variants, because what
// is fastest depends on the size; the floor of a cell is its best variant.
#include <linux/memfd.h>
#include <sys/syscall.h>

#include "perf/compare/harness.h"
#include "perf/compare/streaming.h"
#include "perf/compare/tcp_floor.h"

namespace tutti::compare {
namespace {

// One line: data and sequence number travel together.
struct alignas(64) Line {
  float data[2];
  std::atomic<uint64_t> sequence;
};

struct alignas(64) Counter {
  std::atomic<uint64_t> value;                                             // written by one rank only; grows for ever
  void publish(uint64_t v) { value.store(v, std::memory_order_release); }  // pairs with wait_for()
  void wait_for(uint64_t v) const {
    while (value.load(std::memory_order_acquire) < v) {
    }
  }
};

inline constexpr int kMostRanks = 64;
inline constexpr size_t kStagingBytes = 8 << 20;  // for the slots of one rank and direction

struct Shared {
  Line lines[kMostRanks][2];  // [rank][parity]: written again only after all have answered with the other parity
  Counter staged[2], reduced[2], fetched[2], entered[2];
  alignas(4096) char inputs[2][kStagingBytes];   // written by the rank that owns the input
  alignas(4096) char results[2][kStagingBytes];  // written by the rank that reduced
};

size_t first_half(size_t count) { return std::min(count, (count / 2 + 15) / 16 * 16); }

// Rank r reduces half r. For each slice of the halves, in this order so that slots are emptied before they are filled:
//
//   fetch   the peer's result of slice k - 2     results[peer] -> my output
//   reduce  my half's slice k - 1                my input + inputs[peer] -> my output, results[me]
//   stage   slice k of the peer's half           my input -> inputs[me]
//
// Counters count slices since the start of the run, so nothing is reset and a call needs no barrier.
class StagedFloor : public OrdinaryPeer {
 public:
  StagedFloor(Shared* shared, int rank) : shared_(shared), me_(rank) {}

  std::string version() { return "staged AllReduce"; }
  std::string variants(const Problem& p) {  // slice size / kind of store for the output
    if (p.bytes <= 256 << 10) return "64K/st,64K/nt";
    return "256K/st,128K/nt,256K/nt,512K/nt";
  }

  template <class Run>
  std::string with_operation(Problem& p, const std::string& variant, float* send, float* recv, Run& run) {
    if (p.collective != Collective::AllReduce || p.ranks != 2) return "the floor is an AllReduce of 2 ranks";
    if (p.bytes < kSmallest) return "the exchange of a line is the floor here";
    const size_t slice = parse_size(variant.substr(0, variant.find('/'))) / sizeof(float);
    const bool stream = variant.ends_with("/nt");
    return run([=, this, count = p.recv_count] {
      if (stream)
        all_reduce<Store::NonTemporal>(send, recv, count, slice);
      else
        all_reduce<Store::Ordinary>(send, recv, count, slice);
      return 0;
    });
  }

 private:
  static constexpr size_t kSmallest = 16 << 10;
  static constexpr uint64_t kSlots = 4;  // few, so that the slots of both ranks stay in their L2s

  template <Store kind>
  void all_reduce(const float* in, float* out, size_t count, size_t slice) {
    Shared& s = *shared_;
    const int peer = 1 - me_;
    const size_t cut = first_half(count);
    const size_t begin[2] = {0, cut}, length[2] = {cut, count - cut};
    const size_t slices = (cut + slice - 1) / slice;
    const auto size_of = [&](int half, size_t k) {
      const size_t at = std::min(k * slice, length[half]);
      return std::min(slice, length[half] - at);
    };
    const auto slot = [&](char* area, uint64_t k) { return reinterpret_cast<float*>(area) + k % kSlots * slice; };
    for (size_t k = 0; k < slices + 2; ++k) {
      if (k >= 2) {
        const uint64_t j = k - 2;
        s.reduced[peer].wait_for(done_ + j + 1);
        copy<kind>(out + begin[peer] + j * slice, slot(s.results[peer], done_ + j), size_of(peer, j));
        s.fetched[me_].publish(done_ + j + 1);
      }
      if (k >= 1 && k - 1 < slices) {
        const uint64_t j = k - 1, total = done_ + j;
        s.staged[peer].wait_for(total + 1);
        if (total >= kSlots) s.fetched[peer].wait_for(total + 1 - kSlots);
        const size_t at = begin[me_] + j * slice;
        add_to_both<kind, Store::Ordinary>(out + at, slot(s.results[me_], total), in + at, slot(s.inputs[peer], total),
                                           size_of(me_, j));
        s.reduced[me_].publish(total + 1);
      }
      if (k < slices) {
        const uint64_t total = done_ + k;
        if (total >= kSlots) s.reduced[peer].wait_for(total + 1 - kSlots);
        copy<Store::Ordinary>(slot(s.inputs[me_], total), in + begin[peer] + k * slice, size_of(peer, k));
        s.staged[me_].publish(total + 1);
      }
    }
    stores_done();
    done_ += slices;
  }

  Shared* shared_;
  int me_;
  uint64_t done_ = 0;  // slices of all calls before this one; the same number on both ranks
};

// Both ranks map both ranks' buffers: each rank reads both inputs of its half once and writes both outputs once.
class MappedFloor : public OrdinaryPeer {
 public:
  MappedFloor(Control& control, Shared* shared, int memory) : control_(control), shared_(shared), memory_(memory) {}

  std::string version() { return "mapped AllReduce"; }
  std::string variants(const Problem&) { return "st,nt"; }

  float* allocate(size_t bytes) {
    const size_t padded = padded_size(bytes);
    const size_t before = regions_.size() * padded * 2;
    control_.barrier();
    if (control_.rank() == 0 && ftruncate(memory_, static_cast<off_t>(before + 2 * padded)) != 0) return nullptr;
    control_.barrier();
    void* both = mmap(nullptr, 2 * padded, PROT_READ | PROT_WRITE, MAP_SHARED, memory_, static_cast<off_t>(before));
    if (both == MAP_FAILED) return nullptr;
    regions_.push_back(static_cast<char*>(both));
    return reinterpret_cast<float*>(regions_.back() + control_.rank() * padded);
  }
  void release(float*, size_t bytes) {
    munmap(regions_.back(), 2 * padded_size(bytes));
    regions_.pop_back();
    control_.barrier();
    if (regions_.empty() && control_.rank() == 0 && ftruncate(memory_, 0) != 0) control_.fail("ftruncate");
    control_.barrier();
  }

  template <class Run>
  std::string with_operation(Problem& p, const std::string& variant, float*, float*, Run& run) {
    if (p.collective != Collective::AllReduce || p.ranks != 2) return "the floor is an AllReduce of 2 ranks";
    const size_t padded = padded_size(p.recv_count * sizeof(float));
    const auto buffer = [&](size_t region, int rank) {
      return reinterpret_cast<float*>(regions_[region] + rank * padded);
    };
    const float *a = buffer(0, 0), *b = buffer(0, 1);
    float *first = buffer(1, 0), *second = buffer(1, 1);
    const size_t cut = first_half(p.recv_count);
    const size_t begin = p.rank == 0 ? 0 : cut, length = p.rank == 0 ? cut : p.recv_count - cut;
    return run([=, this, stream = variant == "nt"] {
      meet();  // both inputs are written, both outputs are free
      if (stream) {
        add_to_both<Store::NonTemporal, Store::NonTemporal>(first + begin, second + begin, a + begin, b + begin,
                                                            length);
        stores_done();
      } else {
        add_to_both<Store::Ordinary, Store::Ordinary>(first + begin, second + begin, a + begin, b + begin, length);
      }
      meet();  // both halves are written
      return 0;
    });
  }

 private:
  static size_t padded_size(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }
  void meet() {
    shared_->entered[control_.rank()].publish(++meetings_);
    shared_->entered[1 - control_.rank()].wait_for(meetings_);
  }

  Control& control_;
  Shared* shared_;
  int memory_;
  uint64_t meetings_ = 0;
  std::vector<char*> regions_;  // send, then recv
};

void report(Output& output, Control& control, const Options& options, const char* name, size_t bytes,
            const std::function<BatchTime(int)>& batch) {
  output.cell(name, bytes, bytes, "", time_batches(control, options, batch), 0);
}

// The loops are spelled out here, not passed as a call per operation: at 0.15 us an indirect call shows.
void measure_lines(Control& control, const Options& options, Output& output, Shared* shared) {
  const int me = control.rank(), peer = 1 - me;
  // Both go on where the measurement before ended.
  uint64_t sequence = std::max(shared->lines[me][0].sequence.load(), shared->lines[me][1].sequence.load());
  uint64_t turn = shared->entered[me].value.load();
  control.barrier();
  const auto timed = [](int k, auto&& once) {
    const double begin = now_us();
    for (int i = 0; i < k; ++i) once(i);
    const double each = (now_us() - begin) / k;
    return BatchTime{each, each};
  };
  float sum[2] = {};
  report(output, control, options, "exchange", 8, [&](int k) {
    return timed(k, [&](int i) {
      ++sequence;
      Line& mine = shared->lines[me][sequence & 1];
      const Line& theirs = shared->lines[peer][sequence & 1];
      mine.data[0] = static_cast<float>(i), mine.data[1] = 1;
      mine.sequence.store(sequence, std::memory_order_release);  // pairs with the peer's acquire
      while (theirs.sequence.load(std::memory_order_acquire) != sequence) {
      }
      sum[0] = static_cast<float>(i) + theirs.data[0];
      sum[1] = 1 + theirs.data[1];
      if (sum[1] != 2) control.fail("the exchanged line is wrong");
    });
  });
  control.barrier();
  Counter& mine = shared->entered[me];
  const Counter& theirs = shared->entered[peer];
  report(output, control, options, "one_way", 8, [&](int k) {
    BatchTime round_trip = timed(k, [&](int) {
      ++turn;
      if (me == 0) mine.publish(turn);
      theirs.wait_for(turn);
      if (me == 1) mine.publish(turn);
    });
    return BatchTime{round_trip.inside_us / 2, round_trip.wall_us};
  });
}

// More ranks: the one-shot AllReduce of 8 B. With more of them than cores, a rank that misses one of its own core gives
// the core away at once; if all that it misses have other cores, after about the time of a switch.
void measure_turns(Control& control, const Options& options, Output& output, Shared* shared) {
  constexpr int kPollsApart = 300, kPollsBeside = 2;
  const int me = control.rank(), ranks = control.ranks(), cores = cores_before_pinning();
  uint64_t sequence = 0;
  for (int rank = 0; rank < ranks; ++rank)
    for (const Line& line : shared->lines[rank]) sequence = std::max(sequence, line.sequence.load());
  control.barrier();
  report(output, control, options, "exchange", 8, [&](int k) {
    const double begin = now_us();
    for (int i = 0; i < k; ++i) {
      ++sequence;
      Line& mine = shared->lines[me][sequence & 1];
      mine.data[0] = static_cast<float>(i), mine.data[1] = 1;
      mine.sequence.store(sequence, std::memory_order_release);  // pairs with the peers' acquire
      const auto there = [&](int rank) {
        return shared->lines[rank][sequence & 1].sequence.load(std::memory_order_acquire) == sequence;
      };
      int next = 0;
      for (int polls = 1;; ++polls) {
        while (next < ranks && there(next)) ++next;
        if (next == ranks) break;
        bool beside = false;
        for (int rank = next; rank < ranks; ++rank) beside |= rank % cores == me % cores && !there(rank);
        if (!control.crowded() || polls <= (beside ? kPollsBeside : kPollsApart)) continue;
        polls = 0;
        sched_yield();
      }
      float sum[2] = {};
      for (int rank = 0; rank < ranks; ++rank) {
        sum[0] += shared->lines[rank][sequence & 1].data[0];
        sum[1] += shared->lines[rank][sequence & 1].data[1];
      }
      if (sum[1] != static_cast<float>(ranks)) control.fail("an exchanged line is wrong");
    }
    const double each = (now_us() - begin) / k;
    return BatchTime{each, each};
  });
}

inline constexpr size_t kSmallestCopy = 4 << 10;  // below, it is the call that takes the time

void measure_memcpy(Control& control, const Options& options, Output& output, size_t bytes) {
  float* from = allocate_ordinary(bytes);
  float* to = allocate_ordinary(bytes);
  std::memset(from, 1, bytes);
  std::memset(to, 0, bytes);
  for (const bool together : {false, true}) {
    const bool works = together || control.rank() == 0;
    report(output, control, options, together ? "memcpy_all" : "memcpy_one", bytes, [&](int k) {
      const double begin = now_us();
      for (int i = 0; works && i < k; ++i) {
        std::memcpy(to, from, bytes);
        asm volatile("" : : "r"(to) : "memory");  // the copy is not dead
      }
      const double each = (now_us() - begin) / k;
      return BatchTime{each, each};
    });
  }
  std::free(from);
  std::free(to);
}

Shared* map_shared() {
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) usage_error("no shared memory for the floors");
  return static_cast<Shared*>(memory);
}

}  // namespace
}  // namespace tutti::compare

int main(int argc, char** argv) {
  using namespace tutti::compare;
  const Options options = parse_options(argc, argv);
  const bool any_ranks = options.kind == "memcpy" || (options.kind == "lines" && options.ranks <= kMostRanks);
  if (!any_ranks && options.ranks != 2) usage_error("these floors are of 2 ranks");
  Shared* shared = map_shared();
  const int memory = static_cast<int>(syscall(SYS_memfd_create, "compare-mapped", 0));
  return run_forked(options.ranks, options.pin, options.hosts, [&](Control& control) {
    Output output(control);
    if (options.kind == "lines") {
      output.driver("cache lines between processes", control.ranks());
      for_each_cell(control, options, output, [&](Collective, size_t bytes) {
        if (bytes > sizeof(Line::data)) return;
        control.ranks() == 2 ? measure_lines(control, options, output, shared)
                             : measure_turns(control, options, output, shared);
      });
    } else if (options.kind == "memcpy") {
      output.driver("memcpy", control.ranks());
      for_each_cell(control, options, output, [&](Collective, size_t bytes) {
        if (bytes >= kSmallestCopy) measure_memcpy(control, options, output, bytes);
      });
    } else if (options.kind == "staged") {
      StagedFloor peer(shared, control.rank());
      run_cells(peer, control, options);
    } else if (options.kind == "mapped") {
      MappedFloor peer(control, shared, memory);
      run_cells(peer, control, options);
    } else if (options.kind == "tcp") {
      TcpFloor peer(control);
      run_cells(peer, control, options);
    } else {
      usage_error("--kind must be lines, memcpy, staged, mapped or tcp");
    }
    return 0;
  });
}
