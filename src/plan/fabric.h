// SPDX-License-Identifier: Apache-2.0
// Fabric: what the links between GPUs cost, for the cost model (cost.cc). Made from the channels that were found on a
// topology; the profile (profile.h) replaces constants where it has measured such GPUs.
#pragma once

#include "algo/catalog.h"
#include "plan/plan.h"
#include "plan/profile.h"
#include "topology/channels/channels.h"

namespace tutti {

// What a hop passes at worst.
enum class LinkClass : uint8_t { NvLink, Pcie, Network };
const char* to_string(LinkClass link);

struct Fabric {
  int ranks = 1, domains = 1;
  LinkClass inside = LinkClass::NvLink;  // between the devices of a domain
  // Bus bandwidth of each kind of channel, and how many there are.
  double ring_gbps = 0, tree_gbps = 0, star_gbps = 0;
  double remote_gbps = 0;  // of buffers of peers that are used where they are; 0: there is no such access
  int rings = 1, trees = 1;
  int forests = 0;  // packed trees that serve blocks; `tree_gbps` is then theirs
  // The devices' name and number, where they are all of one kind: what `tutti tune` found of such is used.
  std::string gpu = {};
  int gpus = 0;
  uint64_t least_share = 0;  // bytes of a block that are worth a channel; 0: all sizes use all channels
};

Fabric make_fabric(const topology::Graph& graph, const topology::ChannelPlan& channels);
// The same channels as schedules see them (algo/channel_map.h): devices become their ranks, side by side. `ranks` is
// the device of each, `root` that of a rooted collective: its trees hang from there.
std::shared_ptr<const ChannelTable> make_channel_table(const topology::ChannelPlan& channels,
                                                       const std::vector<topology::NodeId>& ranks, Coll coll, int root);

// Microseconds for one call, all ranks arriving together. `measured` is what `tutti tune` found of such GPUs; where it
// timed this candidate on as many ranks and GPUs, and the plan is `as_timed`, that counts. Null: published constants.
double predict_fabric_us(const Fabric& fabric, Ranks ranks, const Shape& shape, const CatalogRow& row, const Plan& plan,
                         const GpuProfile* measured = nullptr, bool as_timed = false);
// The same where copy engines carry the steps of remote access.
double predict_copies_us(const Fabric& fabric, Ranks ranks, const Shape& shape, const CatalogRow& row);
// Bus bandwidth of the channels that this algorithm runs on; 0: there are none.
double fabric_gbps(const Fabric& fabric, Algo algo);
// How many they are.
int fabric_channels(const Fabric& fabric, Algo algo);

}  // namespace tutti
