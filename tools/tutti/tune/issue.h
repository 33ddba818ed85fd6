// SPDX-License-Identifier: Apache-2.0
// One call of a collective as `tutti tune` times it: float32, sums, root 0; a send goes to the next rank.
#pragma once

#include <cstddef>

#include "algo/collective.h"
#include "tutti/tutti.h"

namespace tutti::tool {

struct Issuer {
  Coll coll;
  int ranks, rank;
  tuttiComm_t comm;
  tuttiStream_t stream;
};

// `whole` elements in the region, or in all blocks together.
inline tuttiResult_t issue(const Issuer& by, const float* in, float* out, size_t whole) {
  const size_t block = whole / static_cast<size_t>(by.ranks);
  switch (by.coll) {
    case Coll::AllReduce:
      return tuttiAllReduce(in, out, whole, TUTTI_FLOAT32, TUTTI_SUM, by.comm, by.stream);
    case Coll::Reduce:
      return tuttiReduce(in, out, whole, TUTTI_FLOAT32, TUTTI_SUM, 0, by.comm, by.stream);
    case Coll::Broadcast:
      return tuttiBroadcast(in, out, whole, TUTTI_FLOAT32, 0, by.comm, by.stream);
    case Coll::AllGather:
      return tuttiAllGather(in, out, block, TUTTI_FLOAT32, by.comm, by.stream);
    case Coll::ReduceScatter:
      return tuttiReduceScatter(in, out, block, TUTTI_FLOAT32, TUTTI_SUM, by.comm, by.stream);
    case Coll::AllToAll:
      return tuttiAllToAll(in, out, block, TUTTI_FLOAT32, by.comm, by.stream);
    case Coll::Gather:
      return tuttiGather(in, out, block, TUTTI_FLOAT32, 0, by.comm, by.stream);
    case Coll::Scatter:
      return tuttiScatter(in, out, block, TUTTI_FLOAT32, 0, by.comm, by.stream);
    case Coll::SendRecv:
      break;
  }
  tuttiGroupStart();
  tuttiSend(in, whole, TUTTI_FLOAT32, (by.rank + 1) % by.ranks, by.comm, by.stream);
  tuttiRecv(out, whole, TUTTI_FLOAT32, (by.rank + by.ranks - 1) % by.ranks, by.comm, by.stream);
  return tuttiGroupEnd();
}

}  // namespace tutti::tool
