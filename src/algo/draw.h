// SPDX-License-Identifier: Apache-2.0
// Pictures of schedules, made from their steps so that they cannot go stale. Printed by `tutti plan`, kept in
// docs/algorithms.md, where a test compares them.
#pragma once

#include <string>

#include "algo/catalog.h"

namespace tutti {

// One cell: "3>RRCS[2]>1" takes from rank 3, receives, reduces, keeps (C), sends block 2, to rank 1. "*" is everybody,
// [4-7] a run of blocks, [0,2,4] packed ones; no brackets where there is one block. A read of the own partial result is
// an O before the move; of scratch memory an M, and M is also what is kept there.
std::string draw_step(const Step& step, bool with_blocks, int n);

// A row per rank and part, a column per step.
std::string draw_schedule(const CatalogRow& row, Ranks ranks, int root = 0);

}  // namespace tutti
