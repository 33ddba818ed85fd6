// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_routes.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace tutti {
namespace {

// Two GPUs that do not map each other, and who could relay.
struct Apart {
  int a, b;
  std::vector<int> relays;
};

std::vector<Apart> find_apart(const CudaReach& reach, bool relays) {
  std::vector<Apart> found;
  for (int a = 0; a < reach.gpus(); ++a) {
    for (int b = a + 1; b < reach.gpus(); ++b) {
      if (reach.maps(a, b)) continue;
      Apart one{a, b, {}};
      for (int third = 0; relays && third < reach.gpus(); ++third) {
        if (third != a && third != b && reach.maps(a, third) && reach.maps(b, third)) one.relays.push_back(third);
      }
      found.push_back(std::move(one));
    }
  }
  return found;
}

}  // namespace

// Who has the least choice chooses first. NVLink on both ways goes before fewer guests, then the lower number.
CudaRoutes::CudaRoutes(const CudaReach& reach, bool relays)
    : gpus_(reach.gpus()), routes_(static_cast<size_t>(gpus_) * static_cast<size_t>(gpus_)) {
  std::vector<Apart> apart = find_apart(reach, relays);
  all_direct_ = apart.empty();
  std::stable_sort(apart.begin(), apart.end(),
                   [](const Apart& x, const Apart& y) { return x.relays.size() < y.relays.size(); });
  std::vector<int> guests(static_cast<size_t>(gpus_));  // pairs of ranks
  for (const Apart& one : apart) {
    CudaRoute route{CudaRoute::Way::Host, -1};
    if (!one.relays.empty()) {
      const auto rank = [&](int third) {
        const bool fast = reach.nvlink(one.a, third) && reach.nvlink(one.b, third);
        return std::tuple(!fast, guests[static_cast<size_t>(third)], third);
      };
      const auto best =
          std::min_element(one.relays.begin(), one.relays.end(), [&](int x, int y) { return rank(x) < rank(y); });
      route = {CudaRoute::Way::Relay, *best};
      guests[static_cast<size_t>(*best)] +=
          reach.ranks[static_cast<size_t>(one.a)] * reach.ranks[static_cast<size_t>(one.b)];
    }
    routes_[pair(one.a, one.b)] = routes_[pair(one.b, one.a)] = route;
  }
}

std::string CudaRoutes::describe(const std::vector<int>& names) const {
  std::map<std::pair<CudaRoute::Way, int>, std::string> pairs;
  for (int a = 0; a < gpus_; ++a) {
    for (int b = a + 1; b < gpus_; ++b) {
      const CudaRoute route = between(a, b);
      if (route.way == CudaRoute::Way::Direct) continue;
      std::string& all = pairs[{route.way, route.relay}];
      all +=
          fmt::format("{}{}-{}", all.empty() ? "" : ", ", names[static_cast<size_t>(a)], names[static_cast<size_t>(b)]);
    }
  }
  std::string text;
  for (const auto& [how, all] : pairs) {
    if (!text.empty()) text += "; ";
    text += how.first == CudaRoute::Way::Host
                ? fmt::format("by memory of the host: {}", all)
                : fmt::format("by the GPU of rank {}: {}", names[static_cast<size_t>(how.second)], all);
  }
  return text;
}

}  // namespace tutti
