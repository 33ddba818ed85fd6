// SPDX-License-Identifier: Apache-2.0
// What a terminal shows: the tree, the matrix, one path explained.
#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "topology/draw/draw.h"

namespace tutti::topology {
namespace {

constexpr const char* kBold = "\033[1m";
constexpr const char* kDim = "\033[2m";
constexpr const char* kGreen = "\033[32m";
constexpr const char* kBlue = "\033[34m";
constexpr const char* kYellow = "\033[33m";
constexpr const char* kReset = "\033[0m";

std::string pcie_text(const Graph& graph, NodeId id) {
  const auto up = graph.uplink(id);
  if (!up) return "";
  const Direction& way = graph.link(*up).forward;
  const PciFunction& pci = graph.node(id).pci;
  std::string text = "PCIe ";
  if (!pci.link_speed.empty()) text += pci.link_speed.substr(0, pci.link_speed.find(" PCIe")) + " ";
  if (pci.link_width > 0) text += fmt::format("x{} ", pci.link_width);
  text += gbps_text(way.gbps.value);
  if (way.gbps.source == Source::Assumed) text += " (assumed)";
  return text;
}

std::string port_text(const Node& node) {
  std::string text = node.name.empty() ? "port" : node.name;
  if (node.port.speed_mbps > 0) text += fmt::format(" {:g} Gb/s", node.port.speed_mbps / 1000);
  if (const auto layer = node.attribute("link_layer"); !layer.empty()) text += fmt::format(" {}", layer);
  if (const auto state = node.attribute("state"); !state.empty()) text += fmt::format(" {}", state);
  return text;
}

class Tree {
 public:
  Tree(const Graph& graph, const Paths& paths, bool colour) : graph_(graph), paths_(paths), colour_(colour) {}

  std::string draw() {
    for (const NodeId host : graph_.of_kind(NodeKind::Host)) {
      out_ += paint(kBold, display_name(graph_, host)) + host_text(host) + "\n";
      branches(host, "");
      out_ += fabric_text(host);
    }
    for (const NodeId id : graph_.of_kind(NodeKind::NvSwitch))
      if (graph_.node(id).parent == kNone)
        out_ += fmt::format("{}: {} GPUs of {} hosts\n", paint(kGreen, graph_.node(id).name),
                            graph_.links_of(id).size(), hosts_at(id));
    for (const NodeId id : graph_.of_kind(NodeKind::Network))
      out_ += fmt::format("{}: {} ports of {} hosts\n", paint(kBlue, graph_.node(id).name), graph_.links_of(id).size(),
                          hosts_at(id));
    for (const Warning& warning : graph_.warnings())
      out_ += fmt::format("{} {}{}\n", paint(kYellow, "warning:"),
                          warning.line > 0 ? fmt::format("line {}: ", warning.line) : "", warning.text);
    return std::move(out_);
  }

 private:
  std::string paint(const char* colour, const std::string& text) const {
    return colour_ ? colour + text + kReset : text;
  }

  size_t hosts_at(NodeId id) const {
    std::vector<NodeId> hosts;
    for (const LinkId link : graph_.links_of(id)) hosts.push_back(graph_.host_of(graph_.link(link).other(id)));
    std::sort(hosts.begin(), hosts.end());
    return static_cast<size_t>(std::unique(hosts.begin(), hosts.end()) - hosts.begin());
  }

  std::string host_text(NodeId host) const {
    size_t gpus = 0, nics = 0;
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (graph_.host_of(id) != host) continue;
      gpus += graph_.node(id).kind == NodeKind::Gpu;
      nics += graph_.node(id).kind == NodeKind::Nic;
    }
    std::string text = fmt::format("  {} GPU{}, {} NIC{}", gpus, gpus == 1 ? "" : "s", nics, nics == 1 ? "" : "s");
    if (!graph_.origin.empty()) text += fmt::format("  (from {})", graph_.origin);
    return text;
  }

  void branches(NodeId id, const std::string& indent) {
    std::vector<NodeId> shown;
    for (const NodeId child : graph_.children(id))
      if (graph_.node(child).kind != NodeKind::NvSwitch || graph_.node(id).kind != NodeKind::Host)
        if (graph_.node(child).kind != NodeKind::Port) shown.push_back(child);
    for (size_t i = 0; i < shown.size(); ++i) {
      const bool last = i + 1 == shown.size();
      out_ += indent + (last ? "└─ " : "├─ ") + node_text(shown[i]) + "\n";
      branches(shown[i], indent + (last ? "   " : "│  "));
    }
  }

  std::string node_text(NodeId id) const {
    const Node& node = graph_.node(id);
    std::string text;
    switch (node.kind) {
      case NodeKind::Cpu: {
        text = paint(kBold, node.name);
        if (!node.cpu.cpus.empty()) text += "  CPUs " + node.cpu.cpus.list();
        const std::string cpu =
            fmt::format("{}{}{}", node.cpu.vendor, node.cpu.vendor.empty() ? "" : " ", node.cpu.arch);
        if (!cpu.empty()) text += "  " + paint(kDim, cpu);
        if (node.cpu.memory_bytes > 0)
          text += fmt::format("  {:.0f} GiB", static_cast<double>(node.cpu.memory_bytes >> 20) / 1024);
        return text;
      }
      case NodeKind::Gpu:
        text = paint(kGreen, node.name);
        if (!node.gpu.model.empty()) text += " " + node.gpu.model;
        if (node.gpu.sm > 0 && node.gpu.gcn.empty()) text += fmt::format(" sm_{}", node.gpu.sm);
        if (!node.gpu.gcn.empty()) text += " gcn " + node.gpu.gcn;
        if (!node.gpu.present) text += " (a place for one)";
        break;
      case NodeKind::Nic:
        text = paint(kBlue, node.name);
        break;
      case NodeKind::NvSwitch:
        text = paint(kGreen, node.name);
        break;
      default:
        text = node.name;
        break;
    }
    if (!node.pci.bus_id.empty()) text += "  " + paint(kDim, node.pci.bus_id);
    if (const std::string pcie = pcie_text(graph_, id); !pcie.empty()) text += "  " + pcie;
    std::string ports;
    for (const NodeId child : graph_.children(id))
      if (graph_.node(child).kind == NodeKind::Port)
        ports += fmt::format("{}{}", ports.empty() ? "  ports: " : ", ", port_text(graph_.node(child)));
    text += ports;
    if (node.kind == NodeKind::Gpu) text += nearest(id);
    return text;
  }

  std::string nearest(NodeId gpu) const {
    const auto nics = paths_.nearest_nics(gpu);
    if (nics.empty()) return "";
    std::string text = "  nearest ";
    for (size_t i = 0; i < nics.size() && i < 4; ++i)
      text += fmt::format("{}{}", i == 0 ? "" : " ", graph_.node(nics[i]).name);
    if (nics.size() > 4) text += fmt::format(" and {} more", nics.size() - 4);
    return text + fmt::format(" ({})", to_string(paths_.direct(gpu, nics[0]).type));
  }

  // Links that are no branches, a line per GPU: what it reaches by NVLink, xGMI or C2C.
  std::string fabric_text(NodeId host) const {
    std::string text;
    for (const NodeId gpu : graph_.of_kind(NodeKind::Gpu)) {
      if (graph_.host_of(gpu) != host) continue;
      std::string line;
      for (const LinkId id : graph_.links_of(gpu)) {
        const Link& link = graph_.link(id);
        if (link.kind != LinkKind::NvLink && link.kind != LinkKind::Xgmi && link.kind != LinkKind::C2C) continue;
        const Direction& way = link.from(gpu);
        line += fmt::format("{}{}{} {}", line.empty() ? "" : ", ", graph_.node(link.other(gpu)).name,
                            way.lanes > 0 ? fmt::format(" x{}", way.lanes) : "", gbps_text(way.gbps.value));
        if (link.kind == LinkKind::C2C) line += " (C2C)";
      }
      if (!line.empty()) text += fmt::format("   {} -> {}\n", paint(kGreen, graph_.node(gpu).name), line);
    }
    if (text.empty()) return "";
    return paint(kBold, "   links between GPUs (GB/s per direction)") + "\n" + text;
  }

  const Graph& graph_;
  const Paths& paths_;
  bool colour_;
  std::string out_;
};

}  // namespace

std::string draw_tree(const Graph& graph, const Paths& paths, bool colour) { return Tree(graph, paths, colour).draw(); }

std::string draw_matrix(const Graph& graph, const Paths& paths) {
  std::string out;
  for (const NodeId id : paths.endpoints()) out += "\t" + display_name(graph, id);
  out += "\tCPU Affinity\tNUMA Affinity\n";
  bool xgmi = false, nodes = false, net = false;
  for (const NodeId from : paths.endpoints()) {
    out += display_name(graph, from);
    for (const NodeId to : paths.endpoints()) {
      const std::string cell = matrix_cell(graph, paths, from, to);
      xgmi |= cell.starts_with("XG");
      nodes |= cell == "NODE";
      net |= cell == "NET";
      out += fmt::format("\t{}", cell == "X" ? " X " : cell);
    }
    const NodeId cpu = graph.cpu_of(from);
    if (graph.node(from).kind == NodeKind::Gpu && cpu != kNone) {
      const std::string_view stated = graph.node(cpu).attribute("numa_affinity");
      out += fmt::format("\t{}\t{}", graph.node(cpu).cpu.cpus.list(),
                         stated.empty()        ? std::to_string(graph.node(cpu).number)
                         : stated == "unknown" ? "N/A"
                                               : std::string(stated));
    }
    out += "\n";
  }
  out += "\nLegend:\n\n  X    = Self\n";
  if (net) out += "  NET  = Connection over the network to another host\n";
  out += "  SYS  = Connection traversing PCIe as well as the interconnect between NUMA nodes\n";
  if (nodes) out += "  NODE = Connection traversing PCIe and several host bridges of one NUMA node\n";
  out += fmt::format("  PHB  = Connection traversing PCIe as well as a host bridge or the CPU{}\n",
                     nodes ? "" : " (nvidia-smi: PHB or NODE)");
  out +=
      "  PXB  = Connection traversing several PCIe switches, but no host bridge\n"
      "  PIX  = Connection traversing at most one PCIe switch\n"
      "  NV#  = Connection traversing # bonded NVLinks, per direction\n";
  if (xgmi) out += "  XG#  = Connection traversing # bonded xGMI links\n";
  if (!paths.nics().empty()) {
    out += "\nNIC Legend:\n\n";
    for (const NodeId nic : paths.nics()) {
      std::string ports;
      for (const NodeId child : graph.children(nic))
        if (graph.node(child).kind == NodeKind::Port) ports += (ports.empty() ? "" : ",") + graph.node(child).name;
      if (ports.empty()) ports = graph.node(nic).pci.bus_id;
      out += fmt::format("  {}: {}\n", display_name(graph, nic), ports);
    }
  }
  return out;
}

std::string explain_path(const Graph& graph, const Paths& paths, NodeId from, NodeId to) {
  const Path& path = paths.best(from, to);
  const std::string one = display_name(graph, from), other = display_name(graph, to);
  if (from == to) return fmt::format("{} is {} itself\n", one, other);
  if (path.type == PathClass::Dis)
    return fmt::format("{} to {}: no path is known; the source shows nothing that joins them\n", one, other);
  std::string out = fmt::format("{} to {}: {}, {}, {:.2f} us, {} hop{}\n", one, other, to_string(path.type),
                                gbps_text(path.gbps), path.latency_us, path.hops, path.hops == 1 ? "" : "s");
  const std::vector<Hop> route = paths.route(from, to);
  const size_t narrow = paths.bottleneck(route);
  for (size_t i = 0; i < route.size(); ++i) {
    const Link& link = graph.link(route[i].link);
    const Direction& way = link.from(route[i].from);
    const std::string ends =
        fmt::format("{} -> {}", display_name(graph, route[i].from), display_name(graph, route[i].to));
    std::string kind = to_string(link.kind);
    if (link.kind == LinkKind::Pcie) {
      const PciFunction& pci = graph.node(link.b).pci;
      if (!pci.link_speed.empty()) kind += " " + pci.link_speed.substr(0, pci.link_speed.find(" PCIe"));
      if (pci.link_width > 0) kind += fmt::format(" x{}", pci.link_width);
    } else if (way.lanes > 0) {
      kind += fmt::format(" x{}", way.lanes);
    }
    out += fmt::format("  {}  {:<24} {:<22} {:>11}  {}{}\n", i + 1, ends, kind, gbps_text(way.gbps.value),
                       to_string(way.gbps.source), i == narrow && route.size() > 1 ? "   <- bottleneck" : "");
  }
  if (path.ways > 1)
    out += fmt::format("  {} such ways side by side through NVSwitches: {} links, {} together\n", path.ways,
                       path.nvlinks, gbps_text(path.gbps));
  if (path.relay != kNone) {
    const Path& direct = paths.direct(from, to);
    out += fmt::format("  over {}; without a GPU in between: {}, {}\n", display_name(graph, path.relay),
                       to_string(direct.type), gbps_text(direct.gbps));
  }
  for (const NodeId end : {from, to}) {
    const Node& node = graph.node(end);
    if (node.kind == NodeKind::Nic) {
      std::string ports;
      for (const NodeId child : graph.children(end))
        if (graph.node(child).kind == NodeKind::Port)
          ports += fmt::format("{}{}", ports.empty() ? "" : ", ", port_text(graph.node(child)));
      if (!ports.empty()) out += fmt::format("  ports of {}: {}\n", display_name(graph, end), ports);
    } else {
      const auto nearest = paths.nearest_nics(end);
      const NodeId cpu = graph.cpu_of(end);
      if (cpu != kNone)
        out += fmt::format("  {} is near {}{}", display_name(graph, end), graph.node(cpu).name,
                           graph.node(cpu).cpu.cpus.empty() ? "" : ", CPUs " + graph.node(cpu).cpu.cpus.list());
      for (size_t i = 0; i < nearest.size() && i < 4; ++i)
        out += fmt::format("{}{}", i == 0 ? "; nearest NIC " : ", ", display_name(graph, nearest[i]));
      if (nearest.size() > 4) out += fmt::format(" and {} more", nearest.size() - 4);
      if (cpu != kNone || !nearest.empty()) out += "\n";
    }
  }
  return out;
}

}  // namespace tutti::topology
