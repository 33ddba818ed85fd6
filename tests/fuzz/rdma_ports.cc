// SPDX-License-Identifier: Apache-2.0
// What a rank says about its RDMA ports at initialisation: what is taken says the same when it is said again, and pairs
// of ports are pairs of what there is.
#include "transports/rdma/rdma_ports.h"

#include "fuzz/target.h"

using namespace tutti;

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  RdmaPort roce, infiniband;
  roce.device = "mlx5_0";
  roce.layer = verbs::LinkLayer::Ethernet;
  roce.gid.type = verbs::GidType::RoCEv2;
  roce.gid.bytes[15] = 7;
  infiniband.device = "mlx5_bond_1";
  infiniband.number = 2;
  infiniband.layer = verbs::LinkLayer::InfiniBand;
  const std::vector<std::vector<RdmaPort>> lists = {
      {}, {roce}, {roce, infiniband}, std::vector<RdmaPort>(kMostPorts, infiniband)};
  std::vector<Input> seeds;
  for (const auto& ports : lists) seeds.push_back(input_of(encode_ports(ports)));
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const Result<std::vector<RdmaPort>> ports = decode_ports(bytes);
  if (!ports.ok()) return 0;
  fuzz::require(ports->size() <= kMostPorts, "more ports than there may be");
  const Bytes again = encode_ports(*ports);
  fuzz::require(size == 0 || std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()),
                "it was read otherwise");
  for (const PortPair& pair : pair_ports(*ports, *ports)) {
    const auto within = [&](int port) { return port >= 0 && port < static_cast<int>(ports->size()); };
    fuzz::require(within(pair.lower) && within(pair.higher), "a pair of a port that there is not");
  }
  return 0;
}
