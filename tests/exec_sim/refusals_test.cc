// SPDX-License-Identifier: Apache-2.0
// The prover refuses what is wrong: one broken schedule per check, with the counterexample that must name it; and
// random single changes of right schedules.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>

#include "exec/sim/prove.h"

namespace tutti {
namespace {

// A schedule of the catalog written down, to be changed step by step.
class Tables {
 public:
  explicit Tables(Proof proof) : proof_(std::move(proof)) {
    for (int me = 0; me < proof_.n; ++me) {
      for (int part = 0; part < proof_.parts; ++part) {
        const AnySchedule schedule =
            proof_.schedule({.me = me, .n = proof_.n, .root = proof_.root, .channel = 0, .part = part});
        for (int k = 0; k < schedule.steps(); ++k) steps(me, part).push_back(schedule.at(k));
      }
    }
  }
  Tables(Coll coll, Algo algo, int n) : Tables(proof_of(*find_row(coll, algo), n)) {}

  std::vector<Step>& steps(int me, int part = 0) { return tables_[{me, part}]; }
  Step& step(int me, int k, int part = 0) { return steps(me, part).at(k); }
  Proof& proof() { return proof_; }

  // The message of the refusal; "proven" when there is none.
  std::string refusal() {
    Proof changed = proof_;
    changed.schedule = [this](const ScheduleArgs& args) {
      return AnySchedule{TableSchedule{tables_[{args.me, args.part}]}};
    };
    const Result<ProofStats> result = prove(changed, &verdict_);
    return result.ok() ? "proven" : result.status().message();
  }
  Verdict verdict() {
    (void)refusal();
    return verdict_;
  }

 private:
  Proof proof_;
  Verdict verdict_ = Verdict::Senseless;
  std::map<std::pair<int, int>, std::vector<Step>> tables_;
};

#define EXPECT_REFUSED(tables, words)                                           \
  do {                                                                          \
    const std::string said = (tables).refusal();                                \
    EXPECT_NE(said.find(words), std::string::npos) << "refused with: " << said; \
  } while (false)

TEST(Refusals, UnchangedTablesAreProven) {
  EXPECT_EQ(Tables(Coll::AllReduce, Algo::Ring, 4).refusal(), "proven");
  EXPECT_EQ(Tables(Coll::AllReduce, Algo::Tree, 5).refusal(), "proven");
}

TEST(Refusals, RankCountedTwice) {
  Tables ring(Coll::AllReduce, Algo::Ring, 3);
  Step& again = ring.step(1, 3);  // the first step that only passes a complete block on
  again.src = Buffer::Input;
  again.src_block = again.dst_block;
  again.reduce = true;
  EXPECT_REFUSED(ring, "rank 1, channel 0, part 0, round 0, step 3, slice 0: combines");
  EXPECT_REFUSED(ring, "a rank counts twice");
}

TEST(Refusals, RankLeftOut) {
  Tables direct(Coll::Reduce, Algo::Direct, 3);
  direct.step(0, 0).from = Peers::one(1);
  EXPECT_REFUSED(direct,
                 "rank 0, channel 0, part 0, round 0, step 0, slice 0: marked last, but has only the sum over "
                 "ranks {0-1}'s input byte 0");
}

TEST(Refusals, SliceNobodyReceives) {
  Tables direct(Coll::Gather, Algo::Direct, 3);
  direct.steps(0).pop_back();
  EXPECT_REFUSED(direct, "rank 2 sent rank 0 a slice that nobody received: channel 0, round 0, step 0, slice 0");
}

TEST(Refusals, BlockAtTheWrongPlace) {
  Tables direct(Coll::AllGather, Algo::Direct, 3);
  std::swap(direct.step(1, 1).dst_block, direct.step(1, 2).dst_block);
  EXPECT_REFUSED(direct,
                 "rank 1: at the end output byte 0 holds rank 2's input byte 0; expected rank 0's input byte 0");
}

TEST(Refusals, PlacesThatDoNotMatch) {
  Tables direct(Coll::ReduceScatter, Algo::Direct, 3);
  direct.step(1, 0).src_block = 0;  // what goes to rank 2
  EXPECT_REFUSED(direct, "rank 2, channel 0, part 0, round 0, step 2, slice 0: combines");
  EXPECT_REFUSED(direct, "different places");
}

TEST(Refusals, OtherBitsOnOneRank) {
  Tables one_shot(Coll::AllReduce, Algo::OneShot, 3);
  Step first = one_shot.step(2, 1), second = first;
  first.from = Peers::one_fan(1);
  first.last = false;
  second.src = Buffer::Output;
  second.from = Peers::one_fan(0);
  one_shot.steps(2) = {one_shot.step(2, 0), first, second};  // 0 + (1 + 2), elsewhere (0 + 1) + 2
  EXPECT_REFUSED(one_shot, "rank 2: at the end output byte 0 holds");
  EXPECT_REFUSED(one_shot, "combined in the order of the first rank and run");
}

TEST(Refusals, OutputReadBeforeItIsWritten) {
  Tables gather(Coll::AllGather, Algo::Doubling, 4);
  std::swap(gather.step(0, 1).dst_block, gather.step(0, 3).dst_block);
  gather.step(0, 1).blocks = 1;
  EXPECT_REFUSED(gather, "rank 0, channel 0, part 0, round 0, step 2, slice 1: reads output that has not been written");
}

TEST(Refusals, InputOverwrittenInPlace) {
  Tables exchange(Coll::AllToAll, Algo::Pairwise, 3);
  exchange.proof().in_place = true;
  exchange.step(0, 0).dst_block = 1;  // the copy to itself comes first on rank 0
  EXPECT_REFUSED(exchange,
                 "step 1, slice 0: the input of rank 0 at byte 64 has been overwritten with rank 0's input byte 0");
  exchange.proof().in_place = false;
  EXPECT_REFUSED(exchange, "rank 0: at the end output byte 0 holds nothing; expected rank 0's input byte 0");
}

TEST(Refusals, EverybodyReceivesFirst) {
  Tables exchange(Coll::AllToAll, Algo::Pairwise, 2);
  std::swap(exchange.step(0, 1), exchange.step(0, 2));
  std::swap(exchange.step(1, 1), exchange.step(1, 2));
  EXPECT_REFUSED(exchange,
                 "deadlock with 1 slots, 2 lanes wait: rank 0, channel 0, part 0, round 0, step 1, slice 0 "
                 "waits for a slice from rank 1; rank 1");
}

TEST(Refusals, SayWhichKindTheyAre) {
  Tables ring(Coll::AllReduce, Algo::Ring, 4);
  EXPECT_EQ(ring.verdict(), Verdict::Proven);
  ring.proof().bytes = 1024;
  ring.proof().slots = 1;
  EXPECT_EQ(ring.verdict(), Verdict::Deadlock);
  ring.proof().slots = 0;
  EXPECT_EQ(ring.verdict(), Verdict::Senseless);
  Tables exchange(Coll::AllToAll, Algo::Pairwise, 3);
  exchange.proof().in_place = true;
  exchange.step(0, 0).dst_block = 1;
  EXPECT_EQ(exchange.verdict(), Verdict::Wrong);
}

TEST(Refusals, TooFewSlots) {
  Tables ring(Coll::AllReduce, Algo::Ring, 4);
  ring.proof().bytes = 1024;
  ring.proof().slots = 1;
  EXPECT_REFUSED(ring, "waits for a free slot to rank 1");
}

TEST(Refusals, SlicesInAnotherOrder) {
  Tables halving(Coll::AllReduce, Algo::HalvingDoubling, 4);
  halving.proof().bytes = 256;
  Step second = halving.step(0, 0);  // blocks 2 and 3, here one by one, there as a run
  second.blocks = 1;
  halving.step(0, 0) = second;
  ++second.src_block;
  halving.steps(0).insert(halving.steps(0).begin() + 1, second);
  EXPECT_REFUSED(halving,
                 "from rank 0 arrived round 0, slice 0 of its step 1, 64 bytes (rank 0's input byte 192); "
                 "expected round 0, slice 1, 64 bytes");
}

TEST(Refusals, SlicesOfAnotherLength) {
  Tables gather(Coll::AllGather, Algo::Direct, 2);
  gather.proof().lengths = {64, 32};
  gather.step(0, 1).dst_block = 0;
  EXPECT_REFUSED(gather, "32 bytes (rank 1's input byte 0); expected round 0, slice 0, 64 bytes");
}

TEST(Refusals, LastMissing) {
  Tables ring(Coll::AllReduce, Algo::Ring, 3);
  ring.step(0, 2).last = false;
  EXPECT_REFUSED(ring, "expected the sum over ranks {0-2}'s input byte 0 (complete)");
}

TEST(Refusals, LastTooEarly) {
  Tables ring(Coll::AllReduce, Algo::Ring, 3);
  ring.step(0, 1).last = true;
  EXPECT_REFUSED(ring, "marked last, but has only the sum over ranks {0, 2}'s");
}

TEST(Refusals, LastTwice) {
  Tables ring(Coll::AllReduce, Algo::Ring, 2);
  ring.steps(0).push_back({.src = Buffer::Output, .reduce = true, .last = true, .dst_block = 0});
  EXPECT_REFUSED(ring, "marked last a second time");
}

TEST(Refusals, CompleteSumCombined) {
  Tables direct(Coll::Reduce, Algo::Direct, 2);
  direct.steps(0).push_back({.src = Buffer::Output, .reduce = true, .dst_block = 0, .from = Peers::one(1)});
  direct.steps(1).push_back(direct.step(1, 0));
  EXPECT_REFUSED(direct, "a rank counts twice");
}

TEST(Refusals, TwoPartsOnOneConnection) {
  Tables tree(Coll::AllReduce, Algo::Tree, 3);
  for (int me = 0; me < 3; ++me) {
    if (tree.steps(me, 1).empty()) continue;
    tree.steps(me, 1).push_back({.src = Buffer::Output, .to = tree.step(me, 0).to});
  }
  EXPECT_REFUSED(tree, "parts 0 and 1 both send to rank");
}

TEST(Refusals, TwoPartsReceiveFromOneRank) {
  Tables tree(Coll::AllReduce, Algo::Tree, 2);
  tree.steps(0, 1).push_back({.dst_block = 0, .from = Peers::one(1)});
  tree.proof().slots = 4;
  EXPECT_REFUSED(tree, "both receive from rank 1");
}

TEST(Refusals, OverlapInPart) {
  Tables gather(Coll::AllGather, Algo::Direct, 4);
  gather.proof().slice_bytes = 128;
  gather.steps(0).push_back({.src = Buffer::Output, .dst_block = 1, .blocks = 2});
  EXPECT_REFUSED(gather, "rank 0, channel 0, part 0, round 0, step 4, slice 0: source and destination overlap in part");
}

TEST(Refusals, LengthsOfSourceAndDestination) {
  Tables gather(Coll::AllGather, Algo::Direct, 2);
  gather.proof().lengths = {64, 32};
  gather.step(0, 0).dst_block = 1;
  EXPECT_REFUSED(gather, "reads 64 bytes and keeps 32");
}

// Steps that no executor could carry out are refused before anything runs.
TEST(Refusals, ImpossibleSteps) {
  const struct {
    Step step;
    const char* words;
  } cases[] = {
      {{.src = Buffer::Input, .dst_block = 0, .blocks = 0}, "moves 0 blocks"},
      {{.src = Buffer::Input, .to = Peers::one(3)}, "names rank 3 as a peer"},
      {{.src = Buffer::Input, .to = Peers::one(0)}, "names rank 0 as a peer"},
      {{.src = Buffer::Input, .to = Peers{2, false, {2, 1}}}, "lists its peers in no increasing order"},
      {{.src = Buffer::Input, .to = Peers{2, false, {1, 1}}}, "lists its peers in no increasing order"},
      {{.src = Buffer::Input, .to = Peers{4, false, {}}}, "lists 4 peers"},
      {{.src = Buffer::Input, .to = Peers::one_fan(1)}, "sends over fan-out to some ranks only"},
      {{.dst_block = 0}, "has no source"},
      {{.src = Buffer::Input, .dst_block = 0, .from = Peers::one(1)}, "copies from 2 sources"},
      {{.src = Buffer::Input, .last = true, .dst_block = 0}, "is marked last but reduces nothing"},
      {{.from = Peers::one(1), .to = Peers::one(2)}, "touches no buffer"},
      {{.src = Buffer::Input}, "delivers to nobody"},
      {{.src = Buffer::Input, .src_block = 1, .dst_block = 0}, "reads blocks 1 to 1 of the input, which has 1"},
      {{.src = Buffer::Output, .src_block = -1, .dst_block = 0}, "reads blocks -1 to -1 of the output"},
      {{.src = Buffer::Input, .dst_block = 1}, "writes blocks 1 to 1 of the output, which has 1"},
  };
  for (const auto& [step, words] : cases) {
    Tables one_shot(Coll::AllReduce, Algo::OneShot, 3);
    one_shot.steps(0).push_back(step);
    EXPECT_REFUSED(one_shot, words);
    EXPECT_REFUSED(one_shot, "rank 0, channel 0, part 0: step 2");
  }
  Tables gather(Coll::AllGather, Algo::Direct, 3);
  gather.step(0, 0).reduce = true;
  EXPECT_REFUSED(gather, "reduces in all_gather");
}

// A step that never has data is not refused, but counted: the proof says nothing about it.
TEST(Refusals, StepsWithoutData) {
  Proof proof = proof_of(*find_row(Coll::AllReduce, Algo::Ring), 3);
  EXPECT_EQ(prove(proof)->steps_without_data, 0u);
  proof.bytes = 64;  // one of three blocks
  EXPECT_EQ(prove(proof)->steps_without_data, 10u);
}

TEST(Refusals, ProofsThatMakeNoSense) {
  const Proof good = proof_of(*find_row(Coll::AllGather, Algo::Ring), 3);
  const auto refused = [&](auto change) {
    Proof proof = good;
    change(proof);
    const Result<ProofStats> result = prove(proof);
    return !result.ok() && result.status().code() == Code::InvalidArgument;
  };
  EXPECT_TRUE(refused([](Proof& p) { p.n = 0; }));
  EXPECT_TRUE(refused([](Proof& p) { p.root = 3; }));
  EXPECT_TRUE(refused([](Proof& p) { p.slots = 0; }));
  EXPECT_TRUE(refused([](Proof& p) { p.slices = 0; }));
  EXPECT_TRUE(refused([](Proof& p) { p.slice_bytes = 100; }));
  EXPECT_TRUE(refused([](Proof& p) { p.cell_bytes = 3; }));
  EXPECT_TRUE(refused([](Proof& p) { p.bytes = 33; }));
  EXPECT_TRUE(refused([](Proof& p) { p.lengths = {32, 32}; }));
  EXPECT_TRUE(refused([](Proof& p) { p.schedule = nullptr; }));
  EXPECT_TRUE(refused([](Proof& p) { p.coll = Coll::Broadcast, p.lengths = {32, 32, 32}; }));
  EXPECT_TRUE(refused([](Proof& p) { p.coll = Coll::SendRecv, p.in_place = true; }));
}

// One change to one step of a right schedule makes it wrong, whatever the change is, as long as it is one of those
// here.
TEST(Refusals, EveryMutant) {
  std::mt19937 random(11);
  int mutants = 0;
  for (const CatalogRow& row : catalog()) {
    for (const int n : {4, 5, 7, 8}) {
      if (!row.fits(n) || row.coll == Coll::SendRecv) continue;
      for (int sample = 0; sample < 60; ++sample) {
        Tables tables(proof_of(row, n));
        tables.proof().bytes = row.needs & kSingleRound ? 64 : 128 * row.blocks(n);
        const int me = random() % n, part = random() % row.parts(n);
        if (tables.steps(me, part).empty()) continue;
        Step& step = tables.step(me, random() % tables.steps(me, part).size(), part);
        const auto other_rank = [&](int not_this) {
          int rank = random() % n;
          while (rank == me || rank == not_this) rank = random() % n;
          return rank;
        };
        const char* change = nullptr;
        switch (random() % 7) {
          case 0:
            if (step.from.count != 1) continue;
            step.from.rank[0] = other_rank(step.from.rank[0]), change = "from another rank";
            break;
          case 1:
            if (step.to.count != 1) continue;
            step.to.rank[0] = other_rank(step.to.rank[0]), change = "to another rank";
            break;
          case 2:
            if (!step.reduce) continue;
            step.last = !step.last, change = "last";
            break;
          case 3:
            if (step.dst_block < 0) continue;
            step.dst_block = -1, change = "result not kept";
            break;
          case 4:
            if (row.blocks(n) == 1 || step.src != Buffer::Input || step.blocks > 1) continue;
            step.src_block = (step.src_block + 1) % row.blocks(n), change = "another source block";
            break;
          case 5:
            if (row.blocks(n) == 1 || step.dst_block < 0 || step.blocks > 1) continue;
            step.dst_block = (step.dst_block + 1) % row.blocks(n), change = "another destination block";
            break;
          case 6:
            if (step.to.none()) continue;
            step.to = {}, change = "not sent";
            break;
        }
        ++mutants;
        EXPECT_NE(tables.refusal(), "proven")
            << name(row.coll) << " " << name(row.algo) << ", " << n << " ranks, rank " << me << ": " << change;
      }
    }
  }
  EXPECT_GT(mutants, 1000);
}

}  // namespace
}  // namespace tutti
