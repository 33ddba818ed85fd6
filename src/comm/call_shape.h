// SPDX-License-Identifier: Apache-2.0
// A call as the planner and the executors see it: its shape, and how its buffers are cut.
#pragma once

#include "algo/catalog.h"
#include "comm/request.h"
#include "plan/plan.h"

namespace tutti {

// Ragged blocks are planned from n alone: no rank knows all sizes of an AllToAllV.
inline Shape shape_of(const Request& request) {
  return {.coll = request.coll,
          .bytes = request.bytes(),
          .ragged = request.tables != nullptr,
          .prescaled = request.prescaled,
          .root = request.root};
}

// What carries a call that all ranks know not to be allowed by its buffers. It has to run whatever the user restricts
// the planner to.
inline Result<Plan> plan_after_refusal(const Summary& summary, Shape shape) {
  shape.refused = true;
  Result<Plan> plan = make_plan(summary, shape);
  if (plan.ok()) return plan;
  Summary free = summary;
  free.algorithms = free.protocols = "auto";
  return make_plan(free, shape);
}

// `in` and `out` are the tables of a V collective, where the executor can read them.
inline CollLayout layout_of(const Request& request, int n, int me, const BlockTable& in, const BlockTable& out) {
  if (request.tables == nullptr) return coll_layout(request.coll, n, me, request.root, request.bytes());
  return request.coll == Coll::AllGather       ? all_gather_v_layout(n, me, out)
         : request.coll == Coll::ReduceScatter ? reduce_scatter_v_layout(n, me, in)
                                               : all_to_all_v_layout(n, in, out);
}

}  // namespace tutti
