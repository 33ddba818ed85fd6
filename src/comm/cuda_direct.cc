// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_direct.h"

#include <algorithm>

#include "base/log.h"
#include "comm/job_graph.h"

namespace tutti {
namespace {

using topology::PathClass;

PathClass farthest(const std::string& setting) {
  if (setting == "pix") return PathClass::Pix;
  if (setting == "phb") return PathClass::Phb;
  if (setting == "sys") return PathClass::Sys;
  return PathClass::Pxb;  // beyond the switches writes and reads of GPUs cross a CPU, and many do that slowly
}

bool near_enough(const DirectFacts::Card& card, const std::string& setting) {
  return setting == "sys" || (card.distance && *card.distance <= farthest(setting));
}

std::string how_far(const DirectFacts::Card& card) {
  return fmt::format("{} ({})", card.name, card.distance ? topology::to_string(*card.distance) : "not known");
}

// "mlx5_0 (SYS), mlx5_1 (not known)": those that are too far.
std::string too_far(const DirectFacts& facts, const std::string& setting) {
  std::string text;
  for (const DirectFacts::Card& card : facts.cards)
    if (!near_enough(card, setting)) text += (text.empty() ? "" : ", ") + how_far(card);
  return text;
}

std::string why_no_peermem(const DirectFacts& facts, int setting) {
  if (setting == 0) return "TUTTI_GPU_DIRECT_PEERMEM=0";
  if (setting < 0 && !facts.peermem_loaded) return "the module nvidia_peermem is not loaded";
  if (!facts.device.peer_memory) return "the GPU does not support it";
  return {};
}

std::string why_no_dma_buf(const DirectFacts& facts, bool setting) {
  if (!setting) return "TUTTI_GPU_DIRECT_DMABUF=0";
  if (!facts.device.dma_buf) return "the GPU's driver makes none (the open kernel modules, on Linux 5.12 or newer, do)";
  return {};
}

class CudaSlots final : public GpuSlots {
 public:
  CudaSlots(gpu::CudaDevicePtr device, gpu::NicMemory memory, Result<UniqueFd> descriptor)
      : device_(std::move(device)), memory_(std::move(memory)), descriptor_(std::move(descriptor)) {}
  std::byte* base() const override { return reinterpret_cast<std::byte*>(memory_.address()); }
  uint64_t bytes() const override { return memory_.size(); }
  const Result<UniqueFd>& dma_buf() const override { return descriptor_; }
  void registered() override { descriptor_ = error(Code::InternalError, "it is closed"); }
  Status flush() override { return gpu::flush_card_writes(device_); }

 private:
  gpu::CudaDevicePtr device_;
  gpu::NicMemory memory_;
  Result<UniqueFd> descriptor_;
};

// Each device once, with what is known of it on this host.
std::vector<DirectFacts::Card> cards_of(std::span<const RdmaPort> ports, const std::string& bus_id) {
  std::vector<DirectFacts::Card> cards;
  for (const RdmaPort& port : ports) {
    auto known = std::find_if(cards.begin(), cards.end(), [&](const auto& card) { return card.name == port.device; });
    if (known == cards.end()) known = cards.insert(cards.end(), {.name = port.device});
    known->networks.insert(network_of(port));
  }
  const Result<const Bytes*> bytes = JobGraph::this_host();
  if (!bytes.ok() || (*bytes)->empty()) return cards;
  if (const Result<topology::Graph> graph = decode_graph(**bytes); graph.ok()) find_distances(*graph, bus_id, cards);
  return cards;
}

// A network that only devices have that are too far; empty: none.
std::string lost_network(const DirectFacts& facts, const std::string& setting) {
  std::set<std::string> kept;
  for (const DirectFacts::Card& card : facts.cards)
    if (near_enough(card, setting)) kept.insert(card.networks.begin(), card.networks.end());
  for (const DirectFacts::Card& card : facts.cards)
    for (const std::string& network : card.networks)
      if (!kept.contains(network)) return card.name;
  return {};
}

}  // namespace

bool peermem_loaded(const topology::SystemRoot& root) {
  return root.exists("/sys/module/nvidia_peermem") || root.exists("/sys/module/nv_peer_mem");
}

void find_distances(const topology::Graph& host, const std::string& bus_id, std::vector<DirectFacts::Card>& cards) {
  const topology::Paths paths(host);
  topology::NodeId gpu = topology::kNone;
  for (const topology::NodeId top : host.of_kind(topology::NodeKind::Host))
    if (const topology::NodeId found = host.by_bus_id(top, bus_id); found != topology::kNone) gpu = found;
  if (gpu == topology::kNone || !paths.is_endpoint(gpu)) return;
  for (const topology::NodeId port : host.of_kind(topology::NodeKind::Port)) {
    const topology::Node& node = host.node(port);
    if (!paths.is_endpoint(node.parent)) continue;
    const PathClass distance = paths.pcie(gpu, node.parent).type;
    for (DirectFacts::Card& card : cards)
      if ((node.name == card.name || node.name.starts_with(card.name + ":")) && distance < PathClass::Net)
        card.distance = distance;
  }
}

Direct choose_direct(const DirectFacts& facts, const Env& settings) {
  Direct made;
  RdmaGpuOptions& gpu = made.gpu;
  gpu.name = facts.gpu;
  gpu.no_dma_buf = why_no_dma_buf(facts, settings.gpu_direct_dmabuf);
  gpu.no_peer_memory = why_no_peermem(facts, settings.gpu_direct_peermem);
  gpu.flush = !facts.device.ordered;
  if (settings.gpu_direct == "off")
    gpu.not_in = "TUTTI_GPU_DIRECT=off";
  else if (!gpu.no_dma_buf.empty() && !gpu.no_peer_memory.empty())
    gpu.not_in = fmt::format("no DMA-buf: {}; no nvidia-peermem: {}", gpu.no_dma_buf, gpu.no_peer_memory);
  if (gpu.not_in.empty()) {
    for (const DirectFacts::Card& card : facts.cards)
      if (near_enough(card, settings.gpu_direct)) made.cards.push_back(card.name);
    if (made.cards.empty())
      gpu.not_in =
          fmt::format("no device is near enough: {} (TUTTI_GPU_DIRECT={}; TUTTI_TOPO_FILE tells what is not known)",
                      too_far(facts, settings.gpu_direct), settings.gpu_direct);
    else if (const std::string card = lost_network(facts, settings.gpu_direct); !card.empty()) {
      gpu.not_in = fmt::format("{} alone has ports of some network, and is too far from it (TUTTI_GPU_DIRECT={})", card,
                               settings.gpu_direct);
      made.cards.clear();
    }
  }
  if (made.cards.empty())
    for (const DirectFacts::Card& card : facts.cards) made.cards.push_back(card.name);
  gpu.not_out = gpu.not_in;
  if (gpu.not_in.empty() && gpu.flush && !facts.device.flushes)
    gpu.not_in = "its kernels see writes of devices late, and the driver cannot flush them";
  constexpr int kAmpere = 8;  // as NCCL: earlier GPUs answer reads of other devices slowly
  const bool reads =
      settings.gpu_direct_read == 1 || (settings.gpu_direct_read < 0 && facts.device.capability_major >= kAmpere);
  if (gpu.not_out.empty() && !reads)
    gpu.not_out = settings.gpu_direct_read == 0
                      ? "TUTTI_GPU_DIRECT_READ=0"
                      : "the GPU is older than Ampere (TUTTI_GPU_DIRECT_READ=1 has it read all the same)";
  return made;
}

Direct find_direct(const gpu::CudaDevicePtr& device, std::span<const RdmaPort> ports, std::string_view label) {
  DirectFacts facts;
  facts.gpu = fmt::format("CUDA device {}", device->ordinal());
  facts.device = gpu::nic_facts(*device);
  facts.peermem_loaded = peermem_loaded(topology::SystemRoot());
  facts.cards = cards_of(ports, gpu::bus_id(*device));
  Direct made = choose_direct(facts, env());
  const auto where = [&](Flow flow) {
    const std::string& why = made.gpu.staged(flow);
    return why.empty() ? std::string("in its memory") : fmt::format("staged in memory of the host ({})", why);
  };
  log_info(Subsystem::Transport, "{}: RDMA of {}: slots of what is received: {}; of what is sent: {}{}{}", label,
           facts.gpu, where(Flow::In), where(Flow::Out),
           made.gpu.flush && made.gpu.not_in.empty() ? "; what arrives is flushed" : "",
           made.cards.size() < facts.cards.size()
               ? fmt::format("; too far from it, and not used: {}", too_far(facts, env().gpu_direct))
               : "");
  return made;
}

Result<std::shared_ptr<GpuSlots>> make_gpu_slots(const gpu::CudaDevicePtr& device, uint64_t bytes) {
  TUTTI_ASSIGN_OR_RETURN(gpu::NicMemory memory, gpu::NicMemory::create(device, bytes));
  Result<UniqueFd> descriptor = gpu::nic_facts(*device).dma_buf && env().gpu_direct_dmabuf
                                    ? memory.dma_buf()
                                    : Result<UniqueFd>(error(Code::SystemError, "none was asked for"));
  return std::shared_ptr<GpuSlots>(std::make_shared<CudaSlots>(device, std::move(memory), std::move(descriptor)));
}

}  // namespace tutti
