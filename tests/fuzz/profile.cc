// SPDX-License-Identifier: Apache-2.0
// The JSON of a profile (TUTTI_PROFILE): what is read predicts finite times, and is the same when written and read
// again.
#include "plan/profile.h"

#include <cmath>

#include "fuzz/target.h"

std::vector<tutti::fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  for (const char* vendor : {"GenuineIntel", "AuthenticAMD"}) {
    const std::string text = format_profile(built_in_profile(vendor));
    seeds.emplace_back(text.begin(), text.end());
  }
  Profile timed = built_in_profile({});
  timed.cpus = 2;
  timed.timed = {{Coll::Broadcast, Algo::Pull, Proto::Rma, 2, true, {8, 64}, {1, 2}}};
  timed.gpu = {"a GPU", 2, {5, 1}, {7, 3}, 0.5, {{Coll::AllReduce, Algo::Tree, Proto::LL, 4, false, {8}, {9}}}};
  const std::string text = format_profile(timed);
  seeds.emplace_back(text.begin(), text.end());
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto profile = tutti::parse_profile(text, "input");
  if (!profile.ok()) return 0;
  for (const tutti::Curve* curve : {&profile->ll, &profile->slots, &profile->kernel, &profile->pull, &profile->push}) {
    for (const double bytes : {0.0, 1.0, 4096.0, 1e6, 1e9}) {
      const double us = (*curve)(bytes);
      tutti::fuzz::require(!std::isnan(us) && us > 0, "a time that is none");
    }
  }
  const auto again = tutti::parse_profile(tutti::format_profile(*profile), "written");
  tutti::fuzz::require(again.ok() && *again == *profile, "a profile that changes when it is written and read");
  return 0;
}
