// SPDX-License-Identifier: Apache-2.0
// What is tried: a World is a set of ranks under one environment, a Case is one call in it.
//
// The sample covers every pair of values of any two dimensions (of worlds and of cases together) and fills up with
// random cases; the same seed gives the same sample. The product is every collective x type x operator x count x in
// place or not for each number of ranks and transport; algorithm, protocol, root, alignment and stream vary along.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace conformance {

enum Coll {
  kAllReduce,
  kReduce,
  kBroadcast,
  kAllGather,
  kAllGatherV,
  kReduceScatter,
  kReduceScatterV,
  kAllToAll,
  kAllToAllV,
  kGather,
  kScatter,
  kBarrier,
  kSendRecv,
  kColls
};
enum Mode { kProcesses, kThreads, kOneThread, kModes };
// kTwoHosts, kThreeHosts: ranks that believe to be on so many hosts, shared memory inside and sockets between them.
enum Transport { kShm, kInproc, kTcp, kTwoHosts, kThreeHosts, kTransports };
enum Proto { kAnyProto, kSimple, kLL, kRma, kWindows, kProtos };  // kWindows: rma, with buffers in windows

constexpr int kMaxRanks = 8;
constexpr int kAlgorithms = 10;  // 0: the planner's choice, k: the k-th of the collective's list
constexpr int kSizes = 12;       // kinds of counts, from zero to large and odd
constexpr int kRoots = 3;        // first, last, middle; for SendRecv: in a ring, in pairs, everybody with everybody

struct World {
  int n = 1, mode = 0, transport = 0, algorithm = 0, proto = 0;
};
struct Case {
  int coll = 0, type = 0, op = 0, size = 0, in_place = 0, root = 0, shift = 0, on_stream = 0;
  uint64_t seed = 0;
};

bool reduces(int coll);
// The combination exists (a process cannot use inproc, Gather has no second algorithm, ...).
bool valid(const World& world);
bool valid(const World& world, const Case& one);

// Elements of one block.
size_t element_count(const World& world, const Case& one);

// TUTTI_ALGO of a world; the others are the names.
std::string algorithm_setting(const World& world);
// TUTTI_HOST_ID of a rank; empty: it is where it is.
std::string host_id(const World& world, int rank);
extern const char* const kModeNames[kModes];
// Of TUTTI_TRANSPORTS. From take_rdma_for_tcp() on, worlds of tcp run over rdma.
const char* transport_name(int transport);
void take_rdma_for_tcp();
extern const char* const kProtoNames[kProtos];

// "n=4 threads shm ..." for people, and what --world and --case read.
std::string describe(const World& world);
std::string describe(const World& world, const Case& one);
std::string key(const World& world);
std::string key(const Case& one);
bool parse(const std::string& text, World& world);
bool parse(const std::string& text, Case& one);

struct Batch {
  World world;
  std::vector<Case> cases;
  std::vector<std::string> hosts = {};  // network namespaces, each with an equal run of ranks; none: this one
  std::string algorithms = {};          // TUTTI_ALGO; empty: by the world
};
struct Sample {
  std::vector<Batch> batches;
  size_t pairs = 0;  // pairs of values that exist, all of them covered
};
Sample sample(uint64_t seed, size_t cases_per_world);
// Worlds with windows, in one process or in several, with each kind of schedule of remote access, and with the
// planner's choice among them.
std::vector<Batch> windows_sample(uint64_t seed, bool processes, size_t cases_per_world);
// Worlds on 2 or 3 hosts with every hierarchical algorithm, and with the planner's choice.
std::vector<Batch> hosts_sample(uint64_t seed, int hosts, size_t cases_per_world);
// The product for this n and transport, world by world.
void product(int n, int transport, const std::function<void(const Batch&)>& each);

}  // namespace conformance
