// SPDX-License-Identifier: Apache-2.0
// `tutti plan verify FILE`: proves a schedule that a user wrote (docs/user-schedules.md) by the prover, which drives
// the loop that would move its bytes, or shows the counterexample. What passes here may run in TUTTI_SCHEDULES.
#include <fmt/core.h>

#include <memory>

#include "algo/catalog.h"
#include "algo/draw.h"
#include "exec/sim/verify.h"
#include "tools/tutti/output.h"

namespace tutti::tool {
namespace {

void run(const std::string& file, bool picture) {
  Result<std::unique_ptr<UserSchedule>> read = read_user_schedule(file);
  if (!read.ok()) fail(read.status().message(), 2);
  UserSchedule& schedule = **read;
  const Result<Verified> verified = verify(schedule);
  if (!verified.ok()) {
    fmt::print("{}: not proven: {}\n", file, verified.status().message());
    throw CLI::RuntimeError(1);
  }
  schedule.slots = verified->slots;
  fmt::print("{}: proven: {} \"{}\" on {} ranks, in place and not, by {} runs\n", file, name(schedule.coll),
             schedule.name, schedule.n, verified->proofs);
  fmt::print("  {} channel(s) of {} slot(s) per connection; {} message(s) on the longest chain\n", schedule.channels,
             verified->slots, verified->stats.hops);
  fmt::print("  the busiest rank sends {:.4g} and receives {:.4g} times the whole buffer\n",
             static_cast<double>(verified->stats.sent_bytes) / verified->whole,
             static_cast<double>(verified->stats.received_bytes) / verified->whole);
  if (picture) {
    const Ranks ranks(schedule.n, nullptr, &schedule);
    fmt::print("\n{}", draw_schedule(*find_row(schedule.coll, Algo::User), ranks, schedule.root));
  }
}

}  // namespace

void add_plan_verify(CLI::App& plan) {
  CLI::App* command = plan.add_subcommand("verify", "Prove a schedule of your own, or show where it goes wrong");
  const auto file = std::make_shared<std::string>();
  command->add_option("file", *file, "JSON table of steps")->required();
  const CLI::Option* picture = command->add_flag("--picture")->description("Print its picture too");
  command->footer("Ends with 0: proven; 1: wrong, with the counterexample; 2: not a schedule at all.");
  command->callback([file, picture] { run(*file, picture->count() > 0); });
}

}  // namespace tutti::tool
