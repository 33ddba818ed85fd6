// SPDX-License-Identifier: Apache-2.0
// What `tutti plan` found, as text, as JSON and as rows of a picture. docs/planner.md has the members of the JSON.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plan/plan.h"
#include "topology/channels/channels.h"
#include "topology/draw/draw.h"

namespace tutti::tool {

struct SizeChoice {
  uint64_t bytes = 0;                 // of the whole buffer
  std::vector<Candidate> candidates;  // the choice first
};

struct PlanReport {
  topology::Graph graph;
  Coll coll = Coll::AllReduce;
  std::vector<topology::NodeId> ranks;  // the device of each
  topology::ChannelPlan channels;
  std::string costs;  // where the constants of the predicted times come from
  std::vector<SizeChoice> sizes;
};

std::string plan_text(const PlanReport& report, bool all_candidates);
std::string plan_json(const PlanReport& report);
// Equal channels share a row.
std::vector<topology::Way> plan_ways(const PlanReport& report);

}  // namespace tutti::tool
