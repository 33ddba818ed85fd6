// SPDX-License-Identifier: Apache-2.0
// Starts the ranks of `tutti run`, here or over ssh, and looks after them until all have ended.
//
// A rank gets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and TUTTI_JOB_SECRET. Over ssh
// the secret travels on standard input, never on a command line, and so do signals: a small shell program at the other
// end reads their names and ends its rank when the connection is gone, so that nothing stays behind on a host that lost
// us.
#pragma once

#include <string>
#include <vector>

namespace tutti::tool {

struct RankPlan {
  std::string host;  // empty: this one
  int local_rank = 0, local_ranks = 1;
};

struct RunPlan {
  std::vector<RankPlan> ranks;
  std::vector<std::string> command;
  std::vector<std::string> ssh;      // the remote shell and its options
  std::vector<std::string> forward;  // names of variables that ranks on other hosts get as well
  std::string master_address;
  int master_port = 0;
  std::string secret;
  bool prefix = false;  // each line of output begins with "[rank] "
  int grace_ms = 5000;  // between asking ranks to end and ending them
};

// "a,b:2" and n ranks: b takes 2, hosts without a number share what is left evenly, the first ones taking one more.
// Empty when it does not parse or the numbers do not fit; `why` then says so.
std::vector<RankPlan> place_ranks(const std::string& hosts, int ranks, std::string& why);

// The status of the first rank that failed (128 + signal where one ended it), 128 + signal when we were told to end, or
// 0. A rank that fails takes the others with it.
int run_ranks(const RunPlan& plan);

// For a shell: 'it'\''s'.
std::string quoted_for_shell(const std::string& word);

}  // namespace tutti::tool
