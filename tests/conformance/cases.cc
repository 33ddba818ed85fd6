// SPDX-License-Identifier: Apache-2.0
#include "cases.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <random>
#include <string_view>

#include "reference.h"

namespace conformance {

const char* const kModeNames[kModes] = {"processes", "threads", "one-thread"};
const char* const kProtoNames[kProtos] = {"auto", "simple", "ll", "rma", "windows"};

namespace {

const char* const kCollNames[kColls] = {"AllReduce",     "Reduce",         "Broadcast", "AllGather", "AllGatherV",
                                        "ReduceScatter", "ReduceScatterV", "AllToAll",  "AllToAllV", "Gather",
                                        "Scatter",       "Barrier",        "SendRecv"};
const char* const kSizeNames[kSizes] = {"0",    "1",     "3",     "17",  "4K-1",  "4K",
                                        "4K+1", "64K-1", "64K+1", "509", "32749", "large odd"};

// Algorithms by collective, as TUTTI_ALGO spells them. An algorithm with limits stands with one to fall back on.
struct AlgorithmList {
  const char* coll;
  std::vector<const char*> names;
};
const AlgorithmList kAlgorithmLists[] = {
    {"all_reduce",
     {"ring", "tree", "one_shot", "two_shot", "doubling", "halving_doubling", "torus,ring", "hierarchical,tree"}},
    {"reduce", {"ring", "tree", "direct", "hierarchical,tree"}},
    {"broadcast", {"ring", "tree", "direct", "hierarchical,tree"}},
    {"all_gather", {"ring", "direct", "doubling,ring", "bruck,ring", "pat,ring", "hierarchical,ring"}},
    {"reduce_scatter", {"ring", "direct", "pat,ring", "hierarchical,ring"}},
    {"all_to_all", {"direct", "pairwise", "bruck,pairwise", "hierarchical,pairwise"}},
    {"gather", {"direct"}},
    {"scatter", {"direct"}},
};
int algorithm_list(int coll) {
  switch (static_cast<Coll>(coll)) {
    case kAllReduce:
    case kBarrier:
      return 0;
    case kReduce:
      return 1;
    case kBroadcast:
      return 2;
    case kAllGather:
    case kAllGatherV:
      return 3;
    case kReduceScatter:
    case kReduceScatterV:
      return 4;
    case kAllToAll:
    case kAllToAllV:
      return 5;
    case kGather:
      return 6;
    case kScatter:
      return 7;
    case kSendRecv:
    case kColls:
      break;
  }
  return -1;
}
int algorithms(int coll) {
  const int list = algorithm_list(coll);
  return list < 0 ? 0 : static_cast<int>(kAlgorithmLists[list].names.size());
}

bool rooted(int coll) { return coll == kReduce || coll == kBroadcast || coll == kGather || coll == kScatter; }
bool has_in_place(int coll) { return coll != kAllToAllV && coll != kBarrier && coll != kSendRecv; }

// The dimensions as an array, worlds' first.
constexpr int kWorldDims = 5, kDims = 13;
constexpr std::array<int, kDims> kDimSizes = {kMaxRanks, kModes, kTransports, kAlgorithms, kProtos, kColls, kTypes,
                                              kOps,      kSizes, 2,           kRoots,      2,       2};
using Point = std::array<int, kDims>;

World world_of(const Point& p) { return {p[0] + 1, p[1], p[2], p[3], p[4]}; }
Case case_of(const Point& p) { return {p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], 0}; }
bool valid_point(const Point& p) { return valid(world_of(p)) && valid(world_of(p), case_of(p)); }

class Coverage {
 public:
  Coverage() {
    for (int a = 0; a < kDims; ++a)
      first_[static_cast<size_t>(a)] =
          a == 0 ? 0 : first_[static_cast<size_t>(a) - 1] + kDimSizes[static_cast<size_t>(a) - 1];
    values_ = static_cast<size_t>(first_.back() + kDimSizes.back());
    state_.assign(values_ * values_, kImpossible);
  }
  void want(int a, int va, int b, int vb) {
    char& s = at(a, va, b, vb);
    if (s == kImpossible) s = kMissing, ++missing_, ++pairs_;
  }
  size_t gain(const Point& p) const {
    size_t found = 0;
    for (int a = 0; a < kDims; ++a)
      for (int b = a + 1; b < kDims; ++b)
        found +=
            const_cast<Coverage*>(this)->at(a, p[static_cast<size_t>(a)], b, p[static_cast<size_t>(b)]) == kMissing;
    return found;
  }
  void take(const Point& p) {
    for (int a = 0; a < kDims; ++a)
      for (int b = a + 1; b < kDims; ++b) {
        char& s = at(a, p[static_cast<size_t>(a)], b, p[static_cast<size_t>(b)]);
        if (s == kMissing) s = kCovered, --missing_;
      }
  }
  bool is_missing(int a, int va, int b, int vb) { return at(a, va, b, vb) == kMissing; }
  size_t missing() const { return missing_; }
  size_t pairs() const { return pairs_; }

 private:
  static constexpr char kImpossible = 0, kMissing = 1, kCovered = 2;
  char& at(int a, int va, int b, int vb) {
    return state_[static_cast<size_t>(first_[static_cast<size_t>(a)] + va) * values_ +
                  static_cast<size_t>(first_[static_cast<size_t>(b)] + vb)];
  }
  std::array<int, kDims> first_{};
  size_t values_ = 0, missing_ = 0, pairs_ = 0;
  std::vector<char> state_;
};

// Draws valid points, some of whose dimensions are fixed (>= 0).
class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}
  bool point(const Point& fixed, Point& out) {
    for (int attempt = 0; attempt < 400; ++attempt) {
      for (size_t d = 0; d < kDims; ++d)
        out[d] = fixed[d] >= 0 ? fixed[d] : static_cast<int>(random_() % static_cast<uint64_t>(kDimSizes[d]));
      if (valid_point(out)) return true;
    }
    return false;
  }
  uint64_t number() { return random_(); }

 private:
  std::mt19937_64 random_;
};
constexpr Point kFree = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

bool rdma_for_tcp = false;

bool same_world(const Point& a, const Point& b) { return std::equal(a.begin(), a.begin() + kWorldDims, b.begin()); }

}  // namespace

// 1: where they are.
int hosts_of(const World& w) { return w.transport == kTwoHosts ? 2 : w.transport == kThreeHosts ? 3 : 1; }

const char* transport_name(int transport) {
  static constexpr const char* kNames[kTransports] = {"shm", "inproc", "tcp", "two-hosts", "three-hosts"};
  return rdma_for_tcp && transport == kTcp ? "rdma" : kNames[transport];
}
void take_rdma_for_tcp() { rdma_for_tcp = true; }

bool reduces(int coll) {
  return coll == kAllReduce || coll == kReduce || coll == kReduceScatter || coll == kReduceScatterV;
}

bool valid(const World& w) {
  if (w.mode == kProcesses && w.transport == kInproc && w.n > 1) return false;
  const bool hosts = w.transport == kTwoHosts || w.transport == kThreeHosts;
  if (hosts && (w.mode != kProcesses || w.n <= hosts_of(w))) return false;  // a process is on one host
  if ((hosts || w.transport == kTcp) && w.proto == kLL) return false;       // exists over mapped memory only
  return w.algorithm == 0 || w.n > 1;
}

bool valid(const World& w, const Case& c) {
  if (c.coll == kBarrier && (c.type != 0 || c.size != 0 || c.shift != 0)) return false;
  if (!reduces(c.coll) && c.op != 0) return false;
  if (!has_in_place(c.coll) && c.in_place != 0) return false;
  if (!rooted(c.coll) && c.coll != kSendRecv && c.root != 0) return false;
  if (rooted(c.coll) && w.n == 1 && c.root != 0) return false;
  return w.algorithm <= std::max(algorithms(c.coll), 0);
}

size_t element_count(const World& w, const Case& c) {
  const size_t element = element_bytes(c.type);
  switch (c.size) {
    case 0:
      return 0;
    case 1:
      return 1;
    case 2:
      return 3;
    case 3:
      return 17;
    case 4:
      return 4096 / element - 1;
    case 5:
      return 4096 / element;
    case 6:
      return 4096 / element + 1;
    case 7:
      return 65536 / element - 1;
    case 8:
      return 65536 / element + 1;
    case 9:
      return 509;
    case 10:
      return 32749;
    default:
      break;
  }
  // About 1.2 MB in all, in every collective.
  const bool blocks = !(c.coll == kAllReduce || c.coll == kReduce || c.coll == kBroadcast);
  return (1200000 / element / static_cast<size_t>(blocks ? w.n : 1)) | 1;
}

// Ranks of two hosts are consecutive; among three they are dealt out, so that hosts differ in size too.
std::string host_id(const World& w, int rank) {
  const int hosts = hosts_of(w);
  if (hosts == 1) return "";
  return "host" + std::to_string(hosts == 2 ? rank * 2 / w.n : rank % hosts);
}

// Without what it may fall back on, where it has no limits.
std::string_view forced(std::string_view name, std::string_view coll, const World& w) {
  const std::string_view first = name.substr(0, name.find(','));
  const bool grid = w.n == 4 || w.n == 6 || w.n == 8;
  const bool free = (first == "torus" && grid) || (first == "hierarchical" && hosts_of(w) > 1 && coll != "all_to_all");
  return free ? first : name;
}

std::string algorithm_setting(const World& w) {
  if (w.algorithm == 0) return "auto";
  std::string text;
  for (const AlgorithmList& list : kAlgorithmLists) {
    if (static_cast<size_t>(w.algorithm) > list.names.size()) continue;
    if (!text.empty()) text += ";";
    text.append(list.coll).append(":").append(forced(list.names[static_cast<size_t>(w.algorithm) - 1], list.coll, w));
  }
  return text;
}

std::string describe(const World& w) {
  return "n=" + std::to_string(w.n) + " " + kModeNames[w.mode] + " " + transport_name(w.transport) + " proto " +
         kProtoNames[w.proto] + " algo " + algorithm_setting(w);
}
std::string describe(const World& w, const Case& c) {
  std::string text = kCollNames[c.coll];
  if (c.coll != kBarrier) {
    text += std::string(" ") + kTypeNames[c.type] + (reduces(c.coll) ? std::string(" ") + kOpNames[c.op] : "") +
            " count " + std::to_string(element_count(w, c)) + " (" + kSizeNames[c.size] + ")" +
            (c.in_place ? " in place" : "") + (c.shift ? " unaligned" : "");
  }
  if (rooted(c.coll)) text += " root " + std::to_string(c.root == 0 ? 0 : c.root == 1 ? w.n - 1 : w.n / 2);
  if (c.coll == kSendRecv) text += c.root == 0 ? " ring" : c.root == 1 ? " pairs" : " all";
  return text + (c.on_stream ? " on a stream" : "");
}
std::string key(const World& w) {
  char text[64];
  std::snprintf(text, sizeof text, "%d,%d,%d,%d,%d", w.n, w.mode, w.transport, w.algorithm, w.proto);
  return text;
}
std::string key(const Case& c) {
  char text[128];
  std::snprintf(text, sizeof text, "%d,%d,%d,%d,%d,%d,%d,%d,%llu", c.coll, c.type, c.op, c.size, c.in_place, c.root,
                c.shift, c.on_stream, static_cast<unsigned long long>(c.seed));
  return text;
}
bool parse(const std::string& text, World& w) {
  return std::sscanf(text.c_str(), "%d,%d,%d,%d,%d", &w.n, &w.mode, &w.transport, &w.algorithm, &w.proto) == 5;
}
bool parse(const std::string& text, Case& c) {
  unsigned long long seed = 0;
  const int read = std::sscanf(text.c_str(), "%d,%d,%d,%d,%d,%d,%d,%d,%llu", &c.coll, &c.type, &c.op, &c.size,
                               &c.in_place, &c.root, &c.shift, &c.on_stream, &seed);
  c.seed = seed;
  return read == 9;
}

Sample sample(uint64_t seed, size_t cases_per_world) {
  Draw draw(seed);
  Coverage coverage;
  // Which pairs exist: those for which a valid point is found. (Draws are many enough that none is missed by bad luck
  // in practice, and a pair that is, is missed for every seed's coverage alike: it is only less asked for.)
  Draw probe(1);
  for (int a = 0; a < kDims; ++a)
    for (int va = 0; va < kDimSizes[static_cast<size_t>(a)]; ++va)
      for (int b = a + 1; b < kDims; ++b)
        for (int vb = 0; vb < kDimSizes[static_cast<size_t>(b)]; ++vb) {
          Point fixed = kFree, found;
          fixed[static_cast<size_t>(a)] = va, fixed[static_cast<size_t>(b)] = vb;
          if (probe.point(fixed, found)) coverage.want(a, va, b, vb);
        }

  // Greedy: for each pair that is missing, the best of some points that hold it; worlds that exist already are tried
  // first, since a world costs processes and a rendezvous.
  std::vector<std::pair<Point, std::vector<Point>>> worlds;
  const auto add = [&](const Point& p) {
    coverage.take(p);
    auto world = std::find_if(worlds.begin(), worlds.end(), [&](const auto& w) { return same_world(w.first, p); });
    if (world == worlds.end()) world = worlds.insert(worlds.end(), {p, {}});
    world->second.push_back(p);
  };
  for (int a = 0; a < kDims; ++a)
    for (int va = 0; va < kDimSizes[static_cast<size_t>(a)]; ++va)
      for (int b = a + 1; b < kDims; ++b)
        for (int vb = 0; vb < kDimSizes[static_cast<size_t>(b)]; ++vb) {
          if (!coverage.is_missing(a, va, b, vb)) continue;
          Point fixed = kFree, best{}, found;
          fixed[static_cast<size_t>(a)] = va, fixed[static_cast<size_t>(b)] = vb;
          size_t best_gain = 0;
          for (int attempt = 0; attempt < 60; ++attempt) {
            Point wish = fixed;
            if (!worlds.empty() && attempt < 40) {
              const Point& world = worlds[draw.number() % worlds.size()].first;
              bool fits = true;
              for (size_t d = 0; d < kWorldDims; ++d) fits &= fixed[d] < 0 || fixed[d] == world[d];
              if (!fits) continue;
              std::copy(world.begin(), world.begin() + kWorldDims, wish.begin());
            } else if (best_gain > 0) {
              break;
            }
            if (!draw.point(wish, found)) continue;
            const size_t gain = coverage.gain(found);
            if (gain > best_gain) best_gain = gain, best = found;
          }
          if (best_gain > 0) add(best);
        }

  Sample result;
  result.pairs = coverage.pairs();
  if (coverage.missing() != 0) std::fprintf(stderr, "sample: %zu pairs are not covered\n", coverage.missing());
  for (auto& [world, points] : worlds) {
    Point wish = kFree, found;
    std::copy(world.begin(), world.begin() + kWorldDims, wish.begin());
    while (points.size() < cases_per_world && draw.point(wish, found)) points.push_back(found);
    Batch batch{world_of(world), {}};
    for (const Point& p : points) batch.cases.push_back(case_of(p));
    std::shuffle(batch.cases.begin(), batch.cases.end(), std::mt19937_64(draw.number()));
    for (Case& c : batch.cases) c.seed = draw.number() >> 16;
    result.batches.push_back(std::move(batch));
  }
  return result;
}

std::vector<Batch> windows_sample(uint64_t seed, bool processes, size_t cases_per_world) {
  Draw draw(seed);
  std::vector<Batch> batches;
  for (const int n : {2, 3, 4}) {
    // With others for calls that remote access cannot serve.
    for (const char* const algorithms : {"auto", "pull,ring,direct", "pull_all,pull,ring,direct", "push,ring,direct"}) {
      const int mode = processes ? kProcesses : batches.size() % 2 == 0 ? kThreads : kOneThread;
      Batch batch{{n, mode, processes ? kShm : kInproc, 0, kWindows}, {}};
      batch.algorithms = algorithms;
      Point wish = kFree, found;
      wish[0] = n - 1, wish[1] = mode, wish[2] = batch.world.transport, wish[3] = 0, wish[4] = kWindows;
      for (size_t i = 0; i < cases_per_world && draw.point(wish, found); ++i) {
        batch.cases.push_back(case_of(found));
        batch.cases.back().seed = draw.number() >> 16;
      }
      batches.push_back(std::move(batch));
    }
  }
  return batches;
}

std::vector<Batch> hosts_sample(uint64_t seed, int hosts, size_t cases_per_world) {
  std::vector<int> algorithms = {0};  // the planner's choice, and wherever a list has the hierarchical one
  for (const AlgorithmList& list : kAlgorithmLists) {
    for (size_t i = 0; i < list.names.size(); ++i) {
      const int algorithm = static_cast<int>(i) + 1;
      const bool wanted = std::string_view(list.names[i]).substr(0, 12) == "hierarchical";
      if (wanted && std::find(algorithms.begin(), algorithms.end(), algorithm) == algorithms.end())
        algorithms.push_back(algorithm);
    }
  }
  Draw draw(seed);
  std::vector<Batch> batches;
  for (const int n : {4, 5, 6, 8}) {
    for (const int algorithm : algorithms) {
      Batch batch{{n, kProcesses, hosts == 2 ? kTwoHosts : kThreeHosts, algorithm, kAnyProto}, {}};
      Point wish = kFree, found;
      wish[0] = n - 1, wish[1] = kProcesses, wish[2] = batch.world.transport, wish[3] = algorithm, wish[4] = kAnyProto;
      for (size_t i = 0; i < cases_per_world && draw.point(wish, found); ++i) {
        batch.cases.push_back(case_of(found));
        batch.cases.back().seed = draw.number() >> 16;
      }
      batches.push_back(std::move(batch));
    }
  }
  return batches;
}

void product(int n, int transport, const std::function<void(const Batch&)>& each) {
  std::vector<Batch> worlds;
  for (int mode = 0; mode < kModes; ++mode)
    for (int algorithm = 0; algorithm < kAlgorithms; ++algorithm)
      for (int proto = 0; proto < kProtos; ++proto) {
        const World world{n, mode, transport, algorithm, proto};
        // Where ranks can be processes they are; the other ways to have ranks are the sample's.
        if (valid(world) && (transport == kInproc) == (mode != kProcesses)) worlds.push_back({world, {}});
      }
  for (int coll = 0; coll < kColls; ++coll)
    for (int type = 0; type < kTypes; ++type)
      for (int op = 0; op < kOps; ++op)
        for (int size = 0; size < kSizes; ++size)
          for (int in_place = 0; in_place < 2; ++in_place) {
            Case one{coll, type, op, size, in_place, 0, 0, 0, 0};
            if (!valid({n, 0, transport, 0, 0}, one)) continue;
            const auto place = static_cast<uint64_t>(((coll * kTypes + type) * kOps + op) * kSizes + size) * 2 +
                               static_cast<uint64_t>(in_place);
            const uint64_t dice = copied(static_cast<uint64_t>(n), transport, place + 1);
            one.seed = place + 1;
            one.shift = coll == kBarrier ? 0 : static_cast<int>(dice >> 8) & 1;
            one.on_stream = static_cast<int>(dice >> 9) & 1;
            one.root = static_cast<int>(dice >> 10) % kRoots;
            if (!valid({n, 0, transport, 0, 0}, one)) one.root = 0;
            // The first world from a random one on that has this collective's algorithm.
            for (size_t i = 0; i < worlds.size(); ++i) {
              Batch& batch = worlds[((dice >> 16) + i) % worlds.size()];
              if (!valid(batch.world, one)) continue;
              batch.cases.push_back(one);
              break;
            }
          }
  for (const Batch& batch : worlds)
    if (!batch.cases.empty()) each(batch);
}

}  // namespace conformance
