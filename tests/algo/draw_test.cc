// SPDX-License-Identifier: Apache-2.0
// Pictures of schedules, and their copies in docs/algorithms.md.
#include "algo/draw.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace tutti {
namespace {

TEST(Draw, Steps) {
  EXPECT_EQ(draw_step({.src = Buffer::Input, .src_block = 3, .to = Peers::one(1)}, true, 8), "S[3]>1");
  EXPECT_EQ(draw_step({.src = Buffer::Input, .reduce = true, .dst_block = 0, .from = Peers::all_fan()}, false, 8),
            "*>RRC");
  EXPECT_EQ(draw_step({.src = Buffer::Output, .src_block = 4, .blocks = 4, .to = Peers::one(2)}, true, 8), "OS[4-7]>2");
  EXPECT_EQ(draw_step({.dst_block = 0, .from = Peers::one(1), .to = Peers{2, false, {3, 5}}}, false, 8), "1>RCS>3,5");
  EXPECT_EQ(draw_step({.src = Buffer::Output, .src_block = 1, .blocks = 3, .run = 1, .stride = -2, .to = Peers::one(2)},
                      true, 6),
            "OS[1,5,3]>2");
  EXPECT_EQ(
      draw_step({.dst_block = 4, .blocks = 4, .run = 2, .stride = 4, .from = Peers::one(1), .dst = Buffer::Scratch},
                true, 10),
      "1>RM[4,5,8,9]");
}

TEST(Draw, Schedule) {
  EXPECT_EQ(draw_schedule(*find_row(Coll::Reduce, Algo::Ring), 3, 1),
            "reduce ring, 3 ranks\n"
            "k       0\n"
            "rank 0  2>RRS>1\n"
            "rank 1  0>RRC\n"
            "rank 2  S>0\n");
}

TEST(Draw, PicturesInTheDocumentsAreCurrent) {
  std::ifstream file(TUTTI_DOCS "/algorithms.md");
  std::stringstream document;
  document << file.rdbuf();
  const int host_of[] = {0, 0, 1, 1};
  const HostTable hosts(host_of);
  for (const CatalogRow& row : catalog()) {
    if (row.needs & kUser) continue;  // that page is the user's
    const std::string picture = draw_schedule(row, row.needs & kHosts ? Ranks(4, &hosts.map()) : Ranks(4));
    EXPECT_NE(document.str().find(picture), std::string::npos) << "docs/algorithms.md lacks this picture:\n" << picture;
  }
}

}  // namespace
}  // namespace tutti
