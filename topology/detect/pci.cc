// SPDX-License-Identifier: Apache-2.0
// See pci.h.
#include "topology/detect/pci.h"

#include <algorithm>
#include <charconv>

namespace tutti::topology {
namespace {

struct LinkAbility {
  std::string speed;
  int32_t width = 0;
};

LinkAbility ability(const SystemRoot& root, const std::string& path, const char* which) {
  LinkAbility found;
  // "Unknown" and a width of 0 or 255 are what the kernel shows for functions without a PCIe link.
  if (auto speed = root.text(path + "/" + which + "_link_speed"); speed && giga_transfers(*speed) > 0)
    found.speed = std::move(*speed);
  const int64_t width = root.number(path + "/" + which + "_link_width").value_or(0);
  if (width > 0 && width <= 64) found.width = static_cast<int32_t>(width);
  return found;
}

int32_t id(const SystemRoot& root, const std::string& path) {
  const auto value = root.number(path);
  return value && *value >= 0 && *value <= 0xffffff ? static_cast<int32_t>(*value) : -1;
}

// A link runs at what both of its ends can do.
void limit(PciEntry& entry, const LinkAbility& port) {
  const double mine = giga_transfers(entry.link_speed), theirs = giga_transfers(port.speed);
  if (theirs > 0 && (mine == 0 || theirs < mine)) entry.link_speed = port.speed;
  if (port.width > 0 && (entry.link_width == 0 || port.width < entry.link_width)) entry.link_width = port.width;
}

// Splits ".../pci0000:20/0000:20:00.0/0000:23:00.0" into host bridge and functions; the last is the device itself.
void place(std::string_view path, PciEntry& entry) {
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (const auto address = PciAddress::parse(part)) {
      if (*address != entry.address) entry.bridges.push_back(*address);
    } else if (part.starts_with("pci")) {
      entry.root = part;
      entry.bridges.clear();
    }
  }
}

}  // namespace

double giga_transfers(std::string_view link_speed) {
  double value = 0;
  const size_t unit = link_speed.find(" GT/s");
  if (unit == std::string_view::npos) return 0;
  const auto [end, failed] = std::from_chars(link_speed.data(), link_speed.data() + unit, value);
  return failed == std::errc() && end == link_speed.data() + unit && value > 0 ? value : 0;
}

std::vector<PciEntry> read_pci(const SystemRoot& root) {
  std::vector<PciEntry> entries;
  for (const std::string& name : root.list("/sys/bus/pci/devices")) {
    const auto address = PciAddress::parse(name);
    const auto path = root.resolve("/sys/bus/pci/devices/" + name);
    if (!address || !path) continue;
    PciEntry entry;
    entry.address = *address;
    entry.path = *path;
    place(*path, entry);
    entry.class_code = id(root, *path + "/class");
    entry.vendor = id(root, *path + "/vendor");
    entry.device = id(root, *path + "/device");
    entry.subsystem_vendor = id(root, *path + "/subsystem_vendor");
    entry.subsystem_device = id(root, *path + "/subsystem_device");
    entry.numa_node =
        static_cast<int32_t>(std::clamp<int64_t>(root.number(*path + "/numa_node").value_or(-1), -1, INT32_MAX));
    if (const auto driver = root.resolve(*path + "/driver")) entry.driver = base_name(*driver);
    const LinkAbility current = ability(root, *path, "current"), most = ability(root, *path, "max");
    entry.current_speed = current.speed;
    entry.current_width = current.width;
    entry.link_speed = most.speed.empty() ? current.speed : most.speed;
    entry.link_width = most.width == 0 ? current.width : most.width;
    entries.push_back(std::move(entry));
  }
  std::ranges::sort(entries, {}, &PciEntry::address);
  for (PciEntry& entry : entries) {
    if (entry.bridges.empty()) continue;
    if (const PciEntry* port = find(entries, entry.bridges.back())) limit(entry, ability(root, port->path, "max"));
  }
  return entries;
}

const PciEntry* find(const std::vector<PciEntry>& entries, const PciAddress& address) {
  const auto found = std::ranges::lower_bound(entries, address, {}, &PciEntry::address);
  return found != entries.end() && found->address == address ? &*found : nullptr;
}

std::optional<PciAddress> pci_above(std::string_view path) {
  std::optional<PciAddress> last;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    if (const auto address = PciAddress::parse(path.substr(0, slash))) last = address;
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return last;
}

}  // namespace tutti::topology
