// SPDX-License-Identifier: Apache-2.0
// Plan: the decision for one shape of call. Equal on all ranks by construction: made from the call's arguments and a
// Summary that the ranks compared at initialisation, never from rank-local facts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algo/catalog.h"
#include "base/status.h"
#include "plan/profile.h"
#include "plan/traffic.h"

namespace tutti {

struct Plan {
  Coll coll = Coll::AllReduce;
  Algo algo = Algo::Ring;
  Proto proto = Proto::Simple;
  int channels = 1;
  int parts = 1;                       // lanes per channel
  int blocks = 1;                      // blocks a Region is cut into in each round
  int slices = 1;                      // slices of one block in one round
  uint64_t slice_bytes = 0;            // also the size of a slot
  uint64_t slots = 2;                  // Simple: of a connection, in flight
  uint64_t cycled = 2;                 // the same, where it pays to cycle through more (CpuLane::cut)
  uint64_t scratch_bytes = 0;          // memory of the lanes' own
  bool stream_output = false;          // non-temporal stores to the user's output
  bool copies = false;                 // Rma between GPUs: carried by copy engines, which the host directs
  const UserSchedule* user = nullptr;  // Algo::User: which; outlives the process
  double predicted_us = 0;
  // The rings and trees that its channels run on (Summary::channels); null: the order of rank numbers.
  std::shared_ptr<const ChannelTable> channel_table = nullptr;

  const ChannelMap* channel_map() const { return channel_table != nullptr ? &channel_table->map() : nullptr; }
};

// The shape of a call, as far as the planner cares.
struct Shape {
  Coll coll = Coll::AllReduce;
  uint64_t bytes = 0;      // of the region (AllReduce, Broadcast, Reduce, SendRecv) or of one block (the others)
  bool ragged = false;     // blocks of different sizes, known only in part to each rank (the V collectives)
  bool prescaled = false;  // each rank's input has a factor that only that rank knows
  bool refused = false;    // all ranks know that the buffers of the call do not allow what may be refused (Rma)
  bool in_place = false;   // all ranks know that some rank's output is its input
  int root = 0;            // where there is one; only user schedules depend on it
};

struct Fabric;  // plan/fabric.h

// What all ranks know alike about the machine and the configuration.
// What carries slots between hosts, for the cost model alone: sockets; RDMA with slots in memory of the hosts; RDMA
// with slots in the memory of GPUs.
enum class Wire : uint8_t { Sockets, Rdma, RdmaOfGpus };

struct Summary {
  int n = 1;
  int hosts = 1;
  std::shared_ptr<const HostTable> places = nullptr;  // which ranks share memory; null: all, or it does not matter
  int ranks_per_core = 1;                             // on the fullest host, rounded up
  bool mapped = true;                                 // every pair maps its slots: LL and fan-out exist
  bool single_copy = false;             // every rank can read every other's memory (one process, or the kernel copies)
  bool windows = false;                 // windows are registered (the buffers of a call may still lie elsewhere)
  bool copies = false;                  // one host knows where all buffers of the call are, and can tell copy engines
  uint64_t copy_from = 0;               // bytes of a block from which on they are told; 0: by cost
  Wire wire = Wire::Sockets;            // the slowest of the job
  uint64_t slot_capacity = UINT64_MAX;  // bytes of Simple slots of the smallest connection
  uint64_t ll_slots = UINT64_MAX;       // LL slots of the smallest connection
  uint64_t ll128_slots = 0;             // the same of LL128; 0: a line may be seen in pieces (ll128_holds)
  int most_channels = INT32_MAX;        // what every connection offers
  uint64_t cache_bytes = UINT64_MAX;    // L2 per core, on the smallest
  const Profile* profile = &built_in_profile({});  // never null; outlives the process
  const Fabric* fabric = nullptr;  // GPU ranks: the links between them. Null: CPU ranks, whom the profile describes
  // The rings and trees on these links, found for the collective and root that is planned. Null: none were looked for.
  std::shared_ptr<const ChannelTable> channels = nullptr;
  // Restrictions by environment and configuration, as text; parsed by the planner.
  std::string algorithms = "auto";
  std::string protocols = "auto";
  int min_channels = 0, max_channels = 0;                                  // 0: free
  uint64_t slice_bytes = 0;                                                // 0: free
  std::vector<const UserSchedule*> schedules;                              // proven ones of TUTTI_SCHEDULES
  std::shared_ptr<TrafficBook> traffic = std::make_shared<TrafficBook>();  // walked so far, on these places

  Ranks ranks() const {
    return {n, places != nullptr ? &places->map() : nullptr, nullptr, channels != nullptr ? &channels->map() : nullptr};
  }
};

struct Candidate {
  Plan plan;
  std::string lost;   // why it was not chosen; empty for the winner
  bool fits = false;  // it serves the call: its prediction means something
};

// All candidates, the best first. An error says which restriction excluded everything.
Result<std::vector<Candidate>> plan_candidates(const Summary& summary, const Shape& shape);
Result<Plan> make_plan(const Summary& summary, const Shape& shape);
// One line per candidate with its predicted time and why it lost.
Result<std::string> explain_plan(const Summary& summary, const Shape& shape);
// Checks the restrictions' spelling once, at initialisation.
Status check_restrictions(const Summary& summary);
// Of everything that enters a plan; compared between the ranks at initialisation.
uint64_t summary_digest(const Summary& summary);

}  // namespace tutti
