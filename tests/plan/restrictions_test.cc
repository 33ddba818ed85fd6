// SPDX-License-Identifier: Apache-2.0
// What users may write into TUTTI_ALGO and TUTTI_PROTO, and what it excludes.
#include "plan/restrictions.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

bool allows(const char* algorithms, Coll coll, Algo algo, const char* protocols = "auto", Proto proto = Proto::Simple,
            bool mapped = true) {
  const Result<Restrictions> parsed = parse_restrictions(algorithms, protocols);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return parsed.ok() && parsed->excludes(coll, algo, proto, mapped).empty();
}

TEST(Restrictions, AutoAllowsEverything) {
  EXPECT_TRUE(allows("auto", Coll::AllReduce, Algo::Ring));
  EXPECT_TRUE(allows("", Coll::AllToAll, Algo::Pairwise));
}

TEST(Restrictions, AListKeepsOnlyItsNames) {
  EXPECT_TRUE(allows("ring,tree", Coll::AllReduce, Algo::Tree));
  EXPECT_FALSE(allows("ring,tree", Coll::AllReduce, Algo::OneShot));
}

TEST(Restrictions, AListLeavesCollectivesAloneThatHaveNoneOfItsNames) {
  EXPECT_TRUE(allows("ring", Coll::AllToAll, Algo::Pairwise));
  EXPECT_FALSE(allows("all_to_all:ring", Coll::AllToAll, Algo::Pairwise));
}

TEST(Restrictions, ACaretExcludes) {
  EXPECT_FALSE(allows("^ring", Coll::AllReduce, Algo::Ring));
  EXPECT_TRUE(allows("^ring", Coll::AllReduce, Algo::Tree));
}

TEST(Restrictions, ACollectiveHasItsOwnList) {
  const char* text = "allreduce:ring,tree;broadcast:direct";
  EXPECT_TRUE(allows(text, Coll::AllReduce, Algo::Ring));
  EXPECT_FALSE(allows(text, Coll::AllReduce, Algo::TwoShot));
  EXPECT_TRUE(allows(text, Coll::Broadcast, Algo::Direct));
  EXPECT_FALSE(allows(text, Coll::Broadcast, Algo::Ring));
  EXPECT_TRUE(allows(text, Coll::AllGather, Algo::Ring));
}

TEST(Restrictions, SpellingIsForgiving) {
  EXPECT_FALSE(allows("HalvingDoubling", Coll::AllReduce, Algo::Ring));
  EXPECT_TRUE(allows("halving_doubling", Coll::AllReduce, Algo::HalvingDoubling));
  EXPECT_TRUE(allows("ALLREDUCE:OneShot", Coll::AllReduce, Algo::OneShot));
}

TEST(Restrictions, ProtocolsApplyWhereThereIsAChoice) {
  EXPECT_FALSE(allows("auto", Coll::AllReduce, Algo::Ring, "ll", Proto::Simple));
  EXPECT_TRUE(allows("auto", Coll::AllReduce, Algo::Ring, "ll", Proto::LL));
  EXPECT_TRUE(allows("auto", Coll::AllReduce, Algo::Ring, "ll", Proto::Simple, /*mapped=*/false));
}

TEST(Restrictions, WhatDoesNotParseNamesTheVariableAndTheWord) {
  for (const auto& [algorithms, protocols, word] :
       {std::tuple{"rign", "auto", "rign"}, {"all_redcue:ring", "auto", "all_redcue"}, {"auto", "ll127", "ll127"}}) {
    const Result<Restrictions> parsed = parse_restrictions(algorithms, protocols);
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.status().code(), Code::InvalidArgument);
    EXPECT_NE(parsed.status().message().find(word), std::string::npos) << parsed.status().message();
    EXPECT_NE(parsed.status().message().find("TUTTI_"), std::string::npos) << parsed.status().message();
  }
}

}  // namespace
}  // namespace tutti
