// SPDX-License-Identifier: Apache-2.0
// Checks of networks: RDMA devices and their ports, ordinary interfaces.
#include <algorithm>

#include "tools/tutti/doctor/doctor_checks.h"
#include "topology/detect/net.h"
#include "topology/detect/rdma.h"

namespace tutti::doctor {

std::vector<Finding> look_at_rdma_access(const Probes& probes) {
  if (probes.sources.rdma.empty()) return {good("no RDMA device", "/sys/class/infiniband is empty")};
  if (!probes.verbs)
    return {found(Severity::Note, "verbs was not asked", "a recorded tree", "run tutti doctor on the machine itself")};
  if (!probes.verbs->ok())
    return {found(Severity::Broken, "RDMA devices are there, but libibverbs is not", probes.verbs->message(),
                  "install libibverbs1 and ibverbs-providers (rdma-core)")};
  std::vector<std::string> closed, open;
  for (const topology::RdmaDevice& device : probes.sources.rdma)
    (device.opened ? open : closed).push_back(device.device.name);
  if (closed.empty())
    return {good(fmt::format("{} RDMA devices open", open.size()), "ibv_open_device: " + list_text(open))};
  const bool uverbs = !probes.root.list("/dev/infiniband").empty();
  return {found(
      Severity::Broken, fmt::format("{} of {} RDMA devices do not open", closed.size(), probes.sources.rdma.size()),
      fmt::format("{}{}", probes.verbs_notes.empty() ? list_text(closed) : list_text(probes.verbs_notes),
                  uverbs ? "" : "; /dev/infiniband is empty"),
      uverbs ? "install the devices' provider (ibverbs-providers); check the permissions of /dev/infiniband/uverbs*"
             : "modprobe ib_uverbs; in a container, docker run --device=/dev/infiniband")};
}

std::vector<Finding> look_at_rdma_ports(const Probes& probes) {
  std::vector<Finding> findings;
  size_t active = 0;
  for (const topology::RdmaDevice& rdma : probes.sources.rdma) {
    for (const verbs::Port& port : rdma.device.ports) {
      const std::string name = fmt::format("{} port {}", rdma.device.name, port.number);
      const std::string at = fmt::format("/sys/class/infiniband/{}/ports/{}", rdma.device.name, port.number);
      if (!port.active) {
        findings.push_back(
            found(Severity::Slow, fmt::format("{} is not active", name), fmt::format("{}/state: {}", at, port.state),
                  port.layer == verbs::LinkLayer::Ethernet
                      ? "plug or replace the cable; ip link set its interface up; rdma link shows the state"
                      : "plug or replace the cable; INIT means that no subnet manager runs (opensm)"));
        continue;
      }
      ++active;
      if (port.layer != verbs::LinkLayer::Ethernet) continue;
      const auto v2 =
          std::ranges::count_if(port.gids, [](const verbs::Gid& gid) { return gid.type == verbs::GidType::RoCEv2; });
      const auto routed = std::ranges::count_if(
          port.gids, [](const verbs::Gid& gid) { return gid.type == verbs::GidType::RoCEv2 && !gid.link_local(); });
      if (v2 == 0)
        findings.push_back(found(Severity::Broken, fmt::format("{} has no RoCE v2 GID", name),
                                 fmt::format("{}/gid_attrs/types: none of {} GIDs is RoCE v2", at, port.gids.size()),
                                 "give its interface an address (ip addr add); in a container, use the host's network, "
                                 "for GIDs belong to a network namespace"));
      else if (routed == 0)
        findings.push_back(found(Severity::Note, fmt::format("{} has only a link-local RoCE v2 GID", name),
                                 fmt::format("{}/gids: {} link-local", at, v2),
                                 "give its interface an IPv4 or global IPv6 address to reach other subnets"));
    }
  }
  if (!probes.sources.rdma.empty() && active == 0)
    for (Finding& finding : findings) finding.severity = Severity::Broken;
  if (findings.empty())
    findings.push_back(
        good(probes.sources.rdma.empty() ? "no RDMA device" : fmt::format("{} RDMA ports are active", active),
             "/sys/class/infiniband: states, link layers and GIDs of the ports"));
  return findings;
}

std::vector<Finding> look_at_interfaces(const Probes& probes) {
  std::vector<Finding> findings;
  std::vector<std::string> up, slow;
  double fastest = -1;
  for (const topology::Interface& interface : probes.sources.interfaces) {
    if (!interface.hardware || !interface.up) continue;
    up.push_back(interface.name);
    fastest = std::max(fastest, interface.speed_mbps);
    if (interface.speed_mbps > 0 && interface.speed_mbps < 10000)
      slow.push_back(fmt::format("{} ({:g} Mb/s)", interface.name, interface.speed_mbps));
    const int64_t mtu = probes.root.number("/sys/class/net/" + interface.name + "/mtu").value_or(0);
    if (interface.speed_mbps >= 25000 && mtu > 0 && mtu < 4096)
      findings.push_back(
          found(Severity::Note, fmt::format("{} sends small packets for its speed", interface.name),
                fmt::format("/sys/class/net/{}: speed {:g} Mb/s, mtu {}", interface.name, interface.speed_mbps, mtu),
                fmt::format("ip link set {} mtu 9000, on all hosts and switches alike", interface.name)));
  }
  if (up.empty()) {
    findings.push_back(found(Severity::Note, "no network card is up: jobs stay on this host",
                             "/sys/class/net: operstate", "ip link set NAME up, and give it an address"));
  } else if (slow.size() == up.size()) {
    findings.push_back(
        found(Severity::Slow, "every interface that is up is slow: jobs on several hosts are bound by it",
              "/sys/class/net: speed of " + list_text(slow),
              "use the fast network: TUTTI_SOCKET_IFNAME chooses interfaces, ethtool NAME shows what was negotiated"));
  } else if (!slow.empty()) {
    findings.push_back(found(Severity::Note, "some interfaces are slow", "/sys/class/net: speed of " + list_text(slow),
                             "if jobs pick the wrong one, name the fast one in TUTTI_SOCKET_IFNAME"));
  }
  if (findings.empty())
    findings.push_back(good(fmt::format("{} is up", list_text(up)),
                            fastest > 0 ? fmt::format("/sys/class/net: up to {:g} Mb/s", fastest)
                                        : "/sys/class/net: operstate; the driver states no speed"));
  return findings;
}

}  // namespace tutti::doctor
