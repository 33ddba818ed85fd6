// SPDX-License-Identifier: Apache-2.0
// The text of `nvidia-smi topo -m` (and -mp), with tabs or spaces, old and new words, coloured or not.
//
// The matrix names the class of each pair and no device in between, so the machine is rebuilt from the classes: devices
// that are PIX of each other get one switch, PXB one tree of switches, PHB one host bridge, NODE one NUMA node. The
// rebuilt graph shows the same matrix again. Where NVLink hides how a pair sits on PCIe, the CPU affinity decides.
#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "topology/figures.h"
#include "topology/formats/formats.h"
#include "topology/formats/xml.h"

namespace tutti::topology {
namespace {

constexpr int kLevels = 4;        // PIX, PXB, PHB, NODE: what a pair has in common, from the nearest on
constexpr int kSys = kLevels;     // nothing
constexpr int kUnknown = -1;      // NVLink: the matrix hides it
constexpr int kMostNvLinks = 18;  // of one GPU; a full mesh that needs more must have a switch in its middle

struct Cell {
  int level = kUnknown;
  int nvlinks = 0;
  bool self = false;
};

struct Device {
  std::string name;
  bool gpu = false;
  int32_t line = 0;  // of its row; 0: none yet
  std::vector<Cell> cells;
  CpuSet cpus;
  std::string affinity;  // the text of both columns: equal texts mean one place
  int32_t numa = -1;
};

// Terminal sequences ESC [ ... letter.
std::string without_escapes(std::string_view line) {
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\033') {
      text += line[i];
      continue;
    }
    if (i + 1 < line.size() && line[i + 1] == '[') {
      i += 2;
      while (i < line.size() && !(line[i] >= '@' && line[i] <= '~')) ++i;
    }
  }
  return text;
}

std::optional<int32_t> numbered(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix) || text.size() == prefix.size() || text.size() > prefix.size() + 6) return std::nullopt;
  const auto number = to_integer(text.substr(prefix.size()));
  if (!number || *number < 0) return std::nullopt;
  return static_cast<int32_t>(*number);
}

std::optional<Cell> cell_of(std::string_view word) {
  if (word == "X") return Cell{.self = true};
  if (word == "PIX") return Cell{.level = 0};
  if (word == "PXB") return Cell{.level = 1};
  if (word == "PHB") return Cell{.level = 2};
  if (word == "NODE") return Cell{.level = 3};
  if (word == "SYS" || word == "SOC") return Cell{.level = kSys};
  if (const auto links = numbered(word, "NV"); links && *links > 0) return Cell{.nvlinks = *links};
  return std::nullopt;
}

bool is_header(const std::vector<std::string_view>& columns) {
  if (columns.empty() || !numbered(columns[0], "GPU")) return false;
  return columns.size() == 1 || !cell_of(columns[1]);
}

class Sets {  // disjoint sets
 public:
  explicit Sets(size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), size_t{0}); }
  size_t find(size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(size_t i, size_t j) { parent_[std::max(find(i), find(j))] = std::min(find(i), find(j)); }

 private:
  std::vector<size_t> parent_;
};

class Reader {
 public:
  Reader(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  Result<Graph> read() {
    TUTTI_TRY(read_lines());
    TUTTI_TRY(check());
    find_places();
    build();
    return std::move(graph_);
  }

 private:
  template <class... Args>
  Status wrong(int32_t line, fmt::format_string<Args...> text, Args&&... args) const {
    return invalid_argument("{}:{}: {}", name_, line, fmt::format(text, std::forward<Args>(args)...));
  }

  Status read_lines() {
    int32_t number = 0;
    for (size_t at = 0; at < text_.size();) {
      const size_t end = std::min(text_.find('\n', at), text_.size());
      const std::string line = without_escapes(text_.substr(at, end - at));
      at = end + 1;
      ++number;
      const auto columns = words(line);
      if (columns.empty()) continue;
      if (devices_.empty()) {
        if (is_header(columns)) TUTTI_TRY(read_header(columns, number));
      } else if (const auto found = index_.find(std::string(columns[0])); found != index_.end()) {
        TUTTI_TRY(read_row(devices_[found->second], line, columns, number));
      } else if (columns.size() == 2 && columns[0].ends_with(':')) {  // NIC Legend
        const std::string key(columns[0].substr(0, columns[0].size() - 1));
        if (index_.contains(key)) legend_[key] = columns[1];
      }
    }
    if (devices_.empty()) return wrong(1, "no header of a `nvidia-smi topo -m` matrix (GPU0 GPU1 ... CPU Affinity)");
    return {};
  }

  Status read_header(const std::vector<std::string_view>& columns, int32_t line) {
    for (const std::string_view column : columns) {
      if (column == "CPU" || column == "NUMA") break;
      if (cell_of(column)) return wrong(line, "\"{}\" in the header is a connection, not a device", column);
      Device device;
      device.name = column;
      device.gpu = numbered(column, "GPU").has_value();
      if (!index_.try_emplace(device.name, devices_.size()).second) return wrong(line, "{} has two columns", column);
      devices_.push_back(std::move(device));
    }
    return {};
  }

  Status read_row(Device& device, const std::string& line, const std::vector<std::string_view>& columns,
                  int32_t number) {
    if (device.line != 0) return wrong(number, "{} has a second row (the first is line {})", device.name, device.line);
    device.line = number;
    const size_t count = devices_.size();
    size_t next = 1;
    for (; next < columns.size() && device.cells.size() < count; ++next) {
      const auto cell = cell_of(columns[next]);
      if (!cell)
        return wrong(number,
                     "\"{}\" in the row of {}, column {}, is no connection: a separator is lost or the text is "
                     "damaged",
                     columns[next], device.name, devices_[device.cells.size()].name);
      device.cells.push_back(*cell);
    }
    if (device.gpu && device.cells.size() < count)
      return wrong(number, "the row of {} has {} of {} cells", device.name, device.cells.size(), count);
    read_affinity(&device, line, columns, next);
    return {};
  }

  // What follows the matrix: CPU Affinity, NUMA Affinity, GPU NUMA ID; with tabs each may be blank.
  void read_affinity(Device* device, const std::string& line, const std::vector<std::string_view>& columns,
                     size_t next) {
    if (next >= columns.size()) return;
    const auto offset = static_cast<size_t>(columns[next].data() - line.data());
    std::vector<std::string_view> cells;
    if (line.find('\t') == std::string::npos) {
      cells.assign(columns.begin() + static_cast<ptrdiff_t>(next), columns.end());
    } else {
      // From the tab behind the last cell of the matrix, so that a blank first cell counts.
      const std::string_view before = columns[next - 1];
      size_t from = line.find('\t', static_cast<size_t>(before.data() - line.data()) + before.size());
      if (from == std::string::npos || from > offset) from = offset - 1;
      while (from < line.size()) {
        const size_t to = std::min(line.find('\t', from + 1), line.size());
        const auto cell = words(std::string_view(line).substr(from + 1, to - from - 1));
        cells.push_back(cell.empty() ? std::string_view() : cell[0]);
        from = to;
      }
    }
    if (!cells.empty())
      if (const auto cpus = CpuSet::from_list(cells[0])) device->cpus = *cpus;
    if (cells.size() > 1)
      if (const auto numa = to_integer(cells[1]); numa && *numa >= 0 && *numa < (1 << 20))
        device->numa = static_cast<int32_t>(*numa);
    if (!device->cpus.empty() || device->numa >= 0)
      device->affinity = fmt::format("{}/{}", device->cpus.list(), device->numa);
  }

  Status check() {
    const size_t count = devices_.size();
    for (const Device& device : devices_)
      if (device.line == 0) return wrong(1, "{} has a column but no row: the text is cut off", device.name);
    // A row of a NIC may end early; its other half is in the columns.
    for (size_t i = 0; i < count; ++i)
      for (size_t j = devices_[i].cells.size(); j < count; ++j) {
        if (j != i && i >= devices_[j].cells.size())
          return wrong(devices_[i].line, "nothing says how {} and {} are connected", devices_[i].name,
                       devices_[j].name);
        devices_[i].cells.push_back(j == i ? Cell{.self = true} : devices_[j].cells[i]);
      }
    for (size_t i = 0; i < count; ++i)
      for (size_t j = 0; j < count; ++j) {
        const Cell &cell = devices_[i].cells[j], &back = devices_[j].cells[i];
        if (cell.self != (i == j))
          return wrong(devices_[i].line, "{} and {}: X stands for a device and itself", devices_[i].name,
                       devices_[j].name);
        if (cell.level != back.level || cell.nvlinks != back.nvlinks)
          return wrong(devices_[i].line, "the matrix contradicts itself: {} to {} is not what {} to {} is",
                       devices_[i].name, devices_[j].name, devices_[j].name, devices_[i].name);
      }
    return {};
  }

  // Would joining the groups of i and j put a pair together that the matrix keeps apart?
  bool may_join(Sets& sets, size_t i, size_t j, int level) const {
    std::vector<size_t> ones, others;
    for (size_t device = 0; device < devices_.size(); ++device) {
      if (sets.find(device) == sets.find(i)) ones.push_back(device);
      if (sets.find(device) == sets.find(j)) others.push_back(device);
    }
    for (const size_t one : ones)
      for (const size_t other : others)
        if (devices_[one].cells[other].level > level) return false;
    return true;
  }

  void find_places() {
    const size_t count = devices_.size();
    groups_.assign(kLevels, Sets(count));
    for (size_t i = 0; i < count; ++i)
      for (size_t j = 0; j < i; ++j)
        for (int level = devices_[i].cells[j].level; level >= 0 && level < kLevels; ++level)
          groups_[static_cast<size_t>(level)].join(i, j);
    Sets& numa = groups_[kLevels - 1];
    std::set<std::pair<size_t, size_t>> apart;  // groups known not to be one
    for (size_t i = 0; i < count; ++i)
      for (size_t j = 0; j < i; ++j)
        if (devices_[i].cells[j].level == kUnknown && !devices_[i].affinity.empty() &&
            devices_[i].affinity == devices_[j].affinity && numa.find(i) != numa.find(j) &&
            !apart.contains({numa.find(i), numa.find(j)})) {
          if (may_join(numa, i, j, kLevels - 1))
            numa.join(i, j);
          else
            apart.emplace(numa.find(i), numa.find(j));
        }
    for (size_t i = 0; i < count; ++i)
      for (size_t j = 0; j < i; ++j) {
        const int level = devices_[i].cells[j].level;
        if (level > 0 &&
            groups_[static_cast<size_t>(level - 1)].find(i) == groups_[static_cast<size_t>(level - 1)].find(j))
          graph_.warn(devices_[i].line, fmt::format("{} and {} are both near a third device, but not near each other",
                                                    devices_[i].name, devices_[j].name));
      }
  }

  void build() {
    graph_.origin = "nvidia-smi topo -m";
    const NodeId host = graph_.add_node({.kind = NodeKind::Host, .number = 0});
    const size_t count = devices_.size();
    std::map<size_t, NodeId> cpus;
    std::map<std::pair<int, size_t>, NodeId> switches;
    std::vector<int32_t> used;
    for (size_t i = 0; i < count; ++i) {
      const size_t group = groups_[3].find(i);
      if (cpus.contains(group)) continue;
      // The first member that says where it is speaks for all: NICs do not.
      Node node{.kind = NodeKind::Cpu, .parent = host};
      for (size_t j = count; j-- > 0;)
        if (groups_[3].find(j) == group && !devices_[j].affinity.empty()) {
          node.number = devices_[j].numa;
          node.cpu.cpus = devices_[j].cpus;
        }
      // Two groups may name one NUMA node (every pair SYS): the second gets a number of its own.
      if (node.number < 0 || std::find(used.begin(), used.end(), node.number) != used.end()) {
        if (node.number >= 0 || node.cpu.cpus.empty())
          node.set_attribute("numa_affinity", node.number >= 0 ? std::to_string(node.number) : "unknown");
        node.number = 0;
        while (std::find(used.begin(), used.end(), node.number) != used.end() || claimed(node.number)) ++node.number;
      }
      used.push_back(node.number);
      // A group that the text places nowhere is no NUMA node of the machine.
      const bool unknown = node.attribute("numa_affinity") == "unknown";
      node.name = fmt::format("{}{}", unknown ? "group" : "NUMA", node.number);
      cpus[group] = graph_.add_node(std::move(node));
    }
    std::vector<NodeId> places;
    int32_t nics = 0;
    for (size_t i = 0; i < count; ++i) {
      NodeId parent = cpus[groups_[3].find(i)];
      const size_t tree = groups_[1].find(i), leaf = groups_[0].find(i);
      const bool deep = parts(1, 0, tree) > 1;
      if (deep) parent = pci_switch(&switches, {1, tree}, parent);
      if (deep || parts(0, -1, leaf) > 1) parent = pci_switch(&switches, {0, leaf}, parent);
      places.push_back(add_device(devices_[i], parent, fmt::format("bridge{}", groups_[2].find(i)), &nics));
    }
    for (const NodeId one : graph_.of_kind(NodeKind::Cpu))
      for (const NodeId other : graph_.of_kind(NodeKind::Cpu))
        if (one < other) join(LinkKind::InterSocket, one, other, {0, inter_socket_gbps({})});
    add_nvlinks(host, places);
  }

  bool claimed(int32_t numa) const {
    return std::any_of(devices_.begin(), devices_.end(), [&](const Device& device) { return device.numa == numa; });
  }

  // Into how many groups of a finer level a group falls (-1: into single devices).
  int parts(int level, int finer, size_t group) {
    int number = 0;
    for (size_t i = 0; i < devices_.size(); ++i)
      if (groups_[static_cast<size_t>(level)].find(i) == group &&
          (finer < 0 || groups_[static_cast<size_t>(finer)].find(i) == i))
        ++number;
    return number;
  }

  NodeId pci_switch(std::map<std::pair<int, size_t>, NodeId>* switches, std::pair<int, size_t> key, NodeId parent) {
    const auto [place, added] = switches->try_emplace(key, kNone);
    if (added) {
      const auto number = static_cast<int32_t>(switches->size()) - 1;
      place->second = graph_.add_node(
          {.kind = NodeKind::PciSwitch, .parent = parent, .number = number, .name = fmt::format("PCI{}", number)});
      join(LinkKind::Pcie, parent, place->second, {0, pcie_gbps("", 0, Source::File)});
    }
    return place->second;
  }

  NodeId add_device(const Device& device, NodeId parent, std::string root, int32_t* nics) {
    Node node{.kind = device.gpu ? NodeKind::Gpu : NodeKind::Nic, .parent = parent};
    node.pci.root = std::move(root);
    node.pci.class_code = device.gpu ? 0x030200 : 0x020000;  // the matrix speaks of PCI devices, without their bus ids
    node.gpu.present = device.gpu;
    node.number = device.gpu ? *numbered(device.name, "GPU") : (*nics)++;
    node.name = fmt::format("{}{}", device.gpu ? "GPU" : "NIC", node.number);
    const NodeId id = graph_.add_node(std::move(node));
    join(LinkKind::Pcie, parent, id, {0, pcie_gbps("", 0, Source::File)});
    if (device.gpu) return id;
    const auto real = legend_.find(device.name);
    const NodeId port = graph_.add_node({.kind = NodeKind::Port,
                                         .parent = id,
                                         .number = graph_.node(id).number,
                                         .name = real == legend_.end() ? device.name : real->second});
    join(LinkKind::Network, id, port, {0, network_gbps(0, Source::File)});
    return id;
  }

  void join(LinkKind kind, NodeId a, NodeId b, Direction way) {
    graph_.add_link(
        {.kind = kind, .a = a, .b = b, .forward = way, .backward = way, .latency_us = link_latency_us(kind)});
  }

  void add_nvlinks(NodeId host, const std::vector<NodeId>& places) {
    const size_t count = devices_.size();
    Sets islands(count);
    for (size_t i = 0; i < count; ++i)
      for (size_t j = 0; j < i; ++j)
        if (devices_[i].cells[j].nvlinks > 0) islands.join(i, j);
    for (size_t island = 0; island < count; ++island) {
      if (islands.find(island) != island) continue;
      std::vector<size_t> members;
      for (size_t i = 0; i < count; ++i)
        if (islands.find(i) == island) members.push_back(i);
      if (members.size() < 2) continue;
      const int links = devices_[members[0]].cells[members[1]].nvlinks;
      bool even = true;
      for (const size_t i : members)
        for (const size_t j : members) even = even && (i == j || devices_[i].cells[j].nvlinks == links);
      const Figure one = nvlink_gbps(-1);
      if (even && static_cast<int64_t>(links) * static_cast<int64_t>(members.size() - 1) > kMostNvLinks) {
        const auto number = static_cast<int32_t>(graph_.of_kind(NodeKind::NvSwitch).size());
        Node node{
            .kind = NodeKind::NvSwitch, .parent = host, .number = number, .name = fmt::format("NVSwitch{}", number)};
        node.nvswitch.hidden = true;
        const NodeId center = graph_.add_node(std::move(node));
        for (const size_t i : members)
          join(LinkKind::NvLink, places[i], center, {links, {one.value * links, one.source}});
        continue;
      }
      for (const size_t i : members)
        for (const size_t j : members)
          if (const int n = devices_[i].cells[j].nvlinks; i < j && n > 0)
            join(LinkKind::NvLink, places[i], places[j], {n, {one.value * n, one.source}});
    }
  }

  std::string_view text_;
  std::string name_;
  std::vector<Device> devices_;
  std::map<std::string, size_t> index_;
  std::map<std::string, std::string> legend_;
  std::vector<Sets> groups_;  // per level
  Graph graph_;
};

}  // namespace

Result<Graph> read_nvidia_smi(std::string_view text, std::string_view name) { return Reader(text, name).read(); }

}  // namespace tutti::topology
