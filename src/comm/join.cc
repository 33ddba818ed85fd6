// SPDX-License-Identifier: Apache-2.0
// Joining: from a place to meet, or from a parent, to a communicator that can carry calls; and how it ends.
//
//   1 join the bootstrap, or divide the parent's: every rank learns every rank's host, process and machine facts
//   2 group the ranks by host; prepare the memory they share, the RDMA devices and the sockets between hosts
//   3 out of band: everybody's preparation worked, and here are each rank's RDMA ports, each host leader's offer of
//     memory and the graph of its devices
//   4 map it, and see who is reached over RDMA
//   5 out of band: everybody has, and all derived the same Summary
//
// After each exchange all ranks know the same, so a failure of one is an error on all that names it.
#include <fmt/ranges.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "algo/user_schedule.h"
#include "base/env.h"
#include "base/log.h"
#include "comm/communicator.h"
#include "comm/cuda_direct.h"
#include "comm/cuda_team.h"
#include "comm/exchange.h"
#include "exec/sim/verify.h"
#include "net/interfaces.h"
#include "net/wire.h"
#include "observe/service.h"
#include "transports/inproc/inproc_transport.h"
#include "transports/mapped.h"
#include "transports/rdma/rdma_transport.h"
#include "transports/shm/shm_transport.h"
#include "transports/tcp/tcp_transport.h"
#include "tutti/tutti.h"

namespace tutti {
namespace {

// What a rank knows of its machine and all need to know.
struct MachineFacts {
  uint64_t cache_bytes = 0;       // L2 of a core
  std::vector<uint8_t> cpu_mask;  // CPUs this rank may run on
  std::string cpu_vendor;
  std::vector<LocalInterface> interfaces;  // by which others may reach it
  int32_t device = kCpuDevice;
  CudaSeat seat;  // of a rank on a GPU

  static MachineFacts read(int device) {
    MachineFacts facts;
    // Where they cannot be had, joining fails for that reason.
    if (auto found = usable_interfaces(); found.ok()) facts.interfaces = std::move(*found);
    if (facts.interfaces.size() > kMaxAddresses) facts.interfaces.resize(kMaxAddresses);  // no more are offered
    facts.device = device;
    if (device >= 0) facts.seat = find_seat(device);
    facts.cpu_vendor = tutti::cpu_vendor();
    const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    facts.cache_bytes = l2 > 0 ? static_cast<uint64_t>(l2) : 1 << 20;
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_SET(0, &allowed);
    int last = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) last = cpu;
    }
    facts.cpu_mask.resize(static_cast<size_t>(last) / 8 + 1);
    for (int cpu = 0; cpu <= last; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) facts.cpu_mask[static_cast<size_t>(cpu) / 8] |= static_cast<uint8_t>(1 << cpu % 8);
    }
    return facts;
  }
  Bytes encode() const {
    ByteWriter writer;
    writer.number(cache_bytes);
    writer.sized(std::as_bytes(std::span(cpu_mask)));
    writer.sized(cpu_vendor);
    writer.number(static_cast<uint32_t>(interfaces.size()));
    for (const LocalInterface& one : interfaces) {
      writer.sized(one.name);
      one.address.encode(writer);
    }
    writer.number(device);
    if (device >= 0) {
      writer.sized(std::as_bytes(std::span(&seat.gpu, 1)));
      writer.sized(std::as_bytes(std::span(seat.unreachable)));
      writer.sized(std::as_bytes(std::span(seat.by_nvlink)));
    }
    return writer.take();
  }
  static Result<MachineFacts> decode(std::span<const std::byte> bytes) {
    ByteReader reader(bytes);
    MachineFacts facts;
    facts.cache_bytes = reader.number<uint64_t>();
    const std::span<const std::byte> mask = reader.sized(CPU_SETSIZE / 8);
    constexpr size_t kMostVendor = 64;
    facts.cpu_vendor = reader.text(kMostVendor);
    const auto count = reader.number<uint32_t>();
    for (uint32_t i = 0; i < count && reader.ok(); ++i) {
      std::string name = reader.text(IF_NAMESIZE);
      facts.interfaces.push_back({std::move(name), SocketAddress::decode(reader)});
    }
    facts.device = reader.number<int32_t>();
    if (facts.device >= 0 && !decode_seat(reader, facts)) return malformed();
    if (!reader.finished()) return malformed();
    for (const std::byte byte : mask) facts.cpu_mask.push_back(static_cast<uint8_t>(byte));
    return facts;
  }
  static Status malformed() { return error(Code::InternalError, "a rank's machine facts are malformed"); }
  static bool decode_seat(ByteReader& reader, MachineFacts& facts) {
    facts.seat.ordinal = facts.device;
    const std::span<const std::byte> gpu = reader.sized(sizeof facts.seat.gpu);
    if (gpu.size() != sizeof facts.seat.gpu) return false;
    std::memcpy(&facts.seat.gpu, gpu.data(), gpu.size());
    return decode_gpus(reader, facts.seat.unreachable) && decode_gpus(reader, facts.seat.by_nvlink);
  }
  static bool decode_gpus(ByteReader& reader, std::vector<CudaUuidBytes>& gpus) {
    constexpr size_t kMostGpus = 1024;
    const std::span<const std::byte> bytes = reader.sized(kMostGpus * sizeof(CudaUuidBytes));
    if (bytes.size() % sizeof(CudaUuidBytes) != 0) return false;
    gpus.resize(bytes.size() / sizeof(CudaUuidBytes));
    if (!bytes.empty()) std::memcpy(gpus.data(), bytes.data(), bytes.size());
    return true;
  }
  // The interface that has the address, whatever its port; empty: not one of these.
  std::string_view interface_of(const SocketAddress& address) const {
    for (const LocalInterface& one : interfaces)
      if (one.address == address.with_port(0)) return one.name;
    return {};
  }
};

// What TUTTI_PROFILE names, read once per process; null where it is not set.
Result<const Profile*> wanted_profile() {
  static const auto& read = *new Result<Profile>(env().profile.empty() ? Profile() : read_profile(env().profile));
  if (!read.ok()) return read.status();
  return env().profile.empty() ? nullptr : &*read;
}

// Those that TUTTI_SCHEDULES names, read and proven once per process.
Result<std::vector<const UserSchedule*>> wanted_schedules() {
  static const auto& read = *new Result<std::vector<const UserSchedule*>>(read_proven_schedules(env().schedules));
  return read;
}
// What they say, for the comparison between ranks: files may lie elsewhere.
std::string digests(const std::vector<const UserSchedule*>& schedules) {
  std::string text;
  for (const UserSchedule* one : schedules) text += fmt::format("{}{:016x}", text.empty() ? "" : ",", one->digest);
  return text;
}

// Ranks of one host divided by the CPUs that at least one of them may use, rounded up.
int ranks_per_core(const std::vector<int>& ranks, const std::vector<MachineFacts>& facts) {
  std::vector<uint8_t> together;
  for (const int rank : ranks) {
    const std::vector<uint8_t>& mask = facts[static_cast<size_t>(rank)].cpu_mask;
    together.resize(std::max(together.size(), mask.size()));
    for (size_t i = 0; i < mask.size(); ++i) together[i] |= mask[i];
  }
  int cpus = 0;
  for (const uint8_t byte : together) cpus += __builtin_popcount(byte);
  return (static_cast<int>(ranks.size()) + std::max(cpus, 1) - 1) / std::max(cpus, 1);
}

// TUTTI_TRANSPORTS, or the configuration's text.
struct Allowed {
  bool inproc = true, shm = true, rdma = true, tcp = true;
  bool rdma_named = false;  // not only allowed: it has to work, and serves ranks of one host as well

  static Result<Allowed> parse(std::string_view text) {
    bool named = false;
    for (std::string_view rest = text; !rest.empty();) {
      std::string_view one = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(one.size() + 1, rest.size()));
      named |= one == "rdma";
      if (one.substr(0, 1) == "^") one.remove_prefix(1);
      if (one != "auto" && one != "inproc" && one != "shm" && one != "rdma" && one != "tcp") {
        return invalid_argument(
            "TUTTI_TRANSPORTS: '{}' is not known; use auto, or some of inproc, shm, rdma, tcp (with ^: "
            "all but these)",
            one);
      }
    }
    return Allowed{filter_admits(text, "inproc"), filter_admits(text, "shm"), filter_admits(text, "rdma"),
                   filter_admits(text, "tcp"), named};
  }
};

template <size_t kSize>
std::array<std::byte, kSize> as_bytes(const std::array<uint8_t, kSize>& numbers) {
  std::array<std::byte, kSize> bytes;
  std::transform(numbers.begin(), numbers.end(), bytes.begin(),
                 [](uint8_t one) { return static_cast<std::byte>(one); });
  return bytes;
}

// The ranks by host, and which of them share memory. Equal on all ranks.
class Hosts {
 public:
  Hosts(const std::vector<Member>& members, const Allowed& allowed) : members_(members), allowed_(allowed) {
    for (const Member& member : members) by_host_[member.host].push_back(member.rank);
  }
  const std::map<HostId, std::vector<int>>& all() const { return by_host_; }
  const std::vector<int>& of(int rank) const { return by_host_.at(members_[static_cast<size_t>(rank)].host); }
  // Through the memory of one process, or through a memory object.
  bool by_process(const std::vector<int>& ranks) const {
    const Member& first = members_[static_cast<size_t>(ranks.front())];
    return allowed_.inproc && std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
             return members_[static_cast<size_t>(rank)].same_process(first);
           });
  }
  bool share_memory(const std::vector<int>& ranks) const {
    return ranks.size() > 1 && (by_process(ranks) || allowed_.shm);
  }
  // For schedules, a host is whose ranks share memory: where they may not, each rank is one.
  std::shared_ptr<const HostTable> places() const { return std::make_shared<const HostTable>(together()); }
  // By rank: the first of those that it shares memory with.
  std::vector<int> together() const {
    std::vector<int> host_of(members_.size());
    for (const auto& [host, ranks] : by_host_) {
      const bool shared = share_memory(ranks);
      for (const int rank : ranks) host_of[static_cast<size_t>(rank)] = shared ? ranks.front() : rank;
    }
    return host_of;
  }

 private:
  const std::vector<Member>& members_;
  const Allowed allowed_;
  std::map<HostId, std::vector<int>> by_host_;
};

void tighten(Summary& summary, const TransportLimits& limits) {
  summary.slot_capacity = std::min(summary.slot_capacity, limits.capacity);
  summary.ll_slots = std::min(summary.ll_slots, limits.ll_slots);
  summary.most_channels = std::min(summary.most_channels, limits.channels);
}

ArenaShape arena_shape(const std::vector<int>& local_ranks, const std::vector<MachineFacts>& machines) {
  return {.local_ranks = static_cast<int>(local_ranks.size()),
          .buffer_bytes = env().buffer_bytes,
          .share_cores = ranks_per_core(local_ranks, machines) > 1};
}

// Which NICs may carry data between hosts, and which each rank has.
struct Nics {
  NameList list;
  std::string text;
  const std::vector<MachineFacts>* machines = nullptr;  // by rank

  std::vector<SocketAddress> admitted(std::span<const SocketAddress> addresses, int rank) const {
    std::vector<SocketAddress> left;
    for (const SocketAddress& one : addresses)
      if (list.admits((*machines)[static_cast<size_t>(rank)].interface_of(one))) left.push_back(one);
    return left;
  }
  // The interfaces of a rank that may not.
  std::string excluded(int rank) const {
    std::vector<std::string_view> names;
    for (const LocalInterface& one : (*machines)[static_cast<size_t>(rank)].interfaces)
      if (!list.admits(one.name) && std::find(names.begin(), names.end(), one.name) == names.end())
        names.push_back(one.name);
    return fmt::format("{}", fmt::join(names, ", "));
  }
};

Result<std::unique_ptr<TcpTransport>> open_tcp(Bootstrap& bootstrap, const Hosts& hosts, const Nics& nics) {
  TcpOptions options;
  options.secret = bootstrap.secret();
  options.tag = bootstrap.tag();
  options.me = bootstrap.rank();
  options.listener = &bootstrap.listener();
  options.buffer_bytes = env().buffer_bytes;
  options.connect_timeout_ms = env().timeout;
  const std::vector<int>& here = hosts.of(bootstrap.rank());
  for (const Member& member : bootstrap.members()) {
    NetworkPeer peer{{}, member.text()};
    // Ranks that share memory do not need sockets.
    const bool mapped = hosts.share_memory(here) && std::find(here.begin(), here.end(), member.rank) != here.end();
    if (!mapped && member.rank != bootstrap.rank())
      peer.addresses = nics.admitted(bootstrap.addresses_of(member.rank), member.rank);
    options.peers.push_back(std::move(peer));
  }
  return TcpTransport::create(std::move(options));
}

// The devices of this rank, if it may use some. Null: it goes without them.
Result<std::shared_ptr<RdmaDevices>> open_rdma(const Bootstrap& bootstrap, const Hosts& hosts, const Allowed& allowed,
                                               const std::string& nics) {
  if (!allowed.rdma || (hosts.all().size() == 1 && !allowed.rdma_named)) return std::shared_ptr<RdmaDevices>();
  TUTTI_ASSIGN_OR_RETURN(RdmaSettings settings, RdmaSettings::from_environment());
  settings.nics = nics;
  Result<std::shared_ptr<RdmaDevices>> opened = open_rdma_devices(settings);
  if (opened.ok()) return opened;
  if (allowed.rdma_named)
    return invalid_usage("TUTTI_TRANSPORTS asks for rdma, but {}; `tutti doctor` shows the devices",
                         opened.status().message());
  log_info(Subsystem::Transport, "{}: no rdma: {}", bootstrap.members()[static_cast<size_t>(bootstrap.rank())].text(),
           opened.status().message());
  return std::shared_ptr<RdmaDevices>();
}

// `ports`: what each rank has offered. `gpu`: of this rank, if it is on one. Null: nobody is reached this way.
Result<std::unique_ptr<Transport>> connect_rdma(Bootstrap& bootstrap, const Hosts& hosts, const Allowed& allowed,
                                                std::shared_ptr<RdmaDevices> devices, const std::vector<Bytes>& ports,
                                                RdmaGpuOptions gpu) {
  RdmaOptions options;
  options.secret = bootstrap.secret();
  options.tag = bootstrap.tag();
  options.me = bootstrap.rank();
  options.listener = &bootstrap.listener();
  options.buffer_bytes = env().buffer_bytes;
  options.connect_timeout_ms = env().timeout;
  TUTTI_ASSIGN_OR_RETURN(options.settings, RdmaSettings::from_environment());
  options.devices = std::move(devices);
  const std::vector<int>& here = hosts.of(bootstrap.rank());
  std::string without;
  for (const Member& member : bootstrap.members()) {
    RdmaPeer peer{{{}, member.text()}, {}};
    const bool same_host = std::find(here.begin(), here.end(), member.rank) != here.end();
    const bool wanted =
        member.rank != bootstrap.rank() && (!same_host || (allowed.rdma_named && !hosts.share_memory(here)));
    if (wanted) {
      const std::span<const SocketAddress> addresses = bootstrap.addresses_of(member.rank);
      peer.addresses.assign(addresses.begin(), addresses.end());
      TUTTI_ASSIGN_OR_RETURN(peer.ports, decode_ports(ports[static_cast<size_t>(member.rank)]));
      if (pair_ports(rdma_ports(*options.devices), peer.ports).empty())
        without += fmt::format("{}{}", without.empty() ? "; not to ranks without a port of the same network: " : ", ",
                               member.rank);
    }
    options.peers.push_back(std::move(peer));
  }
  const std::string me = options.peers[static_cast<size_t>(options.me)].label;
  options.gpu = std::move(gpu);
  TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Transport> rdma, RdmaTransport::create(std::move(options)));
  int reached = 0;
  for (const Member& member : bootstrap.members()) reached += rdma->reaches(member.rank);
  log_info(Subsystem::Transport, "{}: rdma to {} rank(s){}", me, reached, without);
  if (reached == 0) rdma.reset();
  return rdma;
}

// What each rank tells all before the memory is mapped.
struct Offer {
  ShmOffer shm;
  MemoryProbe probe;
};
// What each rank tells all when it has mapped it.
struct Outcome {
  uint64_t digest = 0;
  uint64_t reads_all = 0;  // 1: I can read the memory of every other rank
};

// Whether this rank can read every other's memory; the others are asked as well (Outcome).
bool reads_all_peers(const Bootstrap& bootstrap, const std::vector<Offer>& offers, RemoteMemory& memory) {
  const Member& me = bootstrap.members()[static_cast<size_t>(bootstrap.rank())];
  std::vector<bool> same_process, other_process;
  std::vector<pid_t> processes;
  std::vector<MemoryProbe> probes;
  for (const Member& member : bootstrap.members()) {
    const MemoryProbe& probe = offers[static_cast<size_t>(member.rank)].probe;
    same_process.push_back(member.same_process(me));
    other_process.push_back(!same_process.back());
    processes.push_back(static_cast<pid_t>(probe.process));
    probes.push_back(probe);
  }
  memory = RemoteMemory(std::move(same_process), std::move(processes));
  const std::string refused = try_probes(probes, other_process);
  if (!refused.empty())
    log_info(Subsystem::Transport, "{}: single copies by the kernel are off: {}", me.text(), refused);
  return refused.empty();
}

// One rank's transports in the making: those that are ready, and the shared memory that needs its leader's offer.
struct Preparation {
  std::vector<std::unique_ptr<Transport>> ready;
  std::unique_ptr<ShmSetup> shm;
  std::shared_ptr<RdmaDevices> devices;  // those of this rank, until it is known who is reached through them
  RdmaGpuOptions direct;                 // how they reach its GPU, if it is on one

  // `gpu`: of this rank; null: it is on none.
  Status begin(Bootstrap& bootstrap, const Hosts& hosts, const Allowed& allowed, const Nics& nics, bool need_network,
               const gpu::CudaDevicePtr& gpu) {
    const HostGroup group{bootstrap.rank(), hosts.of(bootstrap.rank())};
    if (hosts.share_memory(group.ranks)) {
      TUTTI_ASSIGN_OR_RETURN(const ArenaLayout layout, ArenaLayout::compute(arena_shape(group.ranks, *nics.machines)));
      if (hosts.by_process(group.ranks)) {
        TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Transport> inproc,
                               InprocTransport::create(as_bytes(bootstrap.tag().bytes), group, layout));
        ready.push_back(std::move(inproc));
      } else {
        const ShmKey key{as_bytes(bootstrap.secret().bytes), as_bytes(bootstrap.tag().bytes)};
        TUTTI_ASSIGN_OR_RETURN(ShmSetup setup, ShmSetup::begin(key, group, layout));
        shm = std::make_unique<ShmSetup>(std::move(setup));
      }
    }
    if (need_network) {
      TUTTI_ASSIGN_OR_RETURN(devices, open_rdma(bootstrap, hosts, allowed, nics.text));
    }
    if (devices != nullptr && gpu != nullptr) {
      const std::string me = bootstrap.members()[static_cast<size_t>(bootstrap.rank())].text();
      Direct found = find_direct(gpu, rdma_ports(*devices), me);
      keep_rdma_devices(*devices, found.cards);
      direct = std::move(found.gpu);
    }
    if (need_network && allowed.tcp) {
      TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Transport> tcp, open_tcp(bootstrap, hosts, nics));
      ready.push_back(std::move(tcp));
    }
    return {};
  }
  bool direct_both_ways() const { return !direct.name.empty() && direct.not_in.empty() && direct.not_out.empty(); }
  Bytes ports() const { return devices != nullptr ? encode_ports(rdma_ports(*devices)) : Bytes(); }
  Status reach(Bootstrap& bootstrap, const Hosts& hosts, const Allowed& allowed, const std::vector<Bytes>& ports) {
    if (devices == nullptr) return {};
    TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Transport> rdma,
                           connect_rdma(bootstrap, hosts, allowed, std::move(devices), ports, direct));
    if (rdma != nullptr) ready.insert(ready.begin(), std::move(rdma));  // before tcp
    return {};
  }
  Offer offer() const { return {shm != nullptr ? shm->offer() : ShmOffer(), offer_probe()}; }
  Status finish(const std::vector<Offer>& offers, int leader, const Deadline& deadline) {
    if (shm == nullptr) return {};
    const ShmOffer& offer = offers[static_cast<size_t>(leader)].shm;
    TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Transport> mapped, shm->finish(offer, deadline));
    ready.insert(ready.begin(), std::move(mapped));
    return {};
  }
  // Whether the NICs that are left reach everybody; without a restriction Connections says what is wrong.
  Status check_nics(const Bootstrap& bootstrap, const Nics& nics) const {
    if (nics.text.empty()) return {};
    for (const Member& member : bootstrap.members()) {
      const bool reached = member.rank == bootstrap.rank() ||
                           std::any_of(ready.begin(), ready.end(), [&](const std::unique_ptr<Transport>& transport) {
                             return transport->reaches(member.rank);
                           });
      if (!reached)
        return invalid_usage("no NIC is left to reach {}: '{}' ({}) excludes {}, and no RDMA device is left either",
                             member.text(), nics.text, kNicList, nics.excluded(member.rank));
    }
    return {};
  }
};

// What each rank said in the exchange of step 3: an offer of memory and a graph, empty but from the leaders of hosts;
// its RDMA ports, and whether they reach its GPU's memory both ways; and the handle of that memory.
Status read_words(const std::vector<Bytes>& words, std::vector<Offer>& offers, std::vector<Bytes>& graphs,
                  std::vector<Bytes>& ports, std::vector<bool>& direct, std::vector<gpu::CudaIpcHandle>& handles) {
  offers.resize(words.size());
  handles.resize(words.size());
  for (size_t rank = 0; rank < words.size(); ++rank) {
    ByteReader reader(words[rank]);
    const std::span<const std::byte> offer = reader.sized(sizeof(Offer));
    const std::span<const std::byte> graph = reader.sized(JobGraph::kMostBytes);
    graphs.emplace_back(graph.begin(), graph.end());
    const std::span<const std::byte> its_ports = reader.sized(kMostWord);
    ports.emplace_back(its_ports.begin(), its_ports.end());
    direct.push_back(reader.number<uint8_t>() == 1);
    if (offer.size() == sizeof(Offer)) std::memcpy(&offers[rank], offer.data(), sizeof(Offer));
    const std::span<const std::byte> handle = reader.sized(sizeof(gpu::CudaIpcHandle));
    if (handle.size() == sizeof(gpu::CudaIpcHandle)) std::memcpy(&handles[rank], handle.data(), handle.size());
    if (!reader.finished() || offer.size() != sizeof(Offer) || handle.size() != sizeof(gpu::CudaIpcHandle))
      return error(Code::InternalError, "rank {} sent a malformed offer during initialisation", rank);
  }
  return {};
}

// What connects the hosts, as far as ports and ranks tell before a device is asked. Alike on all ranks.
Result<Wire> wire_of(const std::vector<Bytes>& ports, const std::vector<bool>& direct) {
  std::vector<std::vector<RdmaPort>> decoded;
  for (const Bytes& one : ports) {
    TUTTI_ASSIGN_OR_RETURN(std::vector<RdmaPort> its, decode_ports(one));
    decoded.push_back(std::move(its));
  }
  if (!share_a_network(decoded)) return Wire::Sockets;
  return std::find(direct.begin(), direct.end(), false) == direct.end() ? Wire::RdmaOfGpus : Wire::Rdma;
}

// Where the ranks sit: empty if all are on the CPU. Alike on all of them, also the errors.
Result<CudaSeats> seats_of(const Bootstrap& bootstrap, const std::vector<MachineFacts>& machines, const Hosts& hosts) {
  const std::vector<Member>& members = bootstrap.members();
  std::vector<CudaSeat> found;
  for (const MachineFacts& one : machines) found.push_back(one.seat);
  if (std::all_of(found.begin(), found.end(), [](const CudaSeat& one) { return one.ordinal < 0; })) return CudaSeats();
  CudaSeats seats(std::move(found), members, hosts.together(), env().cuda_relay);
  if (!seats.stepped()) return seats;
  if (seats.bridged())
    return invalid_usage(
        "several processes share a GPU, and not all ranks of the communicator are on GPUs of one host (or shared "
        "memory is excluded by TUTTI_TRANSPORTS or the configuration): give each process a GPU of its own, or drive "
        "all ranks of a GPU from one process");
  for (const int process : seats.processes()) {
    if (seats.ranks_of(process).size() > 1)
      return invalid_usage(
          "{} and others are driven by one process, while several processes share a GPU: where processes share GPUs, "
          "each drives one rank; or drive all ranks from one process",
          members[static_cast<size_t>(process)].text());
  }
  return seats;
}

// Once in each process.
void log_routes(const CudaSeats& seats, const std::string& name, int rank) {
  const CudaSeats::Island& island = seats.island_of(rank);
  if (seats.of(rank).process != rank || island.routes.all_direct()) return;
  log_info(Subsystem::Transport, "{} rank {}: pairs of GPUs (by their lowest ranks) that do not map each other: {}",
           name, rank, island.routes.describe(island.gpus));
}

// All ranks have to derive the same view of the job, or they would plan differently.
Status compare_digests(const Bootstrap& bootstrap, const std::vector<Outcome>& outcomes) {
  const size_t me = static_cast<size_t>(bootstrap.rank());
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].digest != outcomes[me].digest) {
      return error(
          Code::InternalError,
          "{} derived another view of the job than {}: give all ranks the same TUTTI_PROFILE, or please report it",
          bootstrap.members()[rank].text(), bootstrap.members()[me].text());
    }
  }
  return {};
}

}  // namespace

// What the environment and the caller ask for. The text is what all ranks have to agree on.
struct Communicator::Configuration {
  Allowed allowed;
  std::string nics;
  std::string text;
  uint64_t digest() const { return std::hash<std::string>{}(text); }
  ChildOptions child(int color, int key) const { return {color, key, digest(), text, TUTTI_VERSION_CODE}; }
};

Result<std::unique_ptr<Communicator>> Communicator::configure(const CommOptions& options,
                                                              Configuration& configuration) {
  TUTTI_TRY(env_status());
  TUTTI_TRY(parse_signal(env().dump_signal));
  TUTTI_TRY(RdmaSettings::from_environment());
  for (const std::string& unknown : unknown_env())
    log_warn(Subsystem::Init, "{} is set but not a variable of Tutti; `tutti env` lists them", unknown);
  const Env& environment = env();
  const std::string transports = options.transports.empty() ? environment.transports : options.transports;
  TUTTI_ASSIGN_OR_RETURN(configuration.allowed, Allowed::parse(transports));
  configuration.nics = options.nics.empty() ? environment.nics : options.nics;
  TUTTI_TRY(parse_nic_list(configuration.nics).status());

  std::unique_ptr<Communicator> comm(new Communicator);
  comm->options_ = options;
  comm->options_.cancelled = nullptr;
  comm->cancelled_ = options.cancelled != nullptr ? options.cancelled : std::make_shared<std::atomic<bool>>(false);
  comm->poll_count_ = static_cast<int>(environment.poll_count);
  Summary& summary = comm->summary_;
  summary.algorithms = options.algorithms.empty() ? environment.algorithm : options.algorithms;
  summary.protocols = options.protocols.empty() ? environment.protocol : options.protocols;
  TUTTI_ASSIGN_OR_RETURN(summary.profile, wanted_profile());
  TUTTI_ASSIGN_OR_RETURN(summary.schedules, wanted_schedules());
  summary.min_channels = options.min_channels > 0 ? options.min_channels : static_cast<int>(environment.min_channels);
  summary.max_channels = options.max_channels > 0 ? options.max_channels : static_cast<int>(environment.max_channels);
  summary.slice_bytes = environment.slice_bytes;
  TUTTI_TRY(check_restrictions(summary));
  configuration.text = fmt::format(
      "TUTTI_ALGO={}\nTUTTI_PROTO={}\nTUTTI_TRANSPORTS={}\nTUTTI_MIN_CHANNELS={}\nTUTTI_MAX_CHANNELS={}\n"
      "TUTTI_SLICE_BYTES={}\nTUTTI_BUFFER_BYTES={}\nTUTTI_RDMA_QUEUE_PAIRS={}\nTUTTI_SCHEDULES={}\nTUTTI_NICS={}"
      "\nTUTTI_CUDA_RELAY={}\n",
      summary.algorithms, summary.protocols, transports, summary.min_channels, summary.max_channels,
      summary.slice_bytes, environment.buffer_bytes, environment.rdma_queue_pairs, digests(summary.schedules),
      configuration.nics, environment.cuda_relay);
  return comm;
}

Result<std::unique_ptr<Communicator>> Communicator::join(JoinOptions rendezvous, const CommOptions& options) {
  Configuration configuration;
  TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> comm, configure(options, configuration));
  const Bytes facts = MachineFacts::read(options.device).encode();
  rendezvous.info = facts;
  rendezvous.library_version = TUTTI_VERSION_CODE;
  rendezvous.config_text = configuration.text;
  rendezvous.config_digest = configuration.digest();
  rendezvous.cancelled = comm->cancelled_;
  Result<std::unique_ptr<Bootstrap>> bootstrap = Bootstrap::join(rendezvous);
  Status made = bootstrap.status();
  if (made.ok()) made = comm->establish(std::move(*bootstrap), configuration);
  if (!made.ok() && comm->cancelled_->load(std::memory_order_acquire)) return comm->aborted();
  TUTTI_TRY(made);
  return comm;
}

Result<std::unique_ptr<Communicator>> Communicator::split(Communicator& parent, int color, int key,
                                                          const CommOptions& options) {
  Configuration configuration;
  TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> child, configure(options, configuration));
  if (child->options_.name.empty()) child->name_ = fmt::format("{}/{}", parent.name_, color);
  return adopt(parent, parent.bootstrap_->split(configuration.child(color, key)), std::move(child), configuration);
}

Result<std::unique_ptr<Communicator>> Communicator::shrink(Communicator& parent, const std::vector<int>& excluded,
                                                           const CommOptions& options) {
  Configuration configuration;
  TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> child, configure(options, configuration));
  if (child->options_.name.empty()) child->name_ = fmt::format("{}/shrunk", parent.name_);
  return adopt(parent, parent.bootstrap_->shrink(excluded, configuration.child(0, 0)), std::move(child), configuration);
}

// Until the child is there, aborting the parent gives it up; from then on it has a flag of its own.
Result<std::unique_ptr<Communicator>> Communicator::adopt(Communicator& parent,
                                                          Result<std::unique_ptr<Bootstrap>> bootstrap,
                                                          std::unique_ptr<Communicator> child,
                                                          const Configuration& configuration) {
  const CancelFlag own = std::exchange(child->cancelled_, parent.cancelled_);
  Status made = bootstrap.status();
  if (made.ok() && *bootstrap == nullptr) return std::unique_ptr<Communicator>();  // no colour
  if (made.ok()) made = child->establish(std::move(*bootstrap), configuration);
  if (!made.ok() && parent.cancelled_->load(std::memory_order_acquire)) return parent.aborted();
  TUTTI_TRY(made);
  child->cancelled_ = own;
  child->bootstrap_->set_cancel_flag(own);
  return child;
}

Status Communicator::establish(std::unique_ptr<Bootstrap> joined, const Configuration& configuration) {
  // 1 Who is there.
  bootstrap_ = std::move(joined);
  Bootstrap& bootstrap = *bootstrap_;
  Summary& summary = summary_;
  const Allowed& allowed = configuration.allowed;
  rank_ = bootstrap.rank();
  n_ = summary.n = bootstrap.size();
  const auto& tag = bootstrap.tag().bytes;
  if (!options_.name.empty()) name_ = options_.name;
  if (name_.empty()) name_ = fmt::format("comm-{:02x}{:02x}{:02x}{:02x}", tag[0], tag[1], tag[2], tag[3]);

  // 2 Hosts, and what their ranks share.
  std::vector<MachineFacts> machines;
  for (const Bytes& one : bootstrap.infos()) {
    TUTTI_ASSIGN_OR_RETURN(MachineFacts decoded, MachineFacts::decode(one));
    machines.push_back(std::move(decoded));
  }
  // What one rank finds wrong here all find; of its GPU each learns for itself.
  const Hosts hosts(bootstrap.members(), allowed);
  TUTTI_ASSIGN_OR_RETURN(const CudaSeats seats, seats_of(bootstrap, machines, hosts));
  Status on_device;
  if (seats.on_gpu(rank_)) {
    log_routes(seats, name_, rank_);
    Result<std::shared_ptr<CudaTeam>> joined =
        CudaTeam::join({seats, seats.of(rank_).process, bootstrap.secret(), bootstrap.tag()});
    on_device = joined.status();
    if (joined.ok()) cuda_ = std::move(*joined);
  }
  const std::vector<int>& here = hosts.of(rank_);
  summary.hosts = static_cast<int>(hosts.all().size());
  summary.mapped = n_ == 1 || (summary.hosts == 1 && hosts.share_memory(here));
  if (!summary.mapped) summary.places = hosts.places();
  if (summary.profile == nullptr) summary.profile = &built_in_profile(machines.front().cpu_vendor);
  for (const MachineFacts& one : machines) summary.cache_bytes = std::min(summary.cache_bytes, one.cache_bytes);
  for (const auto& [host, ranks] : hosts.all()) {
    summary.ranks_per_core = std::max(summary.ranks_per_core, ranks_per_core(ranks, machines));
    if (n_ > 1 && !hosts.share_memory(ranks)) continue;
    TUTTI_ASSIGN_OR_RETURN(const ArenaLayout layout, ArenaLayout::compute(arena_shape(ranks, machines)));
    tighten(summary, layout.limits());
  }
  Preparation preparation;
  TUTTI_ASSIGN_OR_RETURN(NameList admitted, parse_nic_list(configuration.nics));
  const Nics nics{std::move(admitted), configuration.nics, &machines};
  Status begun = preparation.begin(bootstrap, hosts, allowed, nics, !summary.mapped,
                                   cuda_ != nullptr ? cuda_->gpu_of(rank_) : gpu::CudaDevicePtr());
  if (!on_device.ok()) begun = on_device;
  for (const auto& transport : preparation.ready) {
    if (!transport->mapped()) tighten(summary, transport->limits());
  }

  // 3 to 5 Everybody is prepared; map the leader's memory; everybody has, and will plan alike.
  if (n_ > 1) {
    ByteWriter word;
    const Offer mine = preparation.offer();
    word.sized(std::as_bytes(std::span(&mine, 1)));
    const Result<const Bytes*> graph = rank_ == here.front() ? JobGraph::this_host() : nullptr;
    word.sized(graph.ok() && *graph != nullptr ? **graph : Bytes());
    word.sized(preparation.ports());
    word.number(static_cast<uint8_t>(preparation.direct_both_ways()));
    const gpu::CudaIpcHandle handle = cuda_ != nullptr ? cuda_->handle_of(rank_) : gpu::CudaIpcHandle();
    word.sized(std::as_bytes(std::span(&handle, 1)));
    const Status prepared = begun.ok() ? graph.status() : begun;
    TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> words, exchange(bootstrap, prepared, word.bytes()));
    std::vector<Offer> offers;
    std::vector<Bytes> graphs, ports;
    std::vector<bool> direct;
    std::vector<gpu::CudaIpcHandle> handles;
    TUTTI_TRY(read_words(words, offers, graphs, ports, direct, handles));
    // All ranks plan alike, whoever of them is reached over RDMA in the end.
    if (std::any_of(ports.begin(), ports.end(), [](const Bytes& one) { return !one.empty(); })) {
      TUTTI_ASSIGN_OR_RETURN(const TransportLimits limits, RdmaTransport::limits_for(n_, env().buffer_bytes));
      tighten(summary, limits);
    }
    std::vector<Bytes> of_hosts;
    for (const auto& [host, ranks] : hosts.all())
      of_hosts.push_back(std::move(graphs[static_cast<size_t>(ranks.front())]));
    job_graph_.set(std::move(of_hosts));
    const Deadline deadline = Deadline::in_ms(env().init_timeout).or_when(cancelled_.get());
    Status finished = preparation.reach(bootstrap, hosts, allowed, ports);
    if (finished.ok()) finished = preparation.finish(offers, here.front(), deadline);
    if (finished.ok()) finished = preparation.check_nics(bootstrap, nics);
    // The first rank of each process, for all of them.
    if (finished.ok() && cuda_ != nullptr && seats.of(rank_).process == rank_)
      finished = cuda_->connect(handles, deadline);
    if (seats.bridged()) {
      TUTTI_ASSIGN_OR_RETURN(const Wire wire, wire_of(ports, direct));
      bound_by_gpus(seats, wire, summary);
    }
    Outcome outcome{summary_digest(summary)};
    if (finished.ok() && summary.mapped) outcome.reads_all = reads_all_peers(bootstrap, offers, memory_);
    TUTTI_ASSIGN_OR_RETURN(const std::vector<Outcome> outcomes, exchange_words(bootstrap, finished, outcome));
    TUTTI_TRY(compare_digests(bootstrap, outcomes));
    summary.single_copy = std::all_of(outcomes.begin(), outcomes.end(), [](const Outcome& o) { return o.reads_all; });
  }
  TUTTI_TRY(begun);
  if (cuda_ != nullptr && !seats.bridged()) cuda_->describe_in(summary);
  if (n_ == 1 && !env().topology_file.empty()) TUTTI_TRY(JobGraph::this_host().status());
  if (rank_ == 0 && !env().topology_dump_file.empty()) {
    const Status written = job_graph_.write(env().topology_dump_file);
    if (!written.ok()) log_warn(Subsystem::Topology, "TUTTI_TOPO_DUMP_FILE: {}", written.message());
  }

  // 6 What each does, where the others can read it.
  std::vector<Board*> pages(static_cast<size_t>(n_), nullptr);
  const MappedTransport* shared = nullptr;
  for (const auto& transport : preparation.ready) {
    if (transport->mapped()) shared = static_cast<const MappedTransport*>(transport.get());
  }
  if (shared != nullptr) {
    for (const int rank : here)
      pages[static_cast<size_t>(rank)] = reinterpret_cast<Board*>(shared->control_page(rank).data());
  }
  TUTTI_ASSIGN_OR_RETURN(connections_, Connections::create(rank_, n_, std::move(preparation.ready), !seats.bridged()));
  std::string id;
  for (const uint8_t byte : tag) id += fmt::format("{:02x}", byte);
  TUTTI_TRY(begin_observation(std::move(id)));
  TUTTI_TRY(start_health(std::move(pages), [shared](int rank) { return shared->alive(rank); }));
  cores_ = connections_.core_map();
  if (cuda_ != nullptr) TUTTI_TRY(cuda_->enter(rank_, *this));
  log_info(Subsystem::Init, "{}: {} of {}, {} host(s), {} rank(s) here, {} rank(s) per core, {}{}", name_,
           bootstrap.members()[static_cast<size_t>(rank_)].text(), n_, summary.hosts, here.size(),
           summary.ranks_per_core, summary.mapped ? "all slots mapped" : "over a network",
           summary.single_copy ? ", single copies" : "");
  return {};
}

Status Communicator::finalize() {
  drain();
  if (failed()) return failure();
  const Status met = n_ > 1 ? bootstrap_->barrier() : Status();
  if (met.ok()) return {};
  fail(cancelled_->load(std::memory_order_acquire) ? aborted() : met);
  return failure();
}

void Communicator::abort() {
  fail(aborted());
  cancelled_->store(true, std::memory_order_release);  // pairs with Deadline::cancelled
  if (cuda_ != nullptr) cuda_->stop(failure());
}

Status Communicator::aborted() const { return invalid_usage("{}: rank {} was aborted (tuttiCommAbort)", name_, rank_); }

// Nobody is inside: calls under way hold a reference, or are waited for by who drops the last one (api/handles.h).
Communicator::~Communicator() {
  if (cuda_ != nullptr) cuda_->leave(rank_);
  if (health_ != nullptr) health_->leave();
}

Status Communicator::start_health(std::vector<Board*> pages, std::function<bool(int)> alive) {
  Health::Options options;
  options.rank = rank_;
  options.members = bootstrap_->members();
  options.name = name_;
  std::memcpy(&options.tag, bootstrap_->tag().bytes.data(), sizeof options.tag);
  options.timeout_ms = env().timeout;
  options.warn_ms = env().warn_after;
  options.check_cycles = env().check_cycles;
  const bool others = n_ > 1 && std::count(pages.begin(), pages.end(), nullptr) > 0;
  health_ = std::make_unique<Health>(std::move(options), std::move(pages), std::move(alive));
  if (others)
    TUTTI_TRY(health_->watch_others(*bootstrap_, Deadline::in_ms(env().init_timeout).or_when(cancelled_.get())));
  return {};
}

}  // namespace tutti
