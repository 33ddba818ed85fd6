// SPDX-License-Identifier: Apache-2.0
// See rdma_devices.h.
#include "transports/rdma/rdma_devices.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "base/fork.h"
#include "base/log.h"
#include "transports/arena.h"
#include "transports/rdma/rdma_transport.h"

namespace tutti {
namespace {

constexpr int kQueueEntries = 4096;  // chosen: 15 queue pairs share a completion queue, 256 KiB of memory

void make_nonblocking(int fd) { (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// Why the port is of no use; empty: it is.
std::string refusal(const verbs::Port& port, const verbs::Gid* gid, const RdmaSettings& settings) {
  if (!port.active) return fmt::format("is {}", port.state.empty() ? "not active" : port.state);
  if (port.layer == verbs::LinkLayer::Unknown) return "is neither InfiniBand nor Ethernet";
  if (gid != nullptr) return {};
  return settings.gid_index >= 0 ? fmt::format("has no GID {} (TUTTI_RDMA_GID_INDEX)", settings.gid_index)
                                 : std::string("has no GID");
}

int rights_of(RdmaNic::Access access) {
  return access == RdmaNic::Access::PeersWrite ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0;
}

void append(std::string& list, const std::string& one) {
  if (!list.empty()) list += "; ";
  list += one;
}

}  // namespace

Result<std::unique_ptr<RdmaNic>> RdmaNic::create(const verbs::VerbsApi& api, verbs::OpenDevice open) {
  std::unique_ptr<RdmaNic> made(new RdmaNic(api, std::move(open)));
  TUTTI_TRY(made->prepare());
  return made;
}

Status RdmaNic::prepare() {
  for (const int fd : {event_fd(), context()->cmd_fd})
    if (fd >= 0) note_descriptor(fd);
  make_nonblocking(event_fd());
  domain_ = {api_.alloc_pd(context()), {&api_}};
  if (domain_ == nullptr) return errno_status("ibv_alloc_pd", name());
  channel_ = {api_.create_comp_channel(context()), {&api_}};
  if (channel_ == nullptr) return errno_status("ibv_create_comp_channel", name());
  note_descriptor(completion_fd());
  make_nonblocking(completion_fd());
  // A limit on locked memory would only show when connections are made: try now, while there is another transport.
  TUTTI_ASSIGN_OR_RETURN(const Mapping probe, Mapping::anonymous(1 << 20));
  TUTTI_TRY(register_memory(probe.base(), probe.bytes(), Access::PeersWrite));
  return {};
}

RdmaNic::~RdmaNic() {
  if (channel_ != nullptr) {
    take_completion_events();
    forget_descriptor(completion_fd());
  }
  for (const int fd : {event_fd(), context()->cmd_fd})
    if (fd >= 0) forget_descriptor(fd);
}

ibv_mr* RdmaNic::try_register(void* base, uint64_t bytes, Access access) const {
  const int rights = rights_of(access);
  // Relaxed ordering: a device may place a write's bytes in any order. Nobody looks at them before their completion.
  return api_.reg_mr_iova2 != nullptr ? api_.reg_mr_iova2(domain(), base, bytes, reinterpret_cast<uint64_t>(base),
                                                          static_cast<unsigned>(rights) | IBV_ACCESS_RELAXED_ORDERING)
                                      : api_.reg_mr(domain(), base, bytes, rights);
}

Result<verbs::MemoryRegion> RdmaNic::register_memory(void* base, uint64_t bytes, Access access) const {
  ibv_mr* const made = try_register(base, bytes, access);
  if (made == nullptr && errno == ENOMEM)
    return system_error("{} cannot register {} bytes of memory: raise the limit on locked memory (ulimit -l)", name(),
                        bytes);
  if (made == nullptr) return errno_status("ibv_reg_mr", name());
  return verbs::MemoryRegion(made, {&api_});
}

Result<verbs::MemoryRegion> RdmaNic::register_dma_buf(int fd, void* base, uint64_t bytes, Access access) const {
  if (api_.reg_dmabuf_mr == nullptr)
    return system_error("libibverbs has no ibv_reg_dmabuf_mr (rdma-core 34 or newer has)");
  const int ordering = api_.reg_mr_iova2 != nullptr ? static_cast<int>(IBV_ACCESS_RELAXED_ORDERING) : 0;
  ibv_mr* const made =
      api_.reg_dmabuf_mr(domain(), 0, bytes, reinterpret_cast<uint64_t>(base), fd, rights_of(access) | ordering);
  if (made != nullptr) return verbs::MemoryRegion(made, {&api_});
  if (errno == EOPNOTSUPP || errno == EPROTONOSUPPORT || errno == EINVAL || errno == ENOSYS)
    return system_error("{} (Linux 5.12 or newer, and a driver of the card that can, are needed)",
                        errno_status("ibv_reg_dmabuf_mr", name()).message());
  return errno_status("ibv_reg_dmabuf_mr", name());
}

Result<verbs::MemoryRegion> RdmaNic::register_gpu_address(void* base, uint64_t bytes, Access access) const {
  ibv_mr* const made = try_register(base, bytes, access);
  if (made != nullptr) return verbs::MemoryRegion(made, {&api_});
  if (errno == EFAULT || errno == EINVAL)
    return system_error("{}: the card does not know the GPU's address (is the module loaded, and made for its driver?)",
                        errno_status("ibv_reg_mr", name()).message());
  return errno_status("ibv_reg_mr", name());
}

Result<ibv_cq*> RdmaNic::reserve_completions(int entries) {
  for (Queue& one : queues_) {
    if (one.used + entries > one.capacity) continue;
    one.used += entries;
    return one.queue.get();
  }
  const int capacity = std::min(std::max(kQueueEntries, entries), open_.limits.max_cqe);
  Queue fresh{{api_.create_cq(context(), capacity, nullptr, channel_.get(), 0), {&api_}}, capacity, entries};
  if (fresh.queue == nullptr) return errno_status("ibv_create_cq", name());
  queues_.push_back(std::move(fresh));
  return queues_.back().queue.get();
}

void RdmaNic::give_back_completions(ibv_cq* queue, int entries) {
  for (Queue& one : queues_)
    if (one.queue.get() == queue) one.used -= entries;
}

size_t RdmaNic::poll(std::span<ibv_wc> entries) const {
  size_t count = 0;
  for (const Queue& one : queues_) {
    const std::span<ibv_wc> rest = entries.subspan(count);
    if (rest.empty()) break;
    count += static_cast<size_t>(std::max(0, ibv_poll_cq(one.queue.get(), static_cast<int>(rest.size()), rest.data())));
  }
  return count;
}

void RdmaNic::arm() const {
  for (const Queue& one : queues_) (void)ibv_req_notify_cq(one.queue.get(), 0);
}

void RdmaNic::take_completion_events() const {
  ibv_cq* queue = nullptr;
  void* unused = nullptr;
  while (api_.get_cq_event(channel_.get(), &queue, &unused) == 0) api_.ack_cq_events(queue, 1);
}

bool RdmaNic::take_event(ibv_async_event& event) const {
  if (api_.get_async_event(context(), &event) != 0) return false;
  api_.ack_async_event(&event);
  return true;
}

Result<std::shared_ptr<RdmaDevices>> RdmaDevices::open(const RdmaSettings& settings) {
  TUTTI_ASSIGN_OR_RETURN(const NameList list, parse_device_list(settings.devices));
  TUTTI_ASSIGN_OR_RETURN(const NameList nics, parse_nic_list(settings.nics));
  std::vector<std::string> notes;
  TUTTI_ASSIGN_OR_RETURN(std::vector<verbs::OpenDevice> opened, verbs::open_devices(settings.verbs_library, notes));
  TUTTI_ASSIGN_OR_RETURN(const verbs::VerbsApi* const api, verbs::library(settings.verbs_library));
  std::string why;
  for (const std::string& note : notes) append(why, note);
  // Only the fastest: messages go to all ports in turn, so a slow one would hold up the others.
  double fastest = 0;
  for (const verbs::OpenDevice& one : opened)
    for (const verbs::Port& port : one.device.ports)
      if (list.admits(one.device.name, port.number) && nics.admits(one.device.name) &&
          refusal(port, choose_gid(port, settings.gid_index), settings).empty())
        fastest = std::max(fastest, port.gbit_per_second);

  auto made = std::make_shared<RdmaDevices>();
  for (verbs::OpenDevice& one : opened) {
    std::vector<RdmaPort> usable;
    for (const verbs::Port& port : one.device.ports) {
      const verbs::Gid* const gid = choose_gid(port, settings.gid_index);
      std::string no = !list.admits(one.device.name, port.number) ? "is not in TUTTI_RDMA_HCA"
                       : !nics.admits(one.device.name)            ? fmt::format("is excluded by {}", kNicList)
                                                                  : refusal(port, gid, settings);
      if (no.empty() && port.gbit_per_second < fastest) no = "is slower than others";
      if (no.empty() && made->ports_.size() + usable.size() == kMostPorts) no = "is one port too many";
      if (no.empty())
        usable.push_back({one.device.name, port.number, port.layer, *gid});
      else
        append(why, fmt::format("{} port {} {}", one.device.name, port.number, no));
    }
    if (usable.empty()) continue;
    const std::string name = one.device.name;
    Result<std::unique_ptr<RdmaNic>> nic = RdmaNic::create(*api, std::move(one));
    if (!nic.ok()) {
      append(why, nic.status().message());
      continue;
    }
    for (RdmaPort& port : usable) {
      log_info(Subsystem::Transport, "rdma: {}: {} {}, GID {} is {}, {:g} Gb/s", port.text(), verbs::name(port.layer),
               verbs::name(port.gid.type), port.gid.index, port.gid.text(), fastest);
      made->ports_.push_back(std::move(port));
      made->nic_of_port_.push_back(static_cast<int>(made->nics_.size()));
    }
    made->nics_.push_back(std::move(*nic));
  }
  if (made->ports_.empty())
    return system_error("no RDMA port is usable: {}", why.empty() ? "there are no devices" : why);
  if (!why.empty()) log_info(Subsystem::Transport, "rdma: not used: {}", why);
  return made;
}

void RdmaDevices::keep(const std::vector<std::string>& names) {
  RdmaDevices left;
  std::vector<int> place(nics_.size(), -1);  // among those that are left
  for (size_t port = 0; port < ports_.size(); ++port) {
    if (std::find(names.begin(), names.end(), ports_[port].device) == names.end()) continue;
    const auto nic = static_cast<size_t>(nic_of_port_[port]);
    if (place[nic] < 0) {
      place[nic] = static_cast<int>(left.nics_.size());
      left.nics_.push_back(std::move(nics_[nic]));
    }
    left.ports_.push_back(std::move(ports_[port]));
    left.nic_of_port_.push_back(place[nic]);
  }
  *this = std::move(left);
}

RdmaDevices::Now RdmaDevices::look(int port) const {
  const RdmaPort& known = ports_[static_cast<size_t>(port)];
  const RdmaNic& nic = nic_of(port);
  const verbs::Port seen = verbs::read_port(nic.api(), nic.context(), known.number);
  const verbs::Gid* const gid = find_gid(seen, known.gid);
  return {
      .active = seen.active, .mtu = seen.active_mtu, .lid = seen.lid, .gid_index = gid != nullptr ? gid->index : -1};
}

Result<std::shared_ptr<RdmaDevices>> open_rdma_devices(const RdmaSettings& settings) {
  return RdmaDevices::open(settings);
}
void keep_rdma_devices(RdmaDevices& devices, const std::vector<std::string>& names) { devices.keep(names); }
const std::vector<RdmaPort>& rdma_ports(const RdmaDevices& devices) { return devices.ports(); }

}  // namespace tutti
