// SPDX-License-Identifier: Apache-2.0
#include "topology/channels/flow.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/boykov_kolmogorov_max_flow.hpp>
#include <cmath>

namespace tutti::topology {
namespace {

constexpr double kUnitsPerGbps = 1e6;

int64_t units(double gbps) { return std::llround(std::min(gbps, Flow::kUnlimited) * kUnitsPerGbps); }

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using FlowGraph = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS,
    boost::property<
        boost::vertex_index_t, long,
        boost::property<boost::vertex_color_t, boost::default_color_type,
                        boost::property<boost::vertex_distance_t, long,
                                        boost::property<boost::vertex_predecessor_t, Traits::edge_descriptor>>>>,
    boost::property<boost::edge_capacity_t, int64_t,
                    boost::property<boost::edge_residual_capacity_t, int64_t,
                                    boost::property<boost::edge_reverse_t, Traits::edge_descriptor>>>>;

}  // namespace

struct Flow::Impl {
  FlowGraph graph;
  std::vector<Traits::edge_descriptor> arcs;

  int32_t add(int32_t from, int32_t to, double forward, double backward) {
    const auto there = boost::add_edge(static_cast<size_t>(from), static_cast<size_t>(to), graph).first;
    const auto back = boost::add_edge(static_cast<size_t>(to), static_cast<size_t>(from), graph).first;
    boost::put(boost::edge_capacity, graph, there, units(forward));
    boost::put(boost::edge_capacity, graph, back, units(backward));
    boost::put(boost::edge_reverse, graph, there, back);
    boost::put(boost::edge_reverse, graph, back, there);
    arcs.push_back(there);
    return static_cast<int32_t>(arcs.size()) - 1;
  }
};

Flow::Flow(const Network& network, int32_t extra) : impl_(std::make_unique<Impl>()) {
  const auto size = static_cast<size_t>(network.size() + extra);
  impl_->graph = FlowGraph(size);
  side_.resize(size);
  for (size_t i = 0; i < network.arcs.size(); i += 2) {
    const Arc& arc = network.arcs[i];
    impl_->add(arc.from, arc.to, arc.gbps, network.arcs[i + 1].gbps);
  }
}
Flow::~Flow() = default;

int32_t Flow::add_arc(int32_t from, int32_t to, double gbps) { return impl_->add(from, to, gbps, 0); }

void Flow::set(int32_t arc, double gbps) {
  boost::put(boost::edge_capacity, impl_->graph, impl_->arcs[static_cast<size_t>(arc)], units(gbps));
}

double Flow::run(int32_t source, int32_t sink) {
  FlowGraph& graph = impl_->graph;
  const int64_t value =
      boost::boykov_kolmogorov_max_flow(graph, static_cast<size_t>(source), static_cast<size_t>(sink));
  // What the source still reaches over residual capacity.
  std::fill(side_.begin(), side_.end(), 0);
  std::vector<size_t> line{static_cast<size_t>(source)};
  side_[line[0]] = 1;
  const auto residual = boost::get(boost::edge_residual_capacity, graph);
  for (size_t next = 0; next < line.size(); ++next) {
    const auto [begin, end] = boost::out_edges(line[next], graph);
    for (auto edge = begin; edge != end; ++edge) {
      const size_t to = boost::target(*edge, graph);
      if (residual[*edge] <= 0 || side_[to]) continue;
      side_[to] = 1;
      line.push_back(to);
    }
  }
  return static_cast<double>(value) / kUnitsPerGbps;
}

}  // namespace tutti::topology
