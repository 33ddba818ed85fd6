// SPDX-License-Identifier: Apache-2.0
// What may run of what users write: right schedules are proven with the fewest slots, and every single change of one
// step is refused.
#include "exec/sim/verify.h"

#include <gtest/gtest.h>

#include "algo/draw.h"

namespace tutti {
namespace {

UserSchedule written_down(Coll coll, Algo algo, int n, int root = 0) {
  const CatalogRow& row = *find_row(coll, algo);
  UserSchedule schedule;
  schedule.file = "test";
  schedule.coll = coll;
  schedule.n = n;
  schedule.root = root;
  schedule.blocks = row.blocks(n);
  for (int me = 0; me < n; ++me) {
    const AnySchedule one = row.make({.me = me, .n = n, .root = root});
    std::vector<Step>& steps = schedule.steps.emplace_back();
    for (int k = 0; k < one.steps(); ++k) steps.push_back(one.at(k));
  }
  return schedule;
}

TEST(Verify, FindsTheFewestSlots) {
  const struct {
    Coll coll;
    Algo algo;
    int n;
  } cases[] = {{Coll::AllReduce, Algo::Ring, 5},
               {Coll::AllReduce, Algo::Doubling, 6},
               {Coll::AllReduce, Algo::HalvingDoubling, 8},
               {Coll::AllGather, Algo::Ring, 4},
               {Coll::ReduceScatter, Algo::Direct, 4},
               {Coll::Broadcast, Algo::Tree, 7},
               {Coll::Reduce, Algo::Ring, 3},
               {Coll::AllToAll, Algo::Pairwise, 5},
               {Coll::Gather, Algo::Direct, 3},
               {Coll::Scatter, Algo::Direct, 3}};
  for (const auto& [coll, algo, n] : cases) {
    const Result<Verified> verified = verify(written_down(coll, algo, n, rooted(coll) ? 1 : 0));
    ASSERT_TRUE(verified.ok()) << verified.status().message();
    EXPECT_EQ(verified->slots, find_row(coll, algo)->slots(n, 1)) << name(coll) << " " << name(algo);
  }
}

// Every step of every rank, changed in every way that is here.
TEST(Verify, RefusesEveryMutant) {
  const UserSchedule originals[] = {
      written_down(Coll::AllReduce, Algo::Ring, 4),
      written_down(Coll::AllReduce, Algo::Doubling, 6),
      written_down(Coll::AllReduce, Algo::HalvingDoubling, 4),
      written_down(Coll::AllGather, Algo::Ring, 4),
      written_down(Coll::ReduceScatter, Algo::Ring, 4),
      written_down(Coll::Broadcast, Algo::Tree, 6),
      written_down(Coll::Reduce, Algo::Ring, 4),
  };
  int mutants = 0;
  for (const UserSchedule& original : originals) {
    const bool region = coll_layout(original.coll, original.n, 0, 0, 0).input.kind == Layout::Kind::Region;
    const int blocks = region ? original.blocks : original.n;
    for (size_t me = 0; me < original.steps.size(); ++me) {
      for (size_t k = 0; k < original.steps[me].size(); ++k) {
        const auto refused = [&](const char* change, auto mutate) {
          UserSchedule mutant = original;
          if (!mutate(mutant.steps[me], mutant.steps[me][k])) return;
          ++mutants;
          EXPECT_FALSE(verify(mutant).ok())
              << name(original.coll) << " of " << original.n << ", rank " << me << ", step " << k << ": " << change;
        };
        const auto other = [&](int not_this) {
          int rank = (not_this + 1) % original.n;
          if (rank == static_cast<int>(me)) rank = (rank + 1) % original.n;
          return rank;
        };
        using Steps = std::vector<Step>;
        const auto at = static_cast<std::ptrdiff_t>(k);
        refused("left out", [&](Steps& steps, Step&) { return steps.erase(steps.begin() + at), true; });
        refused("made twice", [&](Steps& steps, Step& step) {
          const Step again = step;
          return steps.insert(steps.begin() + at, again), true;
        });
        refused("from another rank", [&](Steps&, Step& step) {
          if (step.from.count != 1 || original.n < 3) return false;
          step.from = Peers::one(other(step.from.rank[0]));
          return true;
        });
        refused("to another rank", [&](Steps&, Step& step) {
          if (step.to.count != 1 || original.n < 3) return false;
          step.to = Peers::one(other(step.to.rank[0]));
          return true;
        });
        refused("not received", [&](Steps&, Step& step) { return !step.from.none() && (step.from = {}, true); });
        refused("not sent", [&](Steps&, Step& step) { return !step.to.none() && (step.to = {}, true); });
        refused("last", [&](Steps&, Step& step) { return step.reduce && (step.last = !step.last, true); });
        refused("not reduced",
                [&](Steps&, Step& step) { return step.reduce && (step.reduce = step.last = false, true); });
        refused("not kept", [&](Steps&, Step& step) { return step.dst_block >= 0 && (step.dst_block = -1, true); });
        refused("kept elsewhere", [&](Steps&, Step& step) {
          if (step.dst_block < 0 || blocks == 1 || step.blocks > 1 || original.coll == Coll::ReduceScatter)
            return false;
          step.dst_block = (step.dst_block + 1) % blocks;
          return true;
        });
        refused("another block", [&](Steps&, Step& step) {
          if (step.src != Buffer::Input || blocks == 1 || step.blocks > 1) return false;
          step.src_block = original.coll == Coll::AllGather ? 1 : (step.src_block + 1) % blocks;
          return true;
        });
        refused("read from nowhere",
                [&](Steps&, Step& step) { return step.src != Buffer::None && (step.src = Buffer::None, true); });
      }
    }
  }
  EXPECT_GT(mutants, 800);
  RecordProperty("mutants", mutants);
}

TEST(Verify, NamesTheStepThatIsWrong) {
  UserSchedule ring = written_down(Coll::AllReduce, Algo::Ring, 3);
  ring.steps[2][1].src_block = 2;
  const Result<Verified> verified = verify(ring);
  ASSERT_FALSE(verified.ok());
  const std::string said(verified.status().message());
  for (const char* words : {"rank 2, channel 0, part 0, round 0, step 1, slice 0", "combines", "different places",
                            "the step is 1>RRS[2]>0"})
    EXPECT_NE(said.find(words), std::string::npos) << words << " in " << said;
}

}  // namespace
}  // namespace tutti
