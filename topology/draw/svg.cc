// SPDX-License-Identifier: Apache-2.0
// The picture: per host a panel in levels. From top to bottom: what joins the NUMA nodes, NUMA nodes, PCIe switches by
// depth, devices, NVSwitches (or arcs between GPUs that are linked directly). Each device has a column of its own and a
// switch sits over its columns, so boxes and PCIe lines cannot cross. What hosts share (an NVLink domain, a network) is
// repeated in each panel instead of drawing lines across panels. Below, a row per way over the devices (rings, trees).
// Also Graphviz's text, for who wants another layout.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "topology/draw/draw.h"

namespace tutti::topology {
namespace {

constexpr double kColumn = 92, kLeafWidth = 80, kLeafHeight = 60;
constexpr double kSwitchWidth = 74, kSwitchHeight = 28, kCpuHeight = 46;
constexpr double kGap = 36;  // between levels: room for a line and its speed
constexpr double kPad = 22, kTitle = 40;
constexpr double kMostRowWidth = 2600;  // panels of several hosts wrap beyond
constexpr double kWayHeight = 60;
constexpr size_t kGroup = 3;  // so many equal NICs below one switch become one box

constexpr const char* kPcieColour = "#7a8794";
constexpr const char* kNvlinkColour = "#5c9e17";
constexpr const char* kXgmiColour = "#d9541e";
constexpr const char* kC2cColour = "#8e44ad";
constexpr const char* kSocketColour = "#34495e";
constexpr const char* kNetworkColour = "#2874c7";

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) < ' ')
      out += ' ';
    else
      out += c;
  }
  return out;
}

// Cut to so many characters, with an ellipsis; never inside a UTF-8 sequence.
std::string cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  size_t end = most - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

// Line width by bandwidth: doubling the bandwidth adds the same.
double stroke(double gbps) { return std::clamp(1 + std::log2(1 + gbps / 8), 1.0, 7.0); }

const char* colour_of(LinkKind kind) {
  switch (kind) {
    case LinkKind::NvLink:
      return kNvlinkColour;
    case LinkKind::Xgmi:
      return kXgmiColour;
    case LinkKind::C2C:
      return kC2cColour;
    case LinkKind::Pcie:
      return kPcieColour;
    case LinkKind::InterSocket:
      return kSocketColour;
    case LinkKind::Network:
      return kNetworkColour;
  }
  return kPcieColour;
}

// Lines below boxes, text above both.
struct Layers {
  std::string lines, boxes, texts;

  void line(double x1, double y1, double x2, double y2, const char* colour, double width, double opacity = 1) {
    lines += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"{:.1f}\"{}/>\n", x1,
        y1, x2, y2, colour, width, opacity < 1 ? fmt::format(" stroke-opacity=\"{:.2f}\"", opacity) : "");
  }
  void path(const std::string& d, const char* colour, double width, double opacity = 1) {
    lines +=
        fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{:.1f}\" stroke-opacity=\"{:.2f}\"/>\n",
                    d, colour, width, opacity);
  }
  void box(double x, double y, double width, double height, const char* fill, const char* border, double corner = 6,
           bool dashed = false) {
    boxes += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{}\" fill=\"{}\" stroke=\"{}\" "
        "stroke-width=\"1.4\"{}/>\n",
        x, y, width, height, corner, fill, border, dashed ? " stroke-dasharray=\"5 3\"" : "");
  }
  void text(double x, double y, double size, std::string_view words, const char* colour = "#1f2933",
            const char* anchor = "middle", bool bold = false) {
    texts +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:.1f}\" fill=\"{}\" text-anchor=\"{}\"{}>{}</text>\n",
                    x, y, size, colour, anchor, bold ? " font-weight=\"bold\"" : "", escaped(words));
  }
  // A text on a line: on a white patch, so that the line does not cross it out.
  void label(double x, double y, std::string_view words, const char* colour) {
    const double width = 5.4 * static_cast<double>(words.size()) + 4;
    texts += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"10.5\" fill=\"#ffffff\" fill-opacity=\"0.92\"/>\n",
        x - width / 2, y - 8.5, width);
    text(x, y, 9, words, colour);
  }
  std::string joined() const { return lines + boxes + texts; }
};

std::string speed_text(double gbps) {
  return gbps >= 100 ? fmt::format("{:.0f} GB/s", gbps) : fmt::format("{:.2g} GB/s", gbps);
}

class Panel {
 public:
  Panel(const Graph& graph, NodeId host, const std::vector<Way>& ways, std::set<LinkKind>* used)
      : graph_(graph), host_(host), ways_(ways), used_(used) {}

  void draw() {
    measure();
    place();
    draw_cpus();
    draw_tree();
    draw_fabric();
    for (size_t row = 0; row < ways_.size(); ++row) draw_way(row);
    draw_title();
  }

  double width() const { return width_; }
  double height() const { return height_; }
  std::string body() const { return layers_.joined(); }

 private:
  // A leaf of the picture: a device, or several NICs in one box.
  struct Leaf {
    std::vector<NodeId> nodes;
    double x = 0;  // centre
  };
  struct Box {
    double x = 0, y = 0, width = 0, height = 0;  // x is the centre, y the top
  };

  bool is_leaf(NodeId id) const {
    const NodeKind kind = graph_.node(id).kind;
    return kind == NodeKind::Gpu || kind == NodeKind::Nic || kind == NodeKind::PciDevice;
  }

  // NVSwitches have a row of their own, and what leads to them alone is management: not drawn.
  bool leads_to_device(NodeId id) const {
    if (is_leaf(id)) return true;
    if (graph_.node(id).kind != NodeKind::PciSwitch) return false;
    return std::any_of(graph_.children(id).begin(), graph_.children(id).end(),
                       [&](NodeId child) { return leads_to_device(child); });
  }

  std::vector<NodeId> branches(NodeId id) const {
    std::vector<NodeId> found;
    for (const NodeId child : graph_.children(id))
      if (leads_to_device(child)) found.push_back(child);
    return found;
  }

  bool alike(NodeId one, NodeId other) const {
    const auto a = graph_.uplink(one), b = graph_.uplink(other);
    return graph_.node(one).kind == graph_.node(other).kind && graph_.node(one).kind != NodeKind::Gpu && a && b &&
           graph_.link(*a).forward.gbps.value == graph_.link(*b).forward.gbps.value && branches(one).empty() &&
           branches(other).empty();
  }

  // Columns and levels.
  void measure() {
    cpus_.clear();
    for (const NodeId child : graph_.children(host_))
      if (graph_.node(child).kind == NodeKind::Cpu) cpus_.push_back(child);
    double x = kPad;
    for (const NodeId cpu : cpus_) {
      const double from = x;
      columns(cpu, 0, &x);
      const double least = 150;
      if (x - from < least) {
        const double shift = (least - (x - from)) / 2;
        for (Leaf& leaf : leaves_)
          if (leaf.x > from) leaf.x += shift;
        x = from + least;
      }
      spans_[cpu] = {from, x};
      x += 16;
    }
    width_ = x - 16 + kPad;
    width_ = std::max(width_, 340.0);
    for (const NodeId id : graph_.of_kind(NodeKind::NvSwitch))
      if (reaches_here(id)) nv_switches_.push_back(id);
    width_ = std::max(width_, 2 * kPad + static_cast<double>(nv_switches_.size()) * 90);
  }

  bool reaches_here(NodeId nv_switch) const {
    return std::any_of(graph_.links_of(nv_switch).begin(), graph_.links_of(nv_switch).end(), [&](LinkId id) {
      return is_fabric(graph_.link(id).kind) && graph_.host_of(graph_.link(id).other(nv_switch)) == host_;
    });
  }

  void columns(NodeId id, int level, double* x) {
    const std::vector<NodeId> below = branches(id);
    for (size_t i = 0; i < below.size(); ++i) {
      const NodeId child = below[i];
      if (!is_leaf(child) || !branches(child).empty()) {
        levels_ = std::max(levels_, level + 1);
        columns(child, level + 1, x);
        continue;
      }
      size_t end = i + 1;
      while (end < below.size() && is_leaf(below[end]) && alike(child, below[end])) ++end;
      const size_t count = end - i >= kGroup ? end - i : 1;
      Leaf leaf;
      leaf.nodes.assign(below.begin() + static_cast<ptrdiff_t>(i), below.begin() + static_cast<ptrdiff_t>(i + count));
      leaf.x = *x + kColumn / 2;
      for (const NodeId node : leaf.nodes) leaf_of_[node] = leaves_.size();
      leaves_.push_back(std::move(leaf));
      *x += kColumn;
      i += count - 1;
    }
  }

  // The columns below a node: centre of the first and of the last.
  std::pair<double, double> reach(NodeId id) const {
    const auto found = leaf_of_.find(id);
    if (found != leaf_of_.end()) return {leaves_[found->second].x, leaves_[found->second].x};
    std::pair<double, double> sum{1e30, -1e30};
    for (const NodeId child : branches(id)) {
      const auto [from, to] = reach(child);
      sum = {std::min(sum.first, from), std::max(sum.second, to)};
    }
    return sum;
  }

  void place() {
    const bool joined = cpus_.size() > 1;
    cpu_y_ = kTitle + 12 + (joined ? 40 : 0);
    level_y_ = cpu_y_ + kCpuHeight + kGap;
    leaf_y_ = level_y_ + levels_ * (kSwitchHeight + kGap);
    if (leaves_.empty()) leaf_y_ = cpu_y_ + kCpuHeight - kLeafHeight;
    const double bottom = leaf_y_ + kLeafHeight;
    ways_y_ = bottom + kPad + fabric_height();
    height_ = ways_y_ + kWayHeight * static_cast<double>(ways_.size());
  }

  double switch_y(int level) const { return level_y_ + (level - 1) * (kSwitchHeight + kGap); }

  void draw_cpus() {
    for (const NodeId cpu : cpus_) {
      const Node& node = graph_.node(cpu);
      const auto [from, to] = spans_[cpu];
      boxes_[cpu] = {(from + to) / 2, cpu_y_, to - from, kCpuHeight};
      layers_.box(from, cpu_y_, to - from, kCpuHeight, "#e8edf3", kSocketColour);
      layers_.text((from + to) / 2, cpu_y_ + 18, 13, node.number < 0 ? "CPU" : node.name, "#1f2933", "middle", true);
      std::string detail = node.cpu.cpus.empty() ? "" : "CPUs " + node.cpu.cpus.list();
      const std::string& maker = node.cpu.vendor.empty() ? node.cpu.arch : node.cpu.vendor;
      if (!maker.empty()) detail += (detail.empty() ? "" : "  ") + maker;
      layers_.text((from + to) / 2, cpu_y_ + 34, 9.5, cut(detail, static_cast<size_t>((to - from) / 5.4)), "#52606d");
    }
    if (cpus_.size() < 2) return;
    double least = 1e30, most = 0;
    for (const Link& link : graph_.links()) {
      if (link.kind != LinkKind::InterSocket || graph_.host_of(link.a) != host_) continue;
      least = std::min(least, link.forward.gbps.value);
      most = std::max(most, link.forward.gbps.value);
    }
    if (most == 0) return;
    used_->insert(LinkKind::InterSocket);
    const double y = cpu_y_ - 24, first = boxes_[cpus_.front()].x, last = boxes_[cpus_.back()].x;
    for (const NodeId cpu : cpus_) layers_.line(boxes_[cpu].x, y, boxes_[cpu].x, cpu_y_, kSocketColour, stroke(most));
    layers_.line(first - stroke(most) / 2, y, last + stroke(most) / 2, y, kSocketColour, stroke(most));
    const std::string speed = least == most ? speed_text(most) : fmt::format("{:.3g} to {}", least, speed_text(most));
    layers_.text((first + last) / 2, y - 7, 10, fmt::format("between NUMA nodes {}", speed), kSocketColour);
  }

  void draw_tree() {
    for (const NodeId cpu : cpus_) draw_below(cpu, 0);
  }

  // Lines from a node down to all that hang off it: one trunk, a bar, a drop to each.
  void draw_below(NodeId id, int level) {
    std::set<size_t> drawn;
    const Box from = boxes_[id];
    const double bar = from.y + from.height + 11;
    double least = 1e30, most = -1e30, widest = 0;
    const bool from_cpu = graph_.node(id).kind == NodeKind::Cpu;
    for (const NodeId child : branches(id)) {
      const auto found = leaf_of_.find(child);
      Box box;
      if (found != leaf_of_.end()) {
        if (!drawn.insert(found->second).second) continue;
        box = {leaves_[found->second].x, leaf_y_, kLeafWidth, kLeafHeight};
        draw_leaf(leaves_[found->second], box);
        for (const NodeId node : leaves_[found->second].nodes) boxes_[node] = box;
      } else {
        const auto [first, last] = reach(child);
        box = {(first + last) / 2, switch_y(level + 1), kSwitchWidth, kSwitchHeight};
        boxes_[child] = box;
        draw_switch(child, box);
      }
      const auto up = graph_.uplink(child);
      const double gbps = up ? graph_.link(*up).forward.gbps.value : 0;
      used_->insert(LinkKind::Pcie);
      // A NUMA node is as wide as what hangs off it: straight lines. A switch is narrow: a bar spreads.
      layers_.line(box.x, from_cpu ? from.y + from.height : bar, box.x, box.y, kPcieColour, stroke(gbps));
      layers_.label(
          box.x, box.y - 5,
          up && graph_.link(*up).forward.gbps.source == Source::Assumed ? "~" + speed_text(gbps) : speed_text(gbps),
          "#52606d");
      least = std::min(least, box.x);
      most = std::max(most, box.x);
      widest = std::max(widest, stroke(gbps));
      if (found == leaf_of_.end()) draw_below(child, level + 1);
    }
    if (from_cpu || least > most) return;
    layers_.line(from.x, from.y + from.height, from.x, bar + widest / 2, kPcieColour, widest);
    if (most > least)
      layers_.line(std::min(least, from.x) - widest / 2, bar, std::max(most, from.x) + widest / 2, bar, kPcieColour,
                   widest);
  }

  void draw_switch(NodeId id, const Box& box) {
    const Node& node = graph_.node(id);
    layers_.box(box.x - box.width / 2, box.y, box.width, box.height, "#f7f3e8", "#a8842c", 4);
    layers_.text(box.x, box.y + (node.pci.bus_id.empty() ? 18 : 12), 10, node.name, "#6b5310", "middle", true);
    if (!node.pci.bus_id.empty()) layers_.text(box.x, box.y + 23, 8.5, cut(node.pci.bus_id, 14), "#6b5310");
  }

  void draw_leaf(const Leaf& leaf, const Box& box) {
    const Node& node = graph_.node(leaf.nodes[0]);
    std::string title = node.name, lines[3];
    const char *fill = "#eef7e3", *border = kNvlinkColour;
    if (leaf.nodes.size() > 1) {
      const std::string& last = graph_.node(leaf.nodes.back()).name;
      title = fmt::format("{}…{}", node.name, last.substr(last.find_first_of("0123456789")));
      lines[0] = fmt::format("{} {}", leaf.nodes.size(), node.kind == NodeKind::Nic ? "adapters" : "devices");
    }
    switch (node.kind) {
      case NodeKind::Gpu:
        lines[0] = node.pci.bus_id;
        if (!node.gpu.gcn.empty())
          lines[1] = node.gpu.gcn.starts_with("gfx") ? node.gpu.gcn : "gcn " + node.gpu.gcn;
        else if (node.gpu.sm > 0)
          lines[1] = fmt::format("sm {}", node.gpu.sm);
        if (!node.gpu.model.empty()) lines[1] = node.gpu.model;
        for (const char* maker : {"NVIDIA ", "Tesla ", "AMD "})
          if (lines[1].starts_with(maker)) lines[1].erase(0, std::string_view(maker).size());
        if (!node.gpu.present) lines[1] = "to be found";
        break;
      case NodeKind::Nic: {
        fill = "#e6f0fb";
        border = kNetworkColour;
        std::vector<const Node*> ports;
        for (const NodeId nic : leaf.nodes)
          for (const NodeId child : graph_.children(nic))
            if (graph_.node(child).kind == NodeKind::Port) ports.push_back(&graph_.node(child));
        const size_t at = leaf.nodes.size() > 1 ? 1 : 0;
        if (leaf.nodes.size() == 1) lines[2] = node.pci.bus_id;
        if (!ports.empty()) {
          lines[at] = ports.size() == 1 ? ports[0]->name
                                        : fmt::format("{}{}", ports[0]->name, fmt::format(" +{}", ports.size() - 1));
          const bool same = std::all_of(ports.begin(), ports.end(), [&](const Node* port) {
            return port->port.speed_mbps == ports[0]->port.speed_mbps;
          });
          if (ports[0]->port.speed_mbps > 0)
            lines[at + 1] =
                fmt::format("{}{:g} Gb/s", ports.size() > 1 && same ? fmt::format("{} x ", ports.size()) : "",
                            ports[0]->port.speed_mbps / 1000);
        }
        break;
      }
      default:
        fill = "#f0f0f0";
        border = "#7a8794";
        if (leaf.nodes.size() == 1) lines[0] = node.pci.bus_id;
        lines[1] = "unknown";
        break;
    }
    layers_.box(box.x - box.width / 2, box.y, box.width, box.height, fill, border, 6,
                !node.gpu.present && node.kind == NodeKind::Gpu);
    layers_.text(box.x, box.y + 17, 12, cut(title, 13), "#1f2933", "middle", true);
    double y = box.y + 31;
    for (const std::string& line : lines) {
      if (line.empty()) continue;
      layers_.text(box.x, y, 8.5, cut(line, 15), "#3e4c59");
      y += 11;
    }
  }

  // --- NVLink, xGMI, C2C ---

  struct Arc {
    NodeId a, b;
    const Link* link;
  };

  // Links of GPUs of this host to each other.
  std::vector<Arc> arcs() const {
    std::vector<Arc> found;
    for (const Link& link : graph_.links())
      if (is_fabric(link.kind) && leaf_of_.contains(link.a) && leaf_of_.contains(link.b))
        found.push_back({link.a, link.b, &link});
    return found;
  }

  double arc_depth(const Arc& arc) const {
    const double distance = std::fabs(leaves_[leaf_of_.at(arc.a)].x - leaves_[leaf_of_.at(arc.b)].x);
    return 26 + distance * 0.16;
  }

  double fabric_height() const {
    double height = 0;
    for (const Arc& arc : arcs()) height = std::max(height, arc_depth(arc) * 0.75 + 6);
    if (!nv_switches_.empty()) height += nv_switches_.size() == 1 ? 70 : 134 + (trunks() ? 46 : 0);
    return height;
  }

  bool trunks() const {
    return std::any_of(graph_.links().begin(), graph_.links().end(), [&](const Link& link) {
      return is_fabric(link.kind) && graph_.node(link.a).kind == NodeKind::NvSwitch &&
             graph_.node(link.b).kind == NodeKind::NvSwitch;
    });
  }

  void draw_fabric() {
    const double bottom = leaf_y_ + kLeafHeight;
    for (const Link& link : graph_.links()) {  // GPU to CPU: C2C, and POWER's NVLink
      if (link.kind != LinkKind::C2C && !is_fabric(link.kind)) continue;
      const NodeId gpu = graph_.node(link.a).kind == NodeKind::Gpu ? link.a : link.b;
      const NodeId cpu = link.other(gpu);
      if (graph_.node(cpu).kind != NodeKind::Cpu || !leaf_of_.contains(gpu) || !boxes_.contains(cpu)) continue;
      const Box &from = boxes_[cpu], &to = boxes_[gpu];
      const double x = std::clamp(to.x + kLeafWidth / 2 - 6, from.x - from.width / 2 + 4, from.x + from.width / 2 - 4);
      layers_.line(x, from.y + from.height, x, to.y + 2, colour_of(link.kind), stroke(link.from(cpu).gbps.value));
      layers_.label(x, from.y + from.height + 14, speed_text(link.from(cpu).gbps.value), colour_of(link.kind));
      used_->insert(link.kind);
    }
    const std::vector<Arc> direct = arcs();
    for (const Arc& arc : direct) {
      double x1 = leaves_[leaf_of_.at(arc.a)].x, x2 = leaves_[leaf_of_.at(arc.b)].x;
      if (x1 > x2) std::swap(x1, x2);
      // Ends fan out below the box: far partners leave nearer to its middle, so that arcs nest instead of crossing.
      const double reach = std::min(30.0, 30 * kColumn / std::max(x2 - x1, 1.0));
      x1 += reach;
      x2 -= reach;
      const double depth = arc_depth(arc);
      const double gbps = std::max(arc.link->forward.gbps.value, arc.link->backward.gbps.value);
      layers_.path(fmt::format("M{:.1f},{:.1f} C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}", x1, bottom, x1,
                               bottom + depth, x2, bottom + depth, x2, bottom),
                   colour_of(arc.link->kind), stroke(gbps) * 0.7, direct.size() > 12 ? 0.55 : 0.85);
      used_->insert(arc.link->kind);
      const int32_t lanes = std::max(arc.link->forward.lanes, arc.link->backward.lanes);
      if (direct.size() <= 16 && lanes > 0)
        layers_.label((x1 + x2) / 2, bottom + depth * 0.75 + 3, fmt::format("x{}", lanes), colour_of(arc.link->kind));
    }
    if (!nv_switches_.empty()) draw_nv_switches(bottom);
  }

  void draw_nv_switches(double bottom) {
    used_->insert(LinkKind::NvLink);
    double arc_room = 0;
    for (const Arc& arc : arcs()) arc_room = std::max(arc_room, arc_depth(arc) * 0.75 + 6);
    if (nv_switches_.size() == 1) {  // one switch, or one that stands for all: a bar below the GPUs
      const NodeId id = nv_switches_[0];
      const Node& node = graph_.node(id);
      const double y = bottom + arc_room + 38;
      double first = 1e30, last = -1e30;
      for (const LinkId link_id : graph_.links_of(id)) {
        const Link& link = graph_.link(link_id);
        const auto gpu = leaf_of_.find(link.other(id));
        if (gpu == leaf_of_.end() || !is_fabric(link.kind)) continue;
        const double x = leaves_[gpu->second].x;
        const Direction& way = link.from(link.other(id));
        first = std::min(first, x);
        last = std::max(last, x);
        layers_.line(x, bottom, x, y, kNvlinkColour, stroke(way.gbps.value), 0.85);
        layers_.label(x, y - 12,
                      fmt::format("{}{:.4g}", way.lanes > 0 ? fmt::format("x{}  ", way.lanes) : "", way.gbps.value),
                      kNvlinkColour);
      }
      const double left = std::min(first - kLeafWidth / 2, (first + last) / 2 - 58);
      const double right = std::max(last + kLeafWidth / 2, (first + last) / 2 + 58);
      layers_.box(left, y, right - left, 30, "#dcefc4", kNvlinkColour);
      std::string title = node.nvswitch.hidden ? "NVSwitch (its parts are not in the source)" : node.name;
      if (node.parent == kNone)
        title = fmt::format("{}, shared by several hosts: {} GPUs", node.name, graph_.links_of(id).size());
      layers_.text((left + right) / 2, y + 19, 11, cut(title, static_cast<size_t>((right - left) / 6.2)), "#2f5a06",
                   "middle", true);
      return;
    }
    // A row, spread below all GPUs.
    double first = 1e30, last = -1e30;
    for (const Leaf& leaf : leaves_)
      if (graph_.node(leaf.nodes[0]).kind == NodeKind::Gpu) {
        first = std::min(first, leaf.x);
        last = std::max(last, leaf.x);
      }
    const double needed = static_cast<double>(nv_switches_.size() - 1) * 90;
    const double middle = std::clamp((first + last) / 2, kPad + needed / 2 + 40,
                                     std::max(width_ - kPad - needed / 2 - 40, kPad + needed / 2 + 40));
    const double spread = std::max(needed, (last - first) * 0.7);
    const double y = bottom + arc_room + 100;
    for (size_t i = 0; i < nv_switches_.size(); ++i) {
      const double x =
          middle - spread / 2 + spread * static_cast<double>(i) / static_cast<double>(nv_switches_.size() - 1);
      boxes_[nv_switches_[i]] = {x, y, 82, 32};
    }
    const bool dense = nv_switches_.size() > 6;
    for (const NodeId id : nv_switches_) {
      const Box& box = boxes_[id];
      int32_t gpus = 0;
      for (const LinkId link_id : graph_.links_of(id)) {
        const Link& link = graph_.link(link_id);
        if (!is_fabric(link.kind)) continue;
        const NodeId far = link.other(id);
        if (const auto gpu = leaf_of_.find(far); gpu != leaf_of_.end()) {
          ++gpus;
          const double x = leaves_[gpu->second].x;
          // Lines leave the GPU spread over its lower edge and arrive spread over the switch's upper edge.
          const double out = x + std::clamp((box.x - x) / 14, -kLeafWidth / 2 + 8, kLeafWidth / 2 - 8);
          const double in = box.x + std::clamp((x - box.x) / 16, -36.0, 36.0);
          layers_.path(fmt::format("M{:.1f},{:.1f} C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}", out, bottom, out,
                                   bottom + 42, in, y - 42, in, y),
                       kNvlinkColour, stroke(link.from(far).gbps.value) * (dense ? 0.4 : 0.55), dense ? 0.4 : 0.6);
        } else if (far > id && boxes_.contains(far)) {
          const double depth = 20 + std::fabs(boxes_[far].x - box.x) * 0.05;
          layers_.path(fmt::format("M{:.1f},{:.1f} C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}", box.x, y + 32, box.x,
                                   y + 32 + depth, boxes_[far].x, y + 32 + depth, boxes_[far].x, y + 32),
                       kNvlinkColour, stroke(link.forward.gbps.value) * 0.5, 0.6);
        }
      }
      layers_.box(box.x - 41, y, 82, 32, "#dcefc4", kNvlinkColour);
      layers_.text(box.x, y + 14, 10, graph_.node(id).name, "#2f5a06", "middle", true);
      layers_.text(
          box.x, y + 26, 8.5,
          graph_.node(id).pci.bus_id.empty() ? fmt::format("{} GPUs", gpus) : cut(graph_.node(id).pci.bus_id, 14),
          "#2f5a06");
    }
    // One figure for all: what a GPU has in sum.
    std::map<std::string, int> sums;
    for (const auto& [gpu, leaf] : leaf_of_) {
      int32_t lanes = 0;
      double gbps = 0;
      for (const LinkId link_id : graph_.links_of(gpu)) {
        const Link& link = graph_.link(link_id);
        if (!is_fabric(link.kind) || graph_.node(link.other(gpu)).kind != NodeKind::NvSwitch) continue;
        lanes += link.from(gpu).lanes;
        gbps += link.from(gpu).gbps.value;
      }
      if (gbps > 0) ++sums[fmt::format("{} NVLinks, {} per GPU", lanes, speed_text(gbps))];
    }
    std::string text;
    for (const auto& [sum, count] : sums)
      text += fmt::format("{}{}", text.empty() ? "" : "; ", sums.size() > 1 ? fmt::format("{} x {}", count, sum) : sum);
    layers_.text(middle, y + 32 + (trunks() ? 58 : 16), 10, text, "#2f5a06");
  }

  // --- ways over devices ---

  std::optional<double> column(NodeId device) const {
    if (const auto leaf = leaf_of_.find(device); leaf != leaf_of_.end()) return leaves_[leaf->second].x;
    if (const auto box = boxes_.find(device); box != boxes_.end()) return box->second.x;
    return std::nullopt;
  }

  // Arcs to the right pass above the row's line, arcs to the left below: so a ring looks like one.
  void draw_way(size_t row) {
    constexpr const char* kColours[] = {"#c0392b", "#2874c7", "#1e8449", "#8e44ad", "#d35400", "#117a65", "#7d6608"};
    const Way& way = ways_[row];
    const char* colour = kColours[row % std::size(kColours)];
    const double y = ways_y_ + kWayHeight * static_cast<double>(row) + 37;
    layers_.text(kPad, y - 26, 9.5, cut(way.title, static_cast<size_t>((width_ - 2 * kPad) / 5.2)), colour, "start",
                 true);
    for (const auto& [from, to] : way.edges) {
      const auto x1 = column(from), x2 = column(to);
      if (!x1 && !x2) continue;
      for (const auto& x : {x1, x2})
        if (x)
          layers_.boxes += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"/>\n", *x, y, colour);
      if (!x1 || !x2) {  // to or from another host
        const double here = x1 ? *x1 : *x2, side = x1 ? width_ - 6 : 6.0;
        layers_.path(fmt::format("M{:.1f},{:.1f} L{:.1f},{:.1f}", here, y, side, y + 14), colour, 1.2, 0.8);
        continue;
      }
      const double bend = std::clamp(std::fabs(*x2 - *x1) * 0.12, 8.0, 18.0) * (*x2 > *x1 ? -1.33 : 1.33);
      layers_.path(fmt::format("M{:.1f},{:.1f} C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}", *x1, y, *x1, y + bend, *x2,
                               y + bend, *x2, y),
                   colour, 1.6, 0.85);
      if (way.both_ways) continue;
      const double middle = (*x1 + *x2) / 2, top = y + bend * 0.75, point = *x2 > *x1 ? 4 : -4;
      layers_.boxes += fmt::format("<path d=\"M{:.1f},{:.1f} l{:.1f},-3 l0,6 z\" fill=\"{}\"/>\n", middle + point, top,
                                   -2 * point, colour);
    }
  }

  void draw_title() {
    std::string title = graph_.node(host_).name.empty() ? "Host" : graph_.node(host_).name;
    const std::vector<NodeId> hosts = graph_.of_kind(NodeKind::Host);
    if (hosts.size() > 1)
      title = fmt::format("{}: {}", std::find(hosts.begin(), hosts.end(), host_) - hosts.begin(), title);
    size_t gpus = 0, nics = 0;
    for (const Leaf& leaf : leaves_)
      (graph_.node(leaf.nodes[0]).kind == NodeKind::Gpu ? gpus : nics) += leaf.nodes.size();
    layers_.text(kPad, 28, 16, cut(title, 40), "#1f2933", "start", true);
    std::string counts = fmt::format("{} GPU{}", gpus, gpus == 1 ? "" : "s");
    size_t adapters = 0, devices = 0;
    for (const Leaf& leaf : leaves_) {
      if (graph_.node(leaf.nodes[0]).kind == NodeKind::Nic) adapters += leaf.nodes.size();
      if (graph_.node(leaf.nodes[0]).kind == NodeKind::PciDevice) devices += leaf.nodes.size();
    }
    if (adapters > 0) counts += fmt::format(", {} NIC{}", adapters, adapters == 1 ? "" : "s");
    if (devices > 0) counts += fmt::format(", {} devices of unknown kind", devices);
    layers_.text(width_ - kPad, 28, 11, counts, "#52606d", "end");
  }

  const Graph& graph_;
  NodeId host_;
  const std::vector<Way>& ways_;
  std::set<LinkKind>* used_;
  std::vector<NodeId> cpus_, nv_switches_;
  std::vector<Leaf> leaves_;
  std::map<NodeId, size_t> leaf_of_;
  std::map<NodeId, std::pair<double, double>> spans_;
  std::map<NodeId, Box> boxes_;
  int levels_ = 0;
  double cpu_y_ = 0, level_y_ = 0, leaf_y_ = 0, ways_y_ = 0, width_ = 0, height_ = 0;
  Layers layers_;
};

}  // namespace

std::string draw_svg(const Graph& graph) { return draw_svg(graph, {}); }

std::string draw_svg(const Graph& graph, const std::vector<Way>& ways) {
  constexpr double kMargin = 14;
  std::set<LinkKind> used;
  std::string body;
  double x = kMargin, y = kMargin, row = 0, width = 0;
  for (const NodeId host : graph.of_kind(NodeKind::Host)) {
    Panel panel(graph, host, ways, &used);
    panel.draw();
    if (x > kMargin && x + panel.width() > kMostRowWidth) {
      x = kMargin;
      y += row + kMargin;
      row = 0;
    }
    body += fmt::format(
        "<g transform=\"translate({:.1f} {:.1f})\">\n<rect width=\"{:.1f}\" height=\"{:.1f}\" rx=\"10\" "
        "fill=\"#ffffff\" stroke=\"#cbd2d9\"/>\n{}</g>\n",
        x, y, panel.width(), panel.height(), panel.body());
    x += panel.width() + kMargin;
    width = std::max(width, x);
    row = std::max(row, panel.height());
  }
  y += row;
  constexpr std::pair<LinkKind, const char*> kWords[] = {{LinkKind::Pcie, "PCIe"},
                                                         {LinkKind::NvLink, "NVLink"},
                                                         {LinkKind::Xgmi, "xGMI"},
                                                         {LinkKind::C2C, "C2C"},
                                                         {LinkKind::InterSocket, "between NUMA nodes"}};
  Layers legend;
  double at = kMargin + 8;
  for (const auto& [kind, words] : kWords) {
    if (!used.contains(kind)) continue;
    legend.line(at, y + 20, at + 26, y + 20, colour_of(kind), 4);
    legend.text(at + 32, y + 24, 11, words, "#3e4c59", "start");
    at += 50 + 6.6 * static_cast<double>(std::string_view(words).size());
  }
  double legend_height = 40;
  if (at > kMargin + 8) {
    const bool below = at + 270 > width;  // a narrow picture: on a line of its own
    legend.text(below ? kMargin + 8 : at, y + (below ? 44 : 24), 11, "wider: more GB/s per direction; ~: assumed",
                "#52606d", "start");
    if (below) legend_height = 60;
  }
  width = std::max(width, at);
  const double height = y + legend_height;
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} "
             "{1:.0f}\" "
             "font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\">\n<rect width=\"100%\" height=\"100%\" "
             "fill=\"#f5f7fa\"/>\n",
             width, height) +
         body + legend.joined() + "</svg>\n";
}

std::string draw_dot(const Graph& graph) {
  std::string out = "graph topology {\n  rankdir=TB; node [shape=box, fontsize=10]; edge [fontsize=8];\n";
  const auto quoted = [](std::string_view text) {
    std::string safe;
    for (const char c : text) {
      if (c == '"' || c == '\\') safe += '\\';
      safe += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
    return "\"" + safe + "\"";
  };
  const auto node_line = [&](NodeId id) {
    const Node& node = graph.node(id);
    std::string label = node.name.empty() ? to_string(node.kind) : node.name;
    if (!node.pci.bus_id.empty()) label += " " + node.pci.bus_id;
    const char* colour = node.kind == NodeKind::Gpu || node.kind == NodeKind::NvSwitch ? kNvlinkColour
                         : node.kind == NodeKind::Nic || node.kind == NodeKind::Port   ? kNetworkColour
                                                                                       : kSocketColour;
    return fmt::format("n{} [label={}, color=\"{}\"];\n", id, quoted(label), colour);
  };
  for (const NodeId host : graph.of_kind(NodeKind::Host)) {
    out += fmt::format("  subgraph cluster_{} {{\n    label={};\n", host, quoted(display_name(graph, host)));
    for (NodeId id = 0; id < graph.size(); ++id)
      if (id != host && graph.host_of(id) == host) out += "    " + node_line(id);
    out += "  }\n";
  }
  for (NodeId id = 0; id < graph.size(); ++id)
    if (graph.host_of(id) == kNone) out += "  " + node_line(id);
  for (const Link& link : graph.links())
    out +=
        fmt::format("  n{} -- n{} [label={}, color=\"{}\", penwidth={:.1f}{}];\n", link.a, link.b,
                    quoted(gbps_text(link.forward.gbps.value)), colour_of(link.kind), stroke(link.forward.gbps.value),
                    link.kind == LinkKind::InterSocket || is_fabric(link.kind) ? ", constraint=false" : "");
  return out + "}\n";
}

}  // namespace tutti::topology
