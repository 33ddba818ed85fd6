// SPDX-License-Identifier: Apache-2.0
// TCP ranks of a test stage, over the loopback.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/peer_listener.h"
#include "tests/transports/stage.h"
#include "transports/tcp/tcp_transport.h"

namespace tutti::test {

// A listener and the options that name all ranks' listeners. Collective. `seed`: equal on all ranks.
struct TcpSetup {
  std::unique_ptr<PeerListener> listener;
  TcpOptions options;
};
Result<TcpSetup> meet_over_tcp(Player& player, const std::vector<int>& members, const std::string& seed);

Result<std::unique_ptr<Transport>> make_tcp(Player& player, const std::vector<int>& members, const std::string& seed,
                                            const Setting& setting);

}  // namespace tutti::test
