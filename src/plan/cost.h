// SPDX-License-Identifier: Apache-2.0
// Cost: predicted time of a plan, from link classes and measured constants.
#pragma once

#include "algo/catalog.h"
#include "plan/plan.h"

namespace tutti {

// Microseconds for one call, all ranks arriving together.
double predict_us(const Summary& summary, const Shape& shape, const CatalogRow& row, const Plan& plan);

// The collective's buffers hold n blocks, and Shape::bytes is one of them.
constexpr bool writes_blocks(Coll coll) {
  return coll == Coll::AllGather || coll == Coll::ReduceScatter || coll == Coll::AllToAll || coll == Coll::Gather ||
         coll == Coll::Scatter;
}

}  // namespace tutti
