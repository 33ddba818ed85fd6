// SPDX-License-Identifier: Apache-2.0
// Planner: turns a Summary and a Shape into a Plan.
//
// Pure: touches no device and no network, so the whole decision is tested from tables. Candidates come from the catalog
// (src/algo/catalog.h), their predicted time from cost.cc, restrictions from the Summary. Called by the communicator
// for the first call of a shape; exec/ receives the result.
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "algo/catalog.h"
#include "algo/user_schedule.h"
#include "base/fnv.h"
#include "plan/cost.h"
#include "plan/fabric.h"
#include "plan/plan.h"
#include "plan/restrictions.h"
#include "proto/lines.h"
#include "proto/slots.h"

namespace tutti {
namespace {

constexpr uint64_t kSmallestSlice = 4 << 10;
// Slots in flight: with a core per rank up to four that are 256 KiB together, else two.
constexpr uint64_t kSlotsDedicated = 4, kSlotsShared = 2;
constexpr uint64_t kDedicatedBytes = 256 << 10;
// Bytes of slots in flight for who runs ahead: 1 KiB broadcasts of 4 ranks on 2 cores through two slots cost a switch
// each, 2.2 us.
constexpr uint64_t kAheadBytes = 128 << 10;
// Remote access: the most that is moved before a lane looks up again. A megabyte takes 50 us or more.
constexpr uint64_t kRmaSlice = 1 << 20;
// What a call may keep beside the user's buffers: algorithms that do are for small blocks.
constexpr uint64_t kMostScratch = 4 << 20;
// Where a reader follows its writer, slice by slice: broadcasts of 1 MiB on two cores that share no cache take 49 us by
// slices of 64 KiB, 72 by 512 KiB. Sockets were measured with it.
constexpr uint64_t kFollowedSlice = 64 << 10;
// RDMA and GPUs: the most that profiles had when these were built. Longer slices have not been tried.
constexpr uint64_t kWireSlice = 256 << 10;
// Ragged blocks: no rank knows all sizes, so a slice that serves both small and large ones.
constexpr uint64_t kRaggedSlice = 64 << 10;

// Over a network each channel has a socket of its own. One is best where it can be kept full (docs/performance.md:
// every further one is looked at, read and acknowledged by itself, AllReduce of 256 KiB takes 132 us with one and 148
// with four); large calls gain where a network card spreads sockets over its queues, and lose nothing here.
constexpr uint64_t kNetworkShare = 4 << 20;  // bytes of a block that are worth a channel
constexpr uint64_t kNetworkChannels = 4;
constexpr int kNetworkFewRanks = 16;  // with more, sockets would outgrow what they gain

uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// Bytes of one block of one channel's share, the most that one slice can be of use for.
uint64_t block_bytes(const Shape& shape, const CatalogRow& row, Ranks ranks, int channels) {
  const bool region = coll_layout(shape.coll, ranks.n, 0, 0, 0).input.kind == Layout::Kind::Region;
  const uint64_t blocks = region ? static_cast<uint64_t>(row.blocks(ranks)) : 1;
  return std::max<uint64_t>(ceil_div(ceil_div(shape.bytes, blocks), static_cast<uint64_t>(channels)), 1);
}

// One side of these runs ahead of the other, call after call: the more slots the fewer waits, as long as all of them
// stay in the cache.
constexpr bool runs_ahead(Coll coll) { return rooted(coll) || coll == Coll::SendRecv; }

// The largest slice. The profile's is for calls in which all write and then all read; it is as large as the caches
// allow, since each slice more is a meeting more.
uint64_t most_slice(const Summary& summary, Coll coll) {
  const uint64_t most = summary.profile->slice_bytes[static_cast<size_t>(sharing_class(summary.ranks_per_core))];
  if (summary.fabric != nullptr || (!summary.mapped && summary.wire != Wire::Sockets))
    return std::min(most, kWireSlice);
  return !summary.mapped || runs_ahead(coll) ? std::min(most, kFollowedSlice) : most;
}

uint64_t simple_slice(const Summary& summary, Coll coll, uint64_t block, uint64_t fewest_slots) {
  uint64_t most = most_slice(summary, coll);
  if (summary.slice_bytes > 0) most = ceil_div(summary.slice_bytes, kTileAlign) * kTileAlign;
  // Powers of two, so that calls of similar sizes share a cut of the slots.
  const uint64_t wanted = std::bit_ceil(std::max(block, kSmallestSlice));
  const uint64_t fits =
      std::bit_floor(std::max(summary.slot_capacity / std::max<uint64_t>(fewest_slots, 2), kTileAlign));
  return std::min({most, wanted, fits});
}

uint64_t slots_wanted(const Summary& summary, Coll coll, uint64_t slice_bytes) {
  const uint64_t few = summary.ranks_per_core > 1
                           ? kSlotsShared
                           : std::clamp(kDedicatedBytes / slice_bytes, kSlotsShared, kSlotsDedicated);
  return runs_ahead(coll) ? std::max(few, kAheadBytes / slice_bytes) : few;
}

// The connections by which a rank writes slots that other cores read, as a rule: those of rank 0, which is the root
// where there is one.
uint64_t connections_away(const Summary& summary, const Plan& plan, const CatalogRow& row, Ranks ranks) {
  const int others = std::max(ranks.n - 1, 1);
  std::vector<bool> pairs(static_cast<size_t>(ranks.n), plan.coll == Coll::SendRecv);  // whoever else is sent to
  pairs[0] = false;
  bool fan = false;
  for (int part = 0; part < plan.parts && plan.coll != Coll::SendRecv; ++part) {
    const AnySchedule schedule = row.make(
        {.me = 0, .n = ranks.n, .part = part, .hosts = ranks.hosts, .user = ranks.user, .channel_map = ranks.channels});
    for (int k = 0; k < schedule.steps(); ++k) {
      const Peers to = schedule.at(k).to;
      fan |= to.fan && !to.none();
      for (int i = 0; !to.fan && i < to.size(ranks.n); ++i) pairs[static_cast<size_t>(to.at(i, 0))] = true;
    }
  }
  const auto written = static_cast<int>(std::count(pairs.begin(), pairs.end(), true));
  const int away = ceil_div(static_cast<uint64_t>(written * std::max(ranks.n - summary.ranks_per_core, 1)), others);
  return static_cast<uint64_t>(std::max(away + (fan ? 1 : 0), 1) * plan.channels);
}

// Profile::cycled_bytes, by all ranks of a core. What they move beside the slots takes lines out of the caches as well:
// for long calls half is enough, and better (all-gathers of 4 MiB in 124 us instead of 143).
uint64_t slots_cycled(const Summary& summary, const Shape& shape, const Plan& plan, const CatalogRow& row,
                      Ranks ranks) {
  if (!summary.mapped || summary.fabric != nullptr) return plan.slots;
  const auto sharing = static_cast<uint64_t>(summary.ranks_per_core);
  const uint64_t all = summary.profile->cycled_bytes[static_cast<size_t>(sharing_class(summary.ranks_per_core))];
  const uint64_t whole = shape.bytes * static_cast<uint64_t>(writes_blocks(shape.coll) ? ranks.n : 1);
  const uint64_t bytes =
      (all - std::min(whole * sharing, all / 2)) / (sharing * connections_away(summary, plan, row, ranks));
  return std::max(std::min(bytes, summary.slot_capacity) / plan.slice_bytes, plan.slots);
}

// The schedule of the user's that serves the shape, the first if there are several; null if there is none.
const UserSchedule* user_schedule(const Summary& summary, const Shape& shape) {
  if (shape.ragged) return nullptr;  // proven for blocks of one length
  for (const UserSchedule* one : summary.schedules) {
    if (one->serves(shape.coll, summary.n, rooted(shape.coll) ? shape.root : 0, shape.bytes)) return one;
  }
  return nullptr;
}

Ranks ranks_for(const Summary& summary, const Shape& shape, const CatalogRow& row) {
  Ranks ranks = summary.ranks();
  if (row.needs & kUser) ranks.user = user_schedule(summary, shape);
  return ranks;
}

int channels_wanted(const Summary& summary, const Shape& shape, const CatalogRow& row, Ranks ranks) {
  const int balanced = (row.needs & kEvenChannels) && summary.n > 2 ? 2 : 1;
  if (summary.mapped || summary.n > kNetworkFewRanks || shape.coll == Coll::SendRecv) return balanced;
  const uint64_t shares = std::clamp<uint64_t>(block_bytes(shape, row, ranks, 1) / kNetworkShare, 1, kNetworkChannels);
  return std::max(balanced, static_cast<int>(std::bit_floor(shares)));
}

// Why this row and protocol cannot serve the shape; empty if they can.
std::string unfit(const Summary& summary, const Shape& shape, const CatalogRow& row, Proto proto) {
  if (!row.has(proto)) return fmt::format("has no {} form", name(proto));
  if (const std::string_view lacks = row.lacks(ranks_for(summary, shape, row)); !lacks.empty())
    return std::string(lacks);
  if (proto == Proto::LL && !summary.mapped) return "LL needs memory that both ends map";
  if (proto == Proto::LL128 && (!summary.mapped || summary.ll128_slots == 0))
    return "a line of 128 bytes may be seen in pieces: it takes GPUs of compute capability 7 or later, one or joined "
           "by NVLink alone";
  const ChannelMap* const channels = summary.ranks().channels;
  if ((row.needs & kForest) && (channels == nullptr || channels->forests.count == 0))
    return "no spanning trees were packed: rings come near the bound, or no topology of GPUs is known";
  if (summary.fabric != nullptr && summary.n > 1 && fabric_gbps(*summary.fabric, row.algo) <= 0)
    return "the topology has no way between some of the devices that it joins";
  if ((row.needs & kSingleRound) && shape.ragged) return "needs blocks of one size";
  if (proto != Proto::Rma) return {};
  if (summary.n < 2 || !summary.mapped) return "reads peers' memory, of which there is none here";
  if ((row.needs & kWindows) && !summary.windows) return "no windows are registered";
  if (!summary.single_copy && !(summary.windows && (row.needs & kAllOpen)))
    return "not every rank can read every other's memory";
  if (shape.refused && can_be_refused(row, summary.single_copy)) return "the buffers of the call do not allow it";
  if (shape.in_place && (row.needs & kOutOfPlace)) return "an input would be replaced before its peers have read it";
  if (summary.fabric != nullptr && summary.fabric->remote_gbps <= 0)
    return "these GPUs do not use each other's buffers";
  if (shape.ragged) return "needs blocks of one size";
  if (shape.prescaled) return "a factor is known to its own rank only";
  return {};
}

// Copy engines instead of a kernel.
void consider_copies(const Summary& summary, const Shape& shape, const CatalogRow& row, Plan& plan) {
  const double us = predict_copies_us(*summary.fabric, ranks_for(summary, shape, row), shape, row);
  const uint64_t block = block_bytes(shape, row, ranks_for(summary, shape, row), 1);
  plan.copies = summary.copy_from > 0 ? block >= summary.copy_from : us < plan.predicted_us;
  if (plan.copies) plan.predicted_us = us;
}

Candidate consider(const Summary& summary, const Shape& shape, const CatalogRow& row, Proto proto) {
  Candidate candidate;
  Plan& plan = candidate.plan;
  plan.coll = shape.coll;
  plan.algo = row.algo;
  plan.proto = proto;
  candidate.lost = unfit(summary, shape, row, proto);
  const Ranks ranks = ranks_for(summary, shape, row);
  if (!row.fits(ranks)) return candidate;  // has no shape on these ranks
  plan.user = ranks.user;
  plan.channel_table = summary.channels;
  plan.parts = shape.coll == Coll::SendRecv ? 1 : row.parts(ranks);
  plan.blocks = row.blocks(ranks);
  plan.channels = channels_wanted(summary, shape, row, ranks);
  if (summary.fabric != nullptr) {
    plan.channels = fabric_channels(*summary.fabric, row.algo);
    if (const uint64_t share = summary.fabric->least_share; share > 0) {
      const uint64_t worth = block_bytes(shape, row, ranks, 1) / share;
      plan.channels = static_cast<int>(std::clamp<uint64_t>(worth, 1, static_cast<uint64_t>(plan.channels)));
    }
  }
  if (summary.min_channels > 0) plan.channels = std::max(plan.channels, summary.min_channels);
  if (summary.max_channels > 0) plan.channels = std::min(plan.channels, summary.max_channels);
  plan.channels = std::clamp(plan.channels, 1, summary.most_channels);
  if (row.needs & kSingleRound) plan.channels = 1;
  // A thread of a CPU copies as fast as memory lets it; a block of a GPU does not.
  const bool opens_once = proto == Proto::Rma && summary.fabric == nullptr;
  if (candidate.lost.empty() && summary.min_channels > 1 && ((row.needs & kSingleRound) || opens_once))
    candidate.lost =
        fmt::format("moves in one channel, and at least {} are asked for (TUTTI_MIN_CHANNELS, or minChannels)",
                    summary.min_channels);
  if (plan.user != nullptr && plan.user->channels != plan.channels) {  // proven with its own number
    const int given = std::exchange(plan.channels, plan.user->channels);
    const bool allowed = plan.channels <= summary.most_channels &&
                         (summary.max_channels == 0 || plan.channels <= summary.max_channels) &&
                         plan.channels >= summary.min_channels;
    if (!allowed && candidate.lost.empty())
      candidate.lost = fmt::format("has {} channel(s) where {} is the nearest allowed", plan.channels, given);
  }

  const uint64_t block =
      shape.ragged && shape.bytes == 0 ? kRaggedSlice : block_bytes(shape, row, ranks, plan.channels);
  auto fewest = static_cast<uint64_t>(row.slots(ranks, plan.slices));
  // Runs of blocks travel in one slice where they fit: fewer slots then do for them.
  const bool in_runs = (row.needs & kSingleRound) != 0;
  const uint64_t longest_run = in_runs ? fewest * block : block;
  if (proto == Proto::Rma) {
    if (opens_once) plan.channels = 1;
    plan.slice_bytes = kRmaSlice;
    plan.slots = 1;
    // One round, so that buffers are opened once; a send's lanes serve all sizes, in rounds of a slice.
    if (shape.coll != Coll::SendRecv)
      plan.slices =
          static_cast<int>(std::max<uint64_t>(ceil_div(block_bytes(shape, row, ranks, plan.channels), kRmaSlice), 1));
  } else if (proto == Proto::LL) {
    plan.slice_bytes = kLLPayloadBytes;
    plan.slots = 2;
    // A quarter of the slots may be free without the sender knowing (credit comes in batches).
    if (in_runs) fewest = std::max<uint64_t>(ceil_div(longest_run, plan.slice_bytes), 1);
    if (candidate.lost.empty() && fewest > summary.ll_slots / 2) candidate.lost = "needs more LL slots than there are";
  } else if (proto == Proto::LL128) {
    plan.slice_bytes = kLL128PayloadBytes;
    plan.slots = 2;
    if (in_runs) fewest = std::max<uint64_t>(ceil_div(longest_run, plan.slice_bytes), 1);
    // Kernels give credit slot by slot.
    if (candidate.lost.empty() && fewest > summary.ll128_slots)
      candidate.lost = "needs more LL128 slots than there are";
  } else {
    plan.slice_bytes = simple_slice(summary, shape.coll, longest_run, in_runs ? 1 : fewest);
    if (in_runs) fewest = std::max<uint64_t>(ceil_div(longest_run, plan.slice_bytes), 1);
    const uint64_t most = std::min(summary.slot_capacity / plan.slice_bytes, SimpleMemory::kMostInFlight);
    plan.slots = std::min(std::max(fewest, slots_wanted(summary, shape.coll, plan.slice_bytes)), most);
    if (candidate.lost.empty() && plan.slots < fewest) candidate.lost = "needs more slots than a connection holds";
    plan.cycled = slots_cycled(summary, shape, plan, row, ranks);
  }
  if (candidate.lost.empty() && (row.needs & kSingleRound) && shape.bytes > plan.slice_bytes)
    candidate.lost = "moves runs of blocks, which must fit one slice each";
  if (row.needs & kScratch) plan.scratch_bytes = shape.bytes * static_cast<uint64_t>(summary.n);
  if (candidate.lost.empty() && plan.scratch_bytes > kMostScratch)
    candidate.lost = fmt::format("needs more than {} bytes of scratch memory", kMostScratch);
  // What the ranks of a core write together has to exceed the caches before bypassing them pays: all of them where only
  // outputs are written; a core's own where slots pass through it as well.
  const auto sharing = static_cast<uint64_t>(summary.ranks_per_core);
  const uint64_t written = shape.bytes * static_cast<uint64_t>(writes_blocks(shape.coll) ? summary.n : 1);
  const bool lines = proto == Proto::LL || proto == Proto::LL128;
  const bool beside_slots = proto != Proto::Rma && sharing > 1;
  plan.stream_output = !lines && (beside_slots ? written * sharing > summary.cache_bytes
                                               : written * sharing >= summary.profile->stream_above);
  plan.predicted_us = predict_us(summary, shape, row, plan);
  if (proto == Proto::Rma && summary.fabric != nullptr && summary.copies && !reduces(shape.coll))
    consider_copies(summary, shape, row, plan);
  return candidate;
}

}  // namespace

Result<std::vector<Candidate>> plan_candidates(const Summary& summary, const Shape& shape) {
  TUTTI_ASSIGN_OR_RETURN(const Restrictions restrictions, parse_restrictions(summary.algorithms, summary.protocols));
  std::vector<Candidate> fit, unfit;
  for (const CatalogRow& row : catalog()) {
    if (row.coll != shape.coll) continue;
    for (const Proto proto : {Proto::LL, Proto::LL128, Proto::Simple, Proto::Rma}) {
      // What does not exist is no candidate.
      if (!row.has(proto) && (proto == Proto::Rma || row.has(Proto::Rma))) continue;
      if (proto == Proto::LL128 && (summary.fabric == nullptr || !row.has(proto))) continue;
      Candidate candidate = consider(summary, shape, row, proto);
      // What fits one LL message is not worth a system call, and hot paths of short calls make none.
      const bool enters_kernel = proto == Proto::Rma && !(row.needs & kWindows);
      if (candidate.lost.empty() && enters_kernel && shape.bytes <= kLLPayloadBytes && !restrictions.only(Proto::Rma))
        candidate.lost = "short messages go without the kernel";
      if (candidate.lost.empty()) candidate.lost = restrictions.excludes(shape.coll, row.algo, proto, summary.mapped);
      candidate.fits = candidate.lost.empty();
      (candidate.fits ? fit : unfit).push_back(std::move(candidate));
    }
  }
  // Whether remote access or LL128 can serve depends on more than the user knows: where only they are allowed and
  // cannot, other slots do.
  if (fit.empty() && restrictions.only_what_may_be_lacking()) {
    Summary slots = summary;
    slots.protocols = "^rma,ll128";
    return plan_candidates(slots, shape);
  }
  if (fit.empty()) {
    std::string excluded;
    for (const Candidate& candidate : unfit)
      excluded += fmt::format("; {}/{}: {}", name(candidate.plan.algo), name(candidate.plan.proto), candidate.lost);
    return invalid_usage("no algorithm is left for {} on {} ranks{}", name(shape.coll), summary.n, excluded);
  }
  // Who brings a schedule for this size wants it.
  const auto before = [](const Candidate& a, const Candidate& b) {
    const bool a_user = a.plan.user != nullptr, b_user = b.plan.user != nullptr;
    return a_user != b_user ? a_user : a.plan.predicted_us < b.plan.predicted_us;
  };
  std::stable_sort(fit.begin(), fit.end(), before);
  for (size_t i = 1; i < fit.size(); ++i) {
    fit[i].lost =
        fmt::format("{:.2f} times the time of the choice", fit[i].plan.predicted_us / fit[0].plan.predicted_us);
    if (fit[0].plan.user != nullptr && fit[i].plan.user == nullptr)
      fit[i].lost += fmt::format("; {} of TUTTI_SCHEDULES goes first", fit[0].plan.user->name);
  }
  fit.insert(fit.end(), std::make_move_iterator(unfit.begin()), std::make_move_iterator(unfit.end()));
  return fit;
}

Result<Plan> make_plan(const Summary& summary, const Shape& shape) {
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Candidate> candidates, plan_candidates(summary, shape));
  return candidates.front().plan;
}

Result<std::string> explain_plan(const Summary& summary, const Shape& shape) {
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Candidate> candidates, plan_candidates(summary, shape));
  std::string text =
      fmt::format("{} of {} bytes{} on {} ranks, {} host(s), {} rank(s) per core, {}\n", name(shape.coll), shape.bytes,
                  writes_blocks(shape.coll) ? " per block" : "", summary.n, summary.hosts, summary.ranks_per_core,
                  summary.mapped                     ? "all slots mapped"
                  : summary.wire == Wire::RdmaOfGpus ? "over RDMA between GPUs"
                  : summary.wire == Wire::Rdma       ? "over RDMA"
                                                     : "over a network");
  for (const Candidate& candidate : candidates) {
    const Plan& plan = candidate.plan;
    text += fmt::format("{} {:<16} {:<6} {:>12.2f} us  {} channel(s), {} slot(s) of {} bytes{}{}{}\n",
                        candidate.lost.empty() ? "->" : "  ", name(plan.algo), name(plan.proto), plan.predicted_us,
                        plan.channels, plan.slots, plan.slice_bytes,
                        plan.copies          ? ", by copy engines"
                        : plan.stream_output ? ", streaming"
                                             : "",
                        candidate.lost.empty() ? "" : "   lost: ", candidate.lost);
  }
  return text;
}

Status check_restrictions(const Summary& summary) {
  if (summary.max_channels > 0 && summary.min_channels > summary.max_channels)
    return invalid_argument(
        "at least {} channels and at most {} leave nothing: change TUTTI_MIN_CHANNELS or TUTTI_MAX_CHANNELS, or "
        "minChannels "
        "or maxChannels of the configuration",
        summary.min_channels, summary.max_channels);
  return parse_restrictions(summary.algorithms, summary.protocols).status();
}

uint64_t summary_digest(const Summary& summary) {
  std::string all =
      fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", summary.n, summary.hosts, summary.ranks_per_core,
                  summary.mapped, summary.single_copy, summary.slot_capacity, summary.ll_slots, summary.ll128_slots,
                  summary.most_channels, summary.cache_bytes, summary.algorithms, summary.protocols,
                  summary.min_channels, summary.max_channels, summary.slice_bytes) +
      fmt::format(" {}", static_cast<int>(summary.wire)) +
      (summary.places == nullptr
           ? std::string()
           : fmt::format(" {}",
                         fmt::join(std::span(summary.places->map().host_of, static_cast<size_t>(summary.n)), ","))) +
      fmt::format(" {:016x}", summary.profile->digest());
  for (const UserSchedule* one : summary.schedules) all += fmt::format(" {:016x}", one->digest);
  return fnv1a(all);
}

}  // namespace tutti
