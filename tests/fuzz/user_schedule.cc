// SPDX-License-Identifier: Apache-2.0
// The JSON table of steps of a user's schedule, and the prover on what is read: whatever it says, it is proven or refused.
#include "algo/user_schedule.h"

#include "exec/sim/verify.h"
#include "fuzz/target.h"

std::vector<tutti::fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  for (const std::string text :
       {R"({"format":1,"name":"ring","collective":"all_gather","ranks":2,"steps":[
            [{"read":"input","to":[1],"keep":0},{"from":[1],"keep":1}],
            [{"read":"input","to":[0],"keep":1},{"from":[0],"keep":0}]]})",
        R"({"format":1,"collective":"all_reduce","ranks":2,"blocks":1,"min_bytes":8,"max_bytes":64,"channels":2,"steps":[
            [{"read":"input","from":[1],"reduce":true,"last":true,"keep":0},{"read":"output","to":[1]}],
            [{"read":"input","to":[0]},{"from":[0],"keep":0}]]})",
        R"({"format":1,"collective":"broadcast","ranks":3,"root":1,"blocks":2,"steps":[
            [{"from":[1],"count":2,"keep":0}],[{"read":"input","count":2,"keep":0,"to":[0,2]}],
            [{"from":[1],"count":2,"keep":0}]]})"})
    seeds.emplace_back(text.begin(), text.end());
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto schedule = tutti::parse_user_schedule(text, "input");
  if (!schedule.ok()) return 0;
  // Proving is as long as the schedule is large: small ones show all there is to find.
  constexpr int kMostRanks = 4, kMostCells = 64;
  if ((*schedule)->n > kMostRanks || (*schedule)->blocks * (*schedule)->channels > kMostCells) return 0;
  (void)tutti::verify(**schedule);
  return 0;
}
