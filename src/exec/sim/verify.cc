// SPDX-License-Identifier: Apache-2.0
#include "exec/sim/verify.h"

#include <algorithm>
#include <memory>

namespace tutti {
namespace {

constexpr int kMostSlots = 64;  // what small communicators have for one connection
constexpr uint64_t kCell = 32;

Proof proof_of(const UserSchedule& schedule, int slots) {
  return {.coll = schedule.coll,
          .n = schedule.n,
          .root = schedule.root,
          .schedule =
              [&schedule](const ScheduleArgs& args) {
                return AnySchedule{TableSchedule{schedule.steps[static_cast<size_t>(args.me)]}};
              },
          .bytes = kTileAlign * static_cast<uint64_t>(schedule.blocks * schedule.channels),
          .channels = schedule.channels,
          .blocks = schedule.blocks,
          .slots = slots,
          .random_orders = 2};
}

// The fewest slots: doubled until it runs, then halved towards it. More slots never hurt.
Result<int> fewest_slots(const UserSchedule& schedule, Verified& verified) {
  const auto runs = [&](int slots) -> Result<bool> {
    Proof proof = proof_of(schedule, slots);
    proof.bytes *= 4;  // several rounds, so that what one leaves hinders the next
    ++verified.proofs;
    Verdict verdict = Verdict::Wrong;
    const Result<ProofStats> result = prove(proof, &verdict);
    if (result.ok()) return true;
    if (verdict == Verdict::Deadlock && slots < kMostSlots) return false;
    return result.status();
  };
  int enough = 1;
  for (;; enough *= 2) {
    TUTTI_ASSIGN_OR_RETURN(const bool ok, runs(enough));
    if (ok) break;
  }
  int too_few = enough / 2;
  while (enough - too_few > 1) {
    const int middle = (enough + too_few) / 2;
    TUTTI_ASSIGN_OR_RETURN(const bool ok, runs(middle));
    (ok ? enough : too_few) = middle;
  }
  return enough;
}

}  // namespace

Result<Verified> verify(const UserSchedule& schedule) {
  Verified verified;
  TUTTI_ASSIGN_OR_RETURN(verified.slots, fewest_slots(schedule, verified));
  const Proof base = proof_of(schedule, verified.slots);
  // In runs of cells: none, half a slice of the first blocks, one, a round and a half, many rounds.
  const uint64_t unit = base.bytes / kTileAlign;
  for (const uint64_t bytes :
       {base.bytes, uint64_t{0}, kCell, base.bytes - kCell * (unit > 1 ? 1 : 0), 3 * unit * kCell, 9 * unit * kCell}) {
    for (const bool in_place : {false, true}) {
      Proof proof = base;
      proof.bytes = bytes;
      proof.in_place = in_place;
      ++verified.proofs;
      TUTTI_ASSIGN_OR_RETURN(const ProofStats stats, prove(proof));
      if (bytes != base.bytes || in_place) continue;
      verified.stats = stats;
      verified.whole =
          static_cast<double>(bytes) *
          (coll_layout(schedule.coll, schedule.n, 0, 0, 0).input.kind == Layout::Kind::Region ? 1 : schedule.n);
    }
  }
  for (const uint64_t bytes : {1, 65, 127}) {  // a length of any number of bytes
    Proof proof = base;
    proof.bytes = bytes;
    proof.cell_bytes = 1;
    proof.fixed_orders = false;
    ++verified.proofs;
    TUTTI_TRY(prove(proof));
  }
  return verified;
}

Result<std::vector<const UserSchedule*>> read_proven_schedules(std::string_view files) {
  std::vector<const UserSchedule*> all;
  while (!files.empty()) {
    const std::string_view file = files.substr(0, files.find(','));
    files.remove_prefix(std::min(file.size() + 1, files.size()));
    TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<UserSchedule> schedule, read_user_schedule(std::string(file)));
    const Result<Verified> verified = verify(*schedule);
    if (!verified.ok()) {
      return invalid_argument("TUTTI_SCHEDULES: {} may not run: {}; `tutti plan verify {}` shows it", file,
                              verified.status().message(), file);
    }
    schedule->slots = verified->slots;
    all.push_back(schedule.release());
  }
  return all;
}

}  // namespace tutti
