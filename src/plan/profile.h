// SPDX-License-Identifier: Apache-2.0
// Profile: what moving bytes costs on a machine, as measured. Input of the cost model (cost.cc).
//
// A curve is the time in which each of two ranks, on a core of its own, brings x bytes to the other: an all-gather of
// two processes that write their input before each call, as programs do. It so contains the exchange, the copy and what
// the caches do to both; that is why the crossovers between protocols come out of it and are not set by hand.
//
// What a model makes of curves is good for ranks that nobody measured. Where `tutti tune` has timed the candidates of a
// collective themselves, on as many ranks and as many to a core, those times are taken as they are (Timed).
//
// `tutti tune` measures one and writes it as JSON; TUTTI_PROFILE names the file to use. Without one a built-in profile
// serves, chosen by the vendor of the CPU. All ranks of a job use the same (compared at initialisation).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "algo/collective.h"
#include "base/status.h"

namespace tutti {

class Curve {
 public:
  // At 64 B, 1 KiB, 4 KiB, ... each four times the one before, to 64 MiB.
  static constexpr int kPoints = 10;
  static constexpr uint64_t bytes_at(int point) { return point == 0 ? 64 : uint64_t{1024} << 2 * (point - 1); }

  constexpr Curve() = default;
  constexpr explicit Curve(const std::array<double, kPoints>& us) : us_(us) {}
  // Microseconds. Between the points both axes are logarithmic; beyond the last the rate stays.
  double operator()(double bytes) const;
  const std::array<double, kPoints>& points() const { return us_; }
  bool operator==(const Curve&) const = default;

 private:
  std::array<double, kPoints> us_ = {};
};

// One candidate as it was timed: a collective by an algorithm and a protocol on so many ranks, by bytes of the whole
// buffer (the region, or all blocks together), rising.
struct Timed {
  Coll coll = Coll::AllReduce;
  Algo algo = Algo::Ring;
  Proto proto = Proto::Simple;
  int ranks = 0;
  bool windows = false;  // between registered windows
  std::vector<double> bytes, us;
  // Microseconds. Between the points both axes are logarithmic; beyond the last the rate stays.
  double operator()(double whole) const;
  bool operator==(const Timed&) const = default;
};

// How many ranks share a core, as far as slices care: one, two, more.
inline constexpr int kSharings = 3;
constexpr int sharing_class(int ranks_per_core) { return ranks_per_core <= 1 ? 0 : ranks_per_core <= 2 ? 1 : 2; }

// Ranks on GPUs, as they were timed. Replaces the constants of fabric.cc on GPUs of the same name.
struct GpuProfile {
  // A call that moves next to nothing takes launch_us + hops * hop_us.
  struct Latency {
    double launch_us = 0, hop_us = 0;
    bool operator==(const Latency&) const = default;
  };
  std::string gpu;  // as its driver names it; empty: none was measured
  int gpus = 0;     // over which the ranks were spread, round and round
  Latency ll, simple;
  double share_ll = 0;       // of the bandwidth of Simple
  std::vector<Timed> timed;  // empty: the model alone
  const Timed* find(Coll coll, Algo algo, Proto proto, int ranks) const;
  bool operator==(const GpuProfile&) const = default;
};

struct Profile {
  std::string name;           // what it was measured on, when, by what
  Curve ll;                   // slots that carry their flag
  Curve slots;                // the Simple protocol
  Curve kernel;               // pulled by the kernel's copy
  Curve pull;                 // read from a window
  Curve push;                 // written to a window
  double switch_us = 0;       // sched_yield to another rank of the core
  double combine_gbps = 0;    // one more source of a reduction, in the caches
  uint64_t stream_above = 0;  // bytes of output from which stores past the caches pay, a rank per core
  // The largest slices of the Simple protocol, by sharing_class(). With a core per rank, lines still in the writer's L1
  // are read at 9 GB/s and lines in its L2 at 26 (2-core Xeon guest), so slices are well above the L1; with more ranks
  // than cores all slots in flight have to fit the L2 together.
  std::array<uint64_t, kSharings> slice_bytes = {256 << 10, 128 << 10, 64 << 10};
  // Bytes of slots that the ranks of a core write before they come round to the same again, by sharing_class(): all
  // their connections together. While a slot's lines are in the reader's cache the writer has to fetch them back: on
  // cores that share an L3, 7.3 ns a line; once they have left its L2 (1 MiB), 1.6 ns (2-core EPYC guest).
  std::array<uint64_t, kSharings> cycled_bytes = {2 << 20, 2 << 20, 2 << 20};
  int cpus = 0;              // of the machine on which `timed` was measured
  std::vector<Timed> timed;  // empty: the model alone
  GpuProfile gpu = {};

  // The candidate as it was timed on so many ranks with so many to a core; null: it was not. Only remote access is
  // another thing in windows than elsewhere.
  const Timed* find(Coll coll, Algo algo, Proto proto, int ranks, int ranks_per_core, bool windows) const;
  // Of all of it: equal profiles have equal digests.
  uint64_t digest() const;
  bool operator==(const Profile&) const = default;
};

// By the vendor in /proc/cpuinfo ("GenuineIntel", "AuthenticAMD", ...); any other gets the first.
const Profile& built_in_profile(const std::string& vendor);
std::string cpu_vendor();

Result<Profile> parse_profile(const std::string& json, const std::string& where);
Result<Profile> read_profile(const std::string& path);
std::string format_profile(const Profile& profile);

}  // namespace tutti
