// SPDX-License-Identifier: Apache-2.0
// See rdma.h.
#include "topology/detect/rdma.h"

#include <algorithm>
#include <charconv>

#include "topology/detect/pci.h"

namespace tutti::topology {
namespace {

// "fe80:0000:0000:0000:5054:00ff:fe12:3456" and "0c42:a103:00ab:cd00": groups of four digits.
template <class Bytes>
bool parse_groups(std::string_view text, Bytes& bytes) {
  size_t at = 0;
  while (!text.empty()) {
    const size_t colon = std::min(text.find(':'), text.size());
    unsigned value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + colon, value, 16);
    if (failed != std::errc() || end != text.data() + colon || value > 0xffff || at + 2 > bytes.size()) return false;
    bytes[at++] = static_cast<uint8_t>(value >> 8);
    bytes[at++] = static_cast<uint8_t>(value);
    text.remove_prefix(std::min(colon + 1, text.size()));
  }
  return at == bytes.size();
}

// "400 Gb/sec (4X NDR)", "2.5 Gb/sec (1X SDR)".
double rate_of(const std::string& text) {
  double value = 0;
  const size_t end = std::min(text.find(' '), text.size());
  (void)std::from_chars(text.data(), text.data() + end, value);
  return value > 0 && value < 1e6 ? value : 0;
}

verbs::Port read_port(const SystemRoot& root, const std::string& at, int number) {
  verbs::Port port;
  port.number = number;
  port.state = root.text(at + "/state").value_or("");  // "4: ACTIVE"
  port.active = port.state.starts_with("4");
  if (const size_t space = port.state.find(' '); space != std::string::npos) port.state.erase(0, space + 1);
  const std::string layer = root.text(at + "/link_layer").value_or("");
  port.layer = layer == "InfiniBand" ? verbs::LinkLayer::InfiniBand
               : layer == "Ethernet" ? verbs::LinkLayer::Ethernet
                                     : verbs::LinkLayer::Unknown;
  port.gbit_per_second = rate_of(root.text(at + "/rate").value_or(""));
  port.lid = static_cast<uint32_t>(std::max<int64_t>(root.number(at + "/lid").value_or(0), 0));
  for (const std::string& name : root.list(at + "/gids")) {
    const auto index = whole_number(name);
    verbs::Gid gid;
    if (!index || !parse_groups(root.text(at + "/gids/" + name).value_or(""), gid.bytes)) continue;
    if (gid.bytes == std::array<uint8_t, 16>{}) continue;
    gid.index = static_cast<int>(*index);
    const std::string type = root.text(at + "/gid_attrs/types/" + name).value_or("");
    gid.type = type == "RoCE v2"                          ? verbs::GidType::RoCEv2
               : port.layer == verbs::LinkLayer::Ethernet ? verbs::GidType::RoCEv1
                                                          : verbs::GidType::InfiniBand;
    gid.interface = root.text(at + "/gid_attrs/ndevs/" + name).value_or("");
    port.gids.push_back(std::move(gid));
  }
  return port;
}

// The card of a software device is that of the interface its GIDs name.
void place_by_interface(const SystemRoot& root, RdmaDevice& device) {
  for (const verbs::Port& port : device.device.ports) {
    for (const verbs::Gid& gid : port.gids) {
      if (gid.interface.empty()) continue;
      const std::string at = "/sys/class/net/" + gid.interface;
      if (const auto path = root.resolve(at)) device.pci = pci_above(*path);
      if (const auto driver = root.resolve(at + "/device/driver")) device.driver = base_name(*driver);
      if (device.pci) return;
    }
  }
}

}  // namespace

std::vector<RdmaDevice> read_rdma(const SystemRoot& root) {
  std::vector<RdmaDevice> found;
  for (const std::string& name : root.list("/sys/class/infiniband")) {
    const std::string at = "/sys/class/infiniband/" + name;
    RdmaDevice device;
    device.device.name = name;
    device.guid_text = root.text(at + "/node_guid").value_or("");
    std::array<uint8_t, 8> guid{};
    if (parse_groups(device.guid_text, guid))
      for (const uint8_t byte : guid) device.device.guid = device.device.guid << 8 | byte;
    device.device.firmware = root.text(at + "/fw_ver").value_or("");
    for (const std::string& port : root.list(at + "/ports"))
      if (const auto number = whole_number(port))
        device.device.ports.push_back(read_port(root, at + "/ports/" + port, static_cast<int>(*number)));
    device.software = !root.exists(at + "/device");
    if (device.software) {
      place_by_interface(root, device);
    } else if (const auto path = root.resolve(at + "/device")) {
      device.pci = pci_above(*path);
      if (const auto driver = root.resolve(at + "/device/driver")) device.driver = base_name(*driver);
    }
    found.push_back(std::move(device));
  }
  return found;
}

void complete_from_verbs(std::vector<RdmaDevice>& devices, const std::vector<verbs::Device>& opened) {
  for (const verbs::Device& theirs : opened) {
    const auto known =
        std::ranges::find_if(devices, [&](const RdmaDevice& one) { return one.device.name == theirs.name; });
    if (known == devices.end()) {
      RdmaDevice added;
      added.device = theirs;
      added.opened = true;
      devices.push_back(std::move(added));
      continue;
    }
    known->opened = true;
    known->device.most_queue_pairs = theirs.most_queue_pairs;
    known->device.atomics = theirs.atomics;
    if (known->device.guid == 0) known->device.guid = theirs.guid;
    if (known->device.firmware.empty()) known->device.firmware = theirs.firmware;
    if (known->device.ports.empty()) known->device.ports = theirs.ports;
    for (verbs::Port& port : known->device.ports) {
      const auto same = std::ranges::find(theirs.ports, port.number, &verbs::Port::number);
      if (same == theirs.ports.end()) continue;
      port.active_mtu = same->active_mtu;
      if (port.gbit_per_second == 0) port.gbit_per_second = same->gbit_per_second;
      if (port.gids.empty()) port.gids = same->gids;
    }
  }
}

}  // namespace tutti::topology
