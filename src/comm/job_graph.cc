// SPDX-License-Identifier: Apache-2.0
// See job_graph.h. Each struct of the graph lists its fields once, for writing and for reading.
#include "comm/job_graph.h"

#include <bit>

#include "base/env.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/whole_file.h"
#include "topology/detect/assemble.h"
#include "topology/detect/detect.h"
#include "topology/formats/formats.h"

namespace tutti {
namespace {

using namespace topology;

constexpr size_t kMostText = 1 << 16;

struct GraphWriter {
  ByteWriter out;
  template <class T>
  void one(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      out.sized(value);
    } else if constexpr (std::is_same_v<T, double>) {
      out.number(std::bit_cast<uint64_t>(value));
    } else if constexpr (std::is_same_v<T, CpuSet>) {
      out.sized(value.mask());
    } else if constexpr (std::is_same_v<T, bool>) {
      out.number(static_cast<uint8_t>(value));
    } else if constexpr (std::is_enum_v<T>) {
      out.number(static_cast<uint8_t>(value));
    } else {
      out.number(value);
    }
  }
  template <class... T>
  void operator()(const T&... values) {
    (one(values), ...);
  }
};

struct GraphReader {
  ByteReader in;
  template <class T>
  void one(T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      value = in.text(kMostText);
    } else if constexpr (std::is_same_v<T, double>) {
      value = std::bit_cast<double>(in.number<uint64_t>());
    } else if constexpr (std::is_same_v<T, CpuSet>) {
      const auto set = CpuSet::from_mask(in.text(kMostText));
      set ? void(value = *set) : in.fail();
    } else if constexpr (std::is_same_v<T, bool>) {
      value = in.number<uint8_t>() != 0;
    } else if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(in.number<uint8_t>());
      if (value > last(T{})) in.fail();
    } else {
      value = in.number<T>();
    }
  }
  static constexpr NodeKind last(NodeKind) { return NodeKind::Network; }
  static constexpr LinkKind last(LinkKind) { return LinkKind::Network; }
  static constexpr Source last(Source) { return Source::Measured; }
  template <class... T>
  void operator()(T&... values) {
    (one(values), ...);
  }
};

// Writing passes const structs, reading mutable ones; the fields are the same.
template <class Io, class NodeType>
void fields_of_node(Io& io, NodeType& node) {
  io(node.kind, node.parent, node.number, node.name);
  auto& pci = node.pci;
  io(pci.bus_id, pci.class_code, pci.vendor, pci.device, pci.subsystem_vendor, pci.subsystem_device, pci.link_speed,
     pci.link_width, pci.root);
  auto& cpu = node.cpu;
  io(cpu.package, cpu.cpus, cpu.arch, cpu.vendor, cpu.family, cpu.model, cpu.memory_bytes);
  auto& gpu = node.gpu;
  io(gpu.present, gpu.model, gpu.uuid, gpu.sm, gpu.gcn, gpu.arch, gpu.rank, gpu.gdr, gpu.memory_bytes);
  auto& port = node.port;
  io(port.port, port.speed_mbps, port.latency_us, port.guid, port.max_connections, port.gdr, port.coll);
  io(node.nvswitch.hidden, node.nvswitch.domain);
}
template <class Io, class LinkType>
void fields_of_link(Io& io, LinkType& link) {
  io(link.kind, link.a, link.b);
  for (auto* way : {&link.forward, &link.backward}) io(way->lanes, way->gbps.value, way->gbps.source);
  io(link.latency_us.value, link.latency_us.source);
}

}  // namespace

Bytes encode_graph(const Graph& graph) {
  GraphWriter io;
  io(graph.origin, graph.system_version, static_cast<uint32_t>(graph.nodes().size()));
  for (const Node& node : graph.nodes()) {
    fields_of_node(io, node);
    io(static_cast<uint32_t>(node.attributes.size()));
    for (const auto& [key, value] : node.attributes) io(key, value);
  }
  io(static_cast<uint32_t>(graph.links().size()));
  for (const Link& link : graph.links()) fields_of_link(io, link);
  io(static_cast<uint32_t>(graph.warnings().size()));
  for (const Warning& warning : graph.warnings()) io(warning.line, warning.text);
  return io.out.take();
}

Result<Graph> decode_graph(std::span<const std::byte> bytes) {
  GraphReader io{ByteReader(bytes)};
  Graph graph;
  uint32_t count = 0;
  io(graph.origin, graph.system_version, count);
  // Counts are not trusted: each turn reads at least a byte, so a wrong one fails when the bytes end.
  for (uint32_t i = 0; i < count && io.in.ok(); ++i) {
    Node node;
    fields_of_node(io, node);
    uint32_t attributes = 0;
    io(attributes);
    for (uint32_t k = 0; k < attributes && io.in.ok(); ++k) {
      std::string key, value;
      io(key, value);
      node.attributes.emplace_back(std::move(key), std::move(value));
    }
    if (node.parent < kNone || node.parent >= graph.size()) io.in.fail();
    if (node.kind == NodeKind::Port && node.parent == kNone) io.in.fail();
    if (io.in.ok()) graph.add_node(std::move(node));
  }
  io(count);
  for (uint32_t i = 0; i < count && io.in.ok(); ++i) {
    Link link;
    fields_of_link(io, link);
    const auto exists = [&](NodeId id) { return id >= 0 && id < graph.size(); };
    if (!exists(link.a) || !exists(link.b) || link.a == link.b) io.in.fail();
    if (io.in.ok()) graph.add_link(link);
  }
  io(count);
  for (uint32_t i = 0; i < count && io.in.ok(); ++i) {
    Warning warning;
    io(warning.line, warning.text);
    if (io.in.ok()) graph.warn(warning.line, std::move(warning.text));
  }
  if (!io.in.finished()) return error(Code::InternalError, "a host's graph of {} bytes is malformed", bytes.size());
  return graph;
}

namespace {

std::optional<Graph> detect_host() {
  DetectOptions options = DetectOptions::from_environment();
  options.hwloc = options.verbs = false;
  options.cuda = AskCuda::Never;
  auto found = detect(options);
  if (!found.ok()) {
    log_warn(Subsystem::Topology, "this host is not detected: {}", found.status().message());
    return std::nullopt;
  }
  double total = 0;
  for (const Timing& timing : found->timings) total += timing.ms;
  for (const Note& note : found->notes) log_info(Subsystem::Topology, "{}: {}", note.source, note.text);
  log_info(Subsystem::Topology, "this host was detected in {:.1f} ms", total);
  return std::move(found->graph);
}

// Empty: no file and no detection.
Result<std::optional<Graph>> graph_of_host() {
  const std::string& path = env().topology_file;
  if (path.empty()) return detect_host();
  Result<Graph> file = read_topology_file(path);
  if (!file.ok()) return Status(file.status().code(), fmt::format("TUTTI_TOPO_FILE: {}", file.status().message()));
  for (const Warning& warning : file->warnings())
    log_warn(Subsystem::Topology, "TUTTI_TOPO_FILE: {}:{}: {}", path, warning.line, warning.text);
  if (const std::optional<Graph> live = detect_host()) complete(*file, *live);
  return std::optional<Graph>(std::move(*file));
}

Result<Bytes> encode_host() {
  TUTTI_ASSIGN_OR_RETURN(const std::optional<Graph> graph, graph_of_host());
  if (!graph) return Bytes();
  Bytes bytes = encode_graph(*graph);
  log_info(Subsystem::Topology, "this host: {} nodes and {} links, {} bytes", graph->size(), graph->links().size(),
           bytes.size());
  if (bytes.size() <= JobGraph::kMostBytes) return bytes;
  log_warn(Subsystem::Topology, "this host's graph of {} bytes is too large to be shared", bytes.size());
  return Bytes();
}

}  // namespace

Result<const Bytes*> JobGraph::this_host() {
  // Devices do not come and go while a process runs, and the environment is read once as well. Never destroyed: a
  // thread may join during exit.
  static std::mutex& mutex = *[] {
    auto* const made = new std::mutex;
    guard_at_fork(*made);
    return made;
  }();
  static const Result<Bytes>* encoded = nullptr;
  const std::lock_guard lock(mutex);
  if (encoded == nullptr) encoded = new Result<Bytes>(encode_host());
  if (!encoded->ok()) return encoded->status();
  return &encoded->value();
}

Result<const Graph*> JobGraph::get() const {
  const std::lock_guard lock(mutex_);
  if (!merged_) merged_ = merge();
  if (!merged_->ok()) return merged_->status();
  return merged_->value().get();
}

Result<std::unique_ptr<Graph>> JobGraph::merge() const {
  auto merged = std::make_unique<Graph>();
  if (hosts_.empty()) {  // a rank alone detects when somebody asks
    TUTTI_ASSIGN_OR_RETURN(const Bytes* const here, this_host());
    if (here->empty()) return error(Code::SystemError, "this host was not detected; the log says why");
    TUTTI_ASSIGN_OR_RETURN(*merged, decode_graph(*here));
    return merged;
  }
  merged->origin = "this job";
  for (size_t host = 0; host < hosts_.size(); ++host) {
    if (hosts_[host].empty())
      return error(Code::SystemError, "host {} of the job was not detected; the log of its first rank says why", host);
    TUTTI_ASSIGN_OR_RETURN(Graph one, decode_graph(hosts_[host]));
    topology::merge(*merged, one);
  }
  if (hosts_.size() > 1) connect_networks(*merged);
  return merged;
}

Status JobGraph::write(const std::string& path) const {
  TUTTI_ASSIGN_OR_RETURN(const Graph* const graph, get());
  return write_whole_file(path, path.ends_with(".json") ? write_json(*graph) : write_nccl_xml(*graph),
                          "the topology file");
}

}  // namespace tutti
