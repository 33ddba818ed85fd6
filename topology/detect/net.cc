// SPDX-License-Identifier: Apache-2.0
// See net.h.
#include "topology/detect/net.h"

#include <algorithm>

#include "topology/detect/pci.h"

namespace tutti::topology {

std::vector<Interface> read_interfaces(const SystemRoot& root) {
  constexpr int32_t kLoopback = 772;
  std::vector<Interface> found;
  for (const std::string& name : root.list("/sys/class/net")) {
    const std::string at = "/sys/class/net/" + name;
    Interface interface;
    interface.name = name;
    interface.type = static_cast<int32_t>(root.number(at + "/type").value_or(-1));
    const auto path = root.resolve(at);
    if (!path || interface.type == kLoopback || name == "lo") continue;
    interface.hardware = root.exists(at + "/device");
    if (interface.hardware) interface.pci = pci_above(*path);
    if (interface.hardware && !interface.pci)
      interface.numa_node = static_cast<int32_t>(root.number(at + "/device/numa_node").value_or(-1));
    const std::string state = root.text(at + "/operstate").value_or("unknown");
    interface.up = state == "up" || (state == "unknown" && root.number(at + "/carrier").value_or(0) == 1);
    const int64_t speed = root.number(at + "/speed").value_or(-1);
    // Drivers without a figure write -1, or the same as an unsigned number.
    interface.speed_mbps = speed > 0 && speed < UINT32_MAX ? static_cast<double>(speed) : -1;
    if (const auto driver = root.resolve(at + "/device/driver")) interface.driver = base_name(*driver);
    std::string parts = root.text(at + "/bonding/slaves").value_or("");
    for (size_t begin = 0; begin < parts.size();) {
      const size_t end = std::min(parts.find(' ', begin), parts.size());
      if (end > begin) interface.parts.push_back(parts.substr(begin, end - begin));
      begin = end + 1;
    }
    found.push_back(std::move(interface));
  }
  return found;
}

}  // namespace tutti::topology
