// SPDX-License-Identifier: Apache-2.0
#include "tools/tutti/plan_report.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace tutti::tool {
namespace {

using namespace tutti::topology;
using Json = nlohmann::ordered_json;

// Names of devices as display_name() gives them, found once: a job may have thousands.
class Names {
 public:
  explicit Names(const Graph& graph) : graph_(graph) {
    const std::vector<NodeId> hosts = graph.of_kind(NodeKind::Host);
    for (size_t i = 0; i < hosts.size(); ++i) prefix_[hosts[i]] = hosts.size() > 1 ? fmt::format("{}:", i) : "";
  }
  std::string operator()(NodeId id) const {
    const auto prefix = prefix_.find(graph_.host_of(id));
    return (prefix == prefix_.end() ? std::string() : prefix->second) + graph_.node(id).name;
  }
  std::vector<std::string> all(const std::vector<NodeId>& ids) const {
    std::vector<std::string> names;
    for (const NodeId id : ids) names.push_back((*this)(id));
    return names;
  }

 private:
  const Graph& graph_;
  std::map<NodeId, std::string> prefix_;
};

// Texts in their first order, with how often each occurs.
std::vector<std::pair<std::string, size_t>> counted(const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, size_t>> found;
  std::map<std::string, size_t> place;
  for (const std::string& text : texts) {
    const auto [at, fresh] = place.try_emplace(text, found.size());
    if (fresh) found.emplace_back(text, 0);
    ++found[at->second].second;
  }
  return found;
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  constexpr size_t kMost = 32;
  std::string text;
  for (size_t i = 0; i < std::min(words.size(), kMost); ++i) text += (i > 0 ? std::string(between) : "") + words[i];
  if (words.size() > kMost) text += fmt::format("{}... ({} devices)", between, words.size());
  return text;
}

bool is_chain(const TreeChannel& tree) {
  for (size_t i = 0; i < tree.parents.size(); ++i)
    if (tree.parents[i] != static_cast<int32_t>(i) - 1) return false;
  return true;
}

// "GPU0 (GPU1 (GPU2) GPU3)": children behind their parent.
std::string nested(const TreeChannel& tree, const std::vector<std::string>& names, size_t v) {
  std::string text = names[v], children;
  for (size_t w = v + 1; w < names.size(); ++w)
    if (tree.parents[w] == static_cast<int32_t>(v)) children += (children.empty() ? "" : " ") + nested(tree, names, w);
  return children.empty() ? text : text + " (" + children + ")";
}

std::string tree_text(const TreeChannel& tree, const Names& names) {
  const std::vector<std::string> devices = names.all(tree.devices);
  constexpr size_t kMostNested = 64;
  if (is_chain(tree)) return joined(devices, " - ");
  return devices.size() > kMostNested ? joined(devices, " ") : nested(tree, devices, 0);
}

std::string nics_text(const std::vector<Passage>& passages, const Names& names) {
  constexpr size_t kMost = 8;
  std::string text;
  for (size_t d = 0; d < std::min(passages.size(), kMost); ++d) {
    const std::string in = names(passages[d].in), out = names(passages[d].out);
    text += (d > 0 ? ", " : "") + (in == out ? in : in + " to " + out);
  }
  if (passages.size() > kMost) text += fmt::format(", ... ({} domains)", passages.size());
  return text.empty() ? text : "  by " + text;
}

std::vector<std::string> ring_texts(const ChannelPlan& plan, const Names& names) {
  std::vector<std::string> texts;
  for (const RingChannel& ring : plan.rings)
    texts.push_back(joined(names.all(ring.devices), " > ") + nics_text(ring.passages, names));
  return texts;
}
std::vector<std::string> tree_texts(const ChannelPlan& plan, const Names& names) {
  std::vector<std::string> texts;
  for (const TreeChannel& tree : plan.trees) texts.push_back(tree_text(tree, names) + nics_text(tree.passages, names));
  return texts;
}

std::string bytes_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"", "K", "M", "G", "T"};
  size_t unit = 0;
  while (unit + 1 < std::size(kUnits) && bytes >= 1024 && bytes % 1024 == 0) bytes /= 1024, ++unit;
  return fmt::format("{}{}", bytes, kUnits[unit]);
}

std::string share_text(double gbps, const ChannelPlan& plan) {
  if (gbps <= 0) return "not for this collective";
  return fmt::format("{:.1f} GB/s of bus bandwidth, {:.2f} of the bound", gbps, gbps / plan.bound.bus_gbps);
}

Json passages_json(const std::vector<Passage>& passages, const Names& names) {
  Json list = Json::array();
  for (const Passage& passage : passages) list.push_back({names(passage.in), names(passage.out)});
  return list;
}

Json candidate_json(const Candidate& candidate) {
  Json json = {{"algorithm", name(candidate.plan.algo)},
               {"protocol", name(candidate.plan.proto)},
               {"channels", candidate.plan.channels},
               {"predicted_us", candidate.plan.predicted_us}};
  if (!candidate.lost.empty()) json["lost"] = candidate.lost;
  return json;
}

}  // namespace

std::string plan_text(const PlanReport& report, bool all_candidates) {
  const ChannelPlan& plan = report.channels;
  const Names names(report.graph);
  std::string text = fmt::format("{} on {} ranks, {} device(s), {} domain(s)  (from {})\n", name(report.coll),
                                 plan.ranks, plan.devices, plan.domains, report.graph.origin);
  text += fmt::format("bound  {:.1f} GB/s of bus bandwidth: {}\n", plan.bound.bus_gbps, plan.limit);
  const auto mark = [&](ChannelKind kind) { return plan.best() == kind ? "-> " : "   "; };
  const auto list = [&](const std::vector<std::string>& channels) {
    for (const auto& [line, count] : counted(channels)) text += fmt::format("     {:>3} x  {}\n", count, line);
  };
  text += fmt::format("{}rings  {} x {:.1f} = {:.1f} GB/s: {}\n", mark(ChannelKind::Rings), plan.rings.size(),
                      plan.ring_gbps, plan.rings_total(), share_text(plan.ring_bus_gbps, plan));
  list(ring_texts(plan, names));
  if (plan.trees.empty()) {
    text += fmt::format("{}trees  none: rings are good enough, or trees do not serve this collective\n",
                        mark(ChannelKind::Trees));
  } else {
    text += fmt::format("{}trees  {} x {:.1f} = {:.1f} GB/s{}: {}\n", mark(ChannelKind::Trees), plan.trees.size(),
                        plan.tree_gbps, plan.trees_total(), report.coll == Coll::AllReduce ? " up and down" : "",
                        share_text(plan.tree_bus_gbps, plan));
  }
  list(tree_texts(plan, names));
  if (plan.star.devices.size() > 1)
    text += fmt::format("{}star   {}: {}\n", mark(ChannelKind::Star),
                        plan.star.hub == kNone ? "each to all others" : "through " + names(plan.star.hub),
                        share_text(plan.star_bus_gbps, plan));
  text += fmt::format("optimality {:.3f}", plan.optimality());
  if (plan.trees_limit_gbps > 0)
    text += fmt::format(
        ": the bound lets data between two devices take several ways; trees that take one carry {:.1f} GB/s at most, "
        "{:.2f} "
        "of it",
        plan.trees_limit_gbps, plan.trees_limit_gbps / plan.bound.bus_gbps);
  text += "\n\n";
  text += fmt::format("choice by size (of the whole buffer); times predicted from {}\n", report.costs);
  for (const SizeChoice& size : report.sizes) {
    for (const Candidate& candidate : size.candidates) {
      const bool chosen = candidate.lost.empty();
      if (!chosen && !all_candidates) continue;
      const Plan& made = candidate.plan;
      text += fmt::format("{:>8} {} {:<17} {:<7} {:>3} channel(s) {:>14}{}\n", chosen ? bytes_text(size.bytes) : "",
                          chosen ? "->" : "  ", name(made.algo), name(made.proto), made.channels,
                          candidate.fits ? fmt::format("{:.2f} us", made.predicted_us) : "-",
                          chosen ? "" : "   lost: " + candidate.lost);
    }
  }
  return text;
}

std::string plan_json(const PlanReport& report) {
  const ChannelPlan& plan = report.channels;
  const Names names(report.graph);
  Json json = {{"topology", report.graph.origin},
               {"op", name(report.coll)},
               {"ranks", plan.ranks},
               {"devices", names.all(report.ranks)},
               {"domains", plan.domains}};
  Json rings = Json::array(), ring_nics = Json::array(), trees = Json::array(), parents = Json::array(),
       tree_nics = Json::array();
  for (const RingChannel& ring : plan.rings) {
    rings.push_back(names.all(ring.devices));
    ring_nics.push_back(passages_json(ring.passages, names));
  }
  for (const TreeChannel& tree : plan.trees) {
    trees.push_back(names.all(tree.devices));
    parents.push_back(tree.parents);
    tree_nics.push_back(passages_json(tree.passages, names));
  }
  json["rings"] = {{"channels", rings},
                   {"bandwidth_gbps", plan.ring_gbps},
                   {"total_gbps", plan.rings_total()},
                   {"bus_gbps", plan.ring_bus_gbps}};
  json["trees"] = {{"channels", trees},
                   {"parents", parents},
                   {"bandwidth_gbps", plan.tree_gbps},
                   {"total_gbps", plan.trees_total()},
                   {"bus_gbps", plan.tree_bus_gbps},
                   {"packed", plan.packed}};
  json["star"] = {{"hub", plan.star.hub == kNone ? "" : names(plan.star.hub)},
                  {"devices", names.all(plan.star.devices)},
                  {"bus_gbps", plan.star_bus_gbps}};
  if (plan.trees_limit_gbps > 0) json["trees"]["limit_gbps"] = plan.trees_limit_gbps;
  if (plan.domains > 1) json["rings"]["nics"] = ring_nics, json["trees"]["nics"] = tree_nics;
  json["bound_gbps"] = plan.bound.bus_gbps;
  json["bound_cut"] = plan.limit;
  json["best"] = to_string(plan.best());
  json["optimality"] = plan.optimality();
  json["costs"] = report.costs;
  json["choice"] = Json::array();
  for (const SizeChoice& size : report.sizes) {
    const Plan& chosen = size.candidates.front().plan;
    Json choice = {
        {"bytes", size.bytes},         {"algorithm", name(chosen.algo)},      {"protocol", name(chosen.proto)},
        {"channels", chosen.channels}, {"predicted_us", chosen.predicted_us}, {"candidates", Json::array()}};
    for (const Candidate& candidate : size.candidates) choice["candidates"].push_back(candidate_json(candidate));
    json["choice"].push_back(std::move(choice));
  }
  return json.dump(2) + "\n";
}

std::vector<Way> plan_ways(const PlanReport& report) {
  const ChannelPlan& plan = report.channels;
  const Names names(report.graph);
  std::vector<Way> ways;
  const auto first_of = [](const std::vector<std::string>& texts, const std::string& text) {
    return static_cast<size_t>(std::find(texts.begin(), texts.end(), text) - texts.begin());
  };
  const std::vector<std::string> rings = ring_texts(plan, names), trees = tree_texts(plan, names);
  for (const auto& [text, count] : counted(rings)) {
    const RingChannel& ring = plan.rings[first_of(rings, text)];
    Way way{.title = fmt::format("{} x ring of {:.1f} GB/s: {}", count, plan.ring_gbps, text), .edges = {}};
    for (size_t i = 0; i < ring.devices.size() && ring.devices.size() > 1; ++i)
      way.edges.emplace_back(ring.devices[i], ring.devices[(i + 1) % ring.devices.size()]);
    ways.push_back(std::move(way));
  }
  for (const auto& [text, count] : counted(trees)) {
    const TreeChannel& tree = plan.trees[first_of(trees, text)];
    Way way{.title = fmt::format("{} x tree of {:.1f} GB/s: {}", count, plan.tree_gbps, text),
            .edges = {},
            .both_ways = report.coll == Coll::AllReduce};
    for (size_t i = 1; i < tree.devices.size(); ++i)
      way.edges.emplace_back(tree.devices[static_cast<size_t>(tree.parents[i])], tree.devices[i]);
    ways.push_back(std::move(way));
  }
  return ways;
}

}  // namespace tutti::tool
