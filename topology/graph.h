// SPDX-License-Identifier: Apache-2.0
// The graph of what is connected to what, and how fast. Readers of files (topology/formats) and of the live machine
// (topology/detect) fill it; paths, drawings, writers and the planner read it. It holds facts and no algorithm.
//
// Nodes form a forest by `parent`: host -> cpu (a NUMA node) -> PCIe switches -> GPU or NIC -> ports. NVSwitches and
// networks have no parent unless the source shows where they sit on PCIe. A PCIe link joins a node to its parent; links
// of all kinds join any two nodes. Each link has two directions that may differ, and each figure says where it comes
// from. A PCIe switch is ONE node, named by its upstream port: downstream ports and root ports are no nodes (a path
// through a switch is one bridge, as NCCL and nvidia-smi count it).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "topology/cpu_set.h"

namespace tutti::topology {

using NodeId = int32_t;  // index into Graph::nodes()
using LinkId = int32_t;  // index into Graph::links()
inline constexpr NodeId kNone = -1;

enum class NodeKind : uint8_t {
  Host,
  Cpu,        // a NUMA node: its cores and its memory
  PciSwitch,  // a PCIe switch or bridge
  PciDevice,  // a PCI function of which the source does not say what it is (templates)
  Gpu,
  Nic,   // a network adapter: one PCI function, or what stands for it
  Port,  // an endpoint of a NIC that a job can use by name (mlx5_0, eth0): a `net` of NCCL, a row of nvidia-smi
  NvSwitch,
  Network,
};
enum class LinkKind : uint8_t { NvLink, C2C, Xgmi, Pcie, InterSocket, Network };
// Between GPUs, directly or through switches.
constexpr bool is_fabric(LinkKind kind) { return kind == LinkKind::NvLink || kind == LinkKind::Xgmi; }

// Where a figure comes from, from the weakest on.
enum class Source : uint8_t {
  None,     // there is no figure
  Assumed,  // the source is silent: a usual value
  Table,    // the product's known figure (topology/figures.h)
  File,     // a topology file says so, or its width and speed multiply to it
  Sysfs,
  Hwloc,
  Verbs,
  Nvml,
  Cuda,
  Measured,
};

struct Figure {
  double value = 0;
  Source source = Source::None;
  bool operator==(const Figure&) const = default;
};

// A PCI function, and the link above it. -1 and "" mean: the source does not say.
struct PciFunction {
  std::string bus_id;       // "0000:3b:00.0", lower case; unique per host
  int32_t class_code = -1;  // 24 bits: 0x030200
  int32_t vendor = -1;
  int32_t device = -1;
  int32_t subsystem_vendor = -1;
  int32_t subsystem_device = -1;
  std::string link_speed;   // as written: "16.0 GT/s PCIe"
  int32_t link_width = -1;  // lanes
  std::string root;         // which host bridge it hangs off ("pci0000:3a"), where that is known
  bool operator==(const PciFunction&) const = default;
};

struct CpuInfo {
  int32_t package = -1;
  CpuSet cpus;
  std::string arch;    // x86_64, arm64, ppc64
  std::string vendor;  // GenuineIntel, AuthenticAMD
  int32_t family = -1;
  int32_t model = -1;
  uint64_t memory_bytes = 0;
  bool operator==(const CpuInfo&) const = default;
};

struct GpuInfo {
  bool present = false;  // the source names a GPU here; false: only a PCI function of that class (templates)
  std::string model;     // "NVIDIA H100 80GB HBM3"
  std::string uuid;
  int32_t sm = -1;    // compute capability x 10; RCCL: number of compute units
  std::string gcn;    // AMD: "908", "gfx942"
  int32_t arch = -1;  // AMD: what RCCL writes beside it
  int32_t rank = -1;  // the rank that computes on it, in a dump of a job
  int32_t gdr = -1;   // 1: GPUDirect RDMA works with it, 0: it does not
  uint64_t memory_bytes = 0;
  bool operator==(const GpuInfo&) const = default;
};

struct PortInfo {
  int32_t port = -1;
  double speed_mbps = -1;  // Mb/s, as the source states it; <= 0: it does not
  double latency_us = -1;
  std::string guid;  // as written: some files hold text here
  int64_t max_connections = -1;
  int32_t gdr = -1;
  int32_t coll = -1;
  bool operator==(const PortInfo&) const = default;
};

struct NvSwitchInfo {
  bool hidden = false;  // only its far end is seen: one node stands for the whole fabric behind the GPUs
  std::string domain;   // of a fabric that several hosts share: cluster UUID and clique, or ""
  bool operator==(const NvSwitchInfo&) const = default;
};

// What the fields above do not cover is kept by name, in order: {"rail", "1"}, {"link_layer", "Ethernet"}.
using Attributes = std::vector<std::pair<std::string, std::string>>;

struct Node {
  NodeKind kind = NodeKind::Host;
  NodeId parent = kNone;
  // The number by which the source calls it: dev of a GPU or net, NUMA id (-1: none), order of a NIC or switch.
  int32_t number = -1;
  std::string name = {};  // "GPU0", "NUMA1", "mlx5_0"; a host's name or hash. Unique among a host's nodes of a kind
  PciFunction pci = {};   // of switches, devices, GPUs, NICs and visible NVSwitches
  CpuInfo cpu = {};       // Kind Cpu only; the same holds for the next ones
  GpuInfo gpu = {};
  PortInfo port = {};
  NvSwitchInfo nvswitch = {};
  Attributes attributes = {};
  bool operator==(const Node&) const = default;

  std::string_view attribute(std::string_view key) const;  // "" when there is none
  void set_attribute(std::string_view key, std::string_view value);
};

// One direction of a link.
struct Direction {
  int32_t lanes = 0;  // NVLinks or xGMI links bonded, PCIe lanes; 0: nobody says
  Figure gbps;        // GB/s (10^9 bytes/s); 0: nothing flows this way
  bool operator==(const Direction&) const = default;
};

struct Link {
  LinkKind kind = LinkKind::Pcie;
  NodeId a = kNone, b = kNone;  // Pcie: a is the parent
  Direction forward = {};       // a -> b
  Direction backward = {};      // b -> a
  Figure latency_us = {};       // one way
  bool operator==(const Link&) const = default;

  NodeId other(NodeId end) const { return end == a ? b : a; }
  const Direction& from(NodeId end) const { return end == a ? forward : backward; }
};

// Nonsense that was found and survived: a width of 0, a target that is not in the file. line is 0 when it has no place.
struct Warning {
  int32_t line = 0;
  std::string text;
};

class Graph {
 public:
  // The parent, if any, is there already.
  NodeId add_node(Node node);
  // Both ends are there already and differ.
  LinkId add_link(Link link);
  void warn(int32_t line, std::string text) { warnings_.push_back({line, std::move(text)}); }

  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Link>& links() const { return links_; }
  const std::vector<Warning>& warnings() const { return warnings_; }
  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  Node& node(NodeId id) { return nodes_[static_cast<size_t>(id)]; }
  const Link& link(LinkId id) const { return links_[static_cast<size_t>(id)]; }
  Link& link(LinkId id) { return links_[static_cast<size_t>(id)]; }  // its ends stay
  NodeId size() const { return static_cast<NodeId>(nodes_.size()); }

  std::span<const NodeId> children(NodeId id) const { return children_[static_cast<size_t>(id)]; }
  std::span<const LinkId> links_of(NodeId id) const { return links_of_[static_cast<size_t>(id)]; }
  std::vector<NodeId> of_kind(NodeKind kind) const;  // in order of the graph
  // The host, or the NUMA node, above a node (itself included); kNone when there is none.
  NodeId host_of(NodeId id) const { return ancestor(id, NodeKind::Host); }
  NodeId cpu_of(NodeId id) const { return ancestor(id, NodeKind::Cpu); }
  NodeId ancestor(NodeId id, NodeKind kind) const;
  // A device of one host by bus id, in any writing of it; kNone.
  NodeId by_bus_id(NodeId host, std::string_view bus_id) const;
  // The link of a kind between two nodes; nothing when there is none.
  std::optional<LinkId> link_between(LinkKind kind, NodeId one, NodeId two) const;
  // The PCIe link above a device, if any.
  std::optional<LinkId> uplink(NodeId id) const;
  // Moves a node below another parent (a template's device that turns out to sit elsewhere). No cycle may arise.
  void move(NodeId id, NodeId parent);

  // Equal machines: nodes and links, whatever their warnings and origin.
  bool operator==(const Graph& other) const { return nodes_ == other.nodes_ && links_ == other.links_; }

  std::string origin;          // "NCCL XML", "nvidia-smi", "this machine", ...
  int32_t system_version = 0;  // of NCCL XML: 1 NCCL, 2 RCCL; 0: not from one

 private:
  std::vector<Node> nodes_;
  std::vector<Link> links_;
  std::vector<std::vector<NodeId>> children_;
  std::vector<std::vector<LinkId>> links_of_;
  std::vector<Warning> warnings_;
};

// Adds the hosts of `from` to `into`: a job's graph out of its hosts' graphs. Nodes without a host are joined when they
// are the same thing (a network of one name, an NVLink domain); links between the hosts' ports and a network come with
// them.
void merge(Graph& into, const Graph& from);

// A bus id in the form this graph uses: lower case, a domain of at least four digits without further leading zeros, a
// function. Other text is only made lower case: fake and hidden devices ("fffffff:ff:ff.0") have ids too.
std::string canonical_bus_id(std::string_view text);

// "Cpu" is "numa" here: names for people and for JSON.
const char* to_string(NodeKind kind);
const char* to_string(LinkKind kind);
const char* to_string(Source source);
std::optional<NodeKind> node_kind_of(std::string_view text);
std::optional<LinkKind> link_kind_of(std::string_view text);
std::optional<Source> source_of(std::string_view text);

}  // namespace tutti::topology
