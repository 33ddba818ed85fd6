// SPDX-License-Identifier: Apache-2.0
// CudaRoutes: in whose memory the connections between two GPUs of an island lie. A pure function of what the seats of
// all ranks tell, so that all decide alike.
//
//   direct    the two map each other's memory: what comes to a GPU lies there
//   relay     a third GPU of the island, which both map: one writes there, the other reads there; no kernel of that GPU
//             takes part, and nothing is copied
//   host      pinned memory
//
// A pair maps each other only if both directions are possible: data go one way, but heads the other, so one direction
// is of no use to a connection.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tutti {

// What the GPUs of an island can do with each other's memory. All are numbered by the lowest of their ranks.
struct CudaReach {
  explicit CudaReach(std::vector<int> ranks_on_gpus)
      : ranks(std::move(ranks_on_gpus)), maps_(ranks.size() * ranks.size()), nvlink_(maps_.size()) {}
  int gpus() const { return static_cast<int>(ranks.size()); }
  bool maps(int a, int b) const { return a == b || maps_[pair(a, b)]; }
  bool nvlink(int a, int b) const { return a == b || nvlink_[pair(a, b)]; }
  // Both directions.
  void set(int a, int b, bool maps, bool nvlink) {
    maps_[pair(a, b)] = maps_[pair(b, a)] = maps;
    nvlink_[pair(a, b)] = nvlink_[pair(b, a)] = maps && nvlink;
  }
  std::vector<int> ranks;  // how many each GPU has

 private:
  size_t pair(int a, int b) const { return static_cast<size_t>(a) * ranks.size() + static_cast<size_t>(b); }
  std::vector<bool> maps_, nvlink_;
};

struct CudaRoute {
  enum class Way : uint8_t { Direct, Relay, Host };
  Way way = Way::Direct;
  int relay = -1;  // of Relay
  friend bool operator==(const CudaRoute&, const CudaRoute&) = default;
};

class CudaRoutes {
 public:
  CudaRoutes() = default;
  // `relays`: whether a third GPU may lend its memory (TUTTI_CUDA_RELAY).
  CudaRoutes(const CudaReach& reach, bool relays);

  // By number of the GPU, as are relays; the same for (a, b) and (b, a).
  CudaRoute between(int a, int b) const { return routes_[pair(a, b)]; }
  bool all_direct() const { return all_direct_; }
  // For the log: "by the GPU of rank 2: 0-1; by memory of the host: 0-3, 1-3". `names`: of each GPU, its lowest rank.
  std::string describe(const std::vector<int>& names) const;

 private:
  size_t pair(int a, int b) const {
    return static_cast<size_t>(a) * static_cast<size_t>(gpus_) + static_cast<size_t>(b);
  }
  int gpus_ = 0;
  bool all_direct_ = true;
  std::vector<CudaRoute> routes_;
};

}  // namespace tutti
