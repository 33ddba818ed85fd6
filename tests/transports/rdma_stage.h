// SPDX-License-Identifier: Apache-2.0
// RDMA ranks of a test stage: over the look-alike devices of tests/fakes/fake_rdma.cc, or over real ones where
// RDMA_TEST_LIBRARY names their libibverbs (tests/rdma/in_vm.sh), of which RDMA_TEST_HCA may choose some.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/transports/stage.h"
#include "transports/rdma/rdma_transport.h"

namespace tutti::test {

bool on_real_devices();
RdmaSettings rdma_settings();

// A listener, and options that name all ranks' listeners and ports. Collective. `seed`: equal on all ranks.
struct RdmaSetup {
  std::unique_ptr<PeerListener> listener;
  RdmaOptions options;
};
Result<RdmaSetup> meet_over_rdma(Player& player, const std::vector<int>& members, const std::string& seed,
                                 const RdmaSettings& settings = rdma_settings());

Result<std::unique_ptr<Transport>> make_rdma(Player& player, const std::vector<int>& members, const std::string& seed,
                                             const Setting& setting);
// The transport of that setup, with its listener.
Result<std::unique_ptr<Transport>> make_rdma(RdmaSetup setup);

}  // namespace tutti::test
