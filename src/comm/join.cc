// SPDX-License-Identifier: Apache-2.0
// Joining: from a place to meet to a communicator that can carry calls.
//
//   1 join the bootstrap: every rank learns every rank's host, process and machine facts
//   2 group the ranks by host; prepare the memory they share and the sockets between hosts
//   3 out of band: everybody's preparation worked, and here is each host leader's offer of memory
//   4 map it
//   5 out of band: everybody has, and all derived the same Summary
//
// After each exchange all ranks know the same, so a failure of one is an error on all that names it.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/env.h"
#include "base/log.h"
#include "comm/communicator.h"
#include "net/wire.h"
#include "transports/inproc/inproc_transport.h"
#include "transports/shm/shm_transport.h"
//TCP#include "transports/tcp/tcp_transport.h"

namespace tutti {
namespace {

constexpr size_t kShelves = 256;

// What a rank knows of its machine and all need to know.
struct MachineFacts {
  uint64_t cache_bytes = 0;       // L2 of a core
  std::vector<uint8_t> cpu_mask;  // CPUs this rank may run on

  static MachineFacts read() {
    MachineFacts facts;
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
    return writer.take();
  }
  static Result<MachineFacts> decode(std::span<const std::byte> bytes) {
    ByteReader reader(bytes);
    MachineFacts facts;
    facts.cache_bytes = reader.number<uint64_t>();
    const std::span<const std::byte> mask = reader.sized(CPU_SETSIZE / 8);
    if (!reader.finished()) return error(Code::InternalError, "a rank's machine facts are malformed");
    for (const std::byte byte : mask) facts.cpu_mask.push_back(static_cast<uint8_t>(byte));
    return facts;
  }
};

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
  bool inproc = true, shm = true, tcp = true;

  static Result<Allowed> parse(std::string_view text) {
    if (text.empty() || text == "auto") return Allowed{};
    const bool exclude = text.front() == '^';
    Allowed allowed{exclude, exclude, exclude};
    std::string_view rest = exclude ? text.substr(1) : text;
    while (!rest.empty()) {
      const std::string_view one = rest.substr(0, rest.find(','));
      rest = one.size() < rest.size() ? rest.substr(one.size() + 1) : std::string_view();
      bool* named = one == "inproc" ? &allowed.inproc : one == "shm" ? &allowed.shm : one == "tcp" ? &allowed.tcp : nullptr;
      if (named == nullptr) {
        return invalid_argument("TUTTI_TRANSPORTS: '{}' is not known; use auto, or some of inproc, shm, tcp (or ^ and "
                                "those to leave out)",
                                one);
      }
      *named = !exclude;
    }
    return allowed;
  }
};

// An out-of-band exchange of "how it went here" and something for the others. An error of one is an error of all.
constexpr size_t kMostWord = 1 << 16;
Result<std::vector<Bytes>> exchange(Bootstrap& bootstrap, const Status& mine, std::span<const std::byte> payload) {
  ByteWriter writer;
  writer.number(static_cast<uint32_t>(mine.code()));
  writer.sized(mine.message());
  writer.sized(payload);
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> all, bootstrap.all_gather(writer.bytes()));
  std::vector<Bytes> payloads;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    ByteReader reader(all[rank]);
    const auto code = static_cast<Code>(reader.number<uint32_t>());
    const std::string text = reader.text(kMostWord);
    const std::span<const std::byte> theirs = reader.sized(kMostWord);
    payloads.emplace_back(theirs.begin(), theirs.end());
    if (!reader.finished()) return error(Code::InternalError, "rank {} sent a malformed word during initialisation", rank);
    if (static_cast<int>(rank) == bootstrap.rank()) {
      TUTTI_TRY(mine);
    } else if (code != Code::Ok) {
      return Status(Code::RemoteError, fmt::format("{}: {}", bootstrap.members()[rank].text(), text));
    }
  }
  return payloads;
}

}  // namespace

Result<std::unique_ptr<Communicator>> Communicator::join(JoinOptions rendezvous, const CommOptions& options) {
  TUTTI_TRY(env_status());
  for (const std::string& name : unknown_env())
    log_warn(Subsystem::Init, "{} is set but not a variable of Tutti; `tutti env` lists them", name);
  const Env& environment = env();
  const std::string transports_text = options.transports.empty() ? environment.transports : options.transports;
  TUTTI_ASSIGN_OR_RETURN(const Allowed allowed, Allowed::parse(transports_text));

  std::unique_ptr<Communicator> comm(new Communicator);
  Summary& summary = comm->summary_;
  summary.algorithms = environment.algorithm;
  summary.protocols = environment.protocol;
  summary.min_channels = options.min_channels > 0 ? options.min_channels : static_cast<int>(environment.min_channels);
  summary.max_channels = options.max_channels > 0 ? options.max_channels : static_cast<int>(environment.max_channels);
  summary.slice_bytes = environment.slice_bytes;
  TUTTI_TRY(check_restrictions(summary));

  const MachineFacts mine = MachineFacts::read();
  const Bytes info = mine.encode();
  rendezvous.info = info;
  rendezvous.config_text = fmt::format(
      "TUTTI_ALGO={}\nTUTTI_PROTO={}\nTUTTI_TRANSPORTS={}\nTUTTI_MIN_CHANNELS={}\nTUTTI_MAX_CHANNELS={}\n"
      "TUTTI_SLICE_BYTES={}\nTUTTI_BUFFER_BYTES={}\n",
      summary.algorithms, summary.protocols, transports_text, summary.min_channels, summary.max_channels,
      summary.slice_bytes, environment.buffer_bytes);
  rendezvous.config_digest = std::hash<std::string>{}(rendezvous.config_text);

  // 1 Who is there.
  TUTTI_ASSIGN_OR_RETURN(comm->bootstrap_, Bootstrap::join(rendezvous));
  Bootstrap& bootstrap = *comm->bootstrap_;
  const int me = comm->rank_ = bootstrap.rank();
  const int n = comm->n_ = bootstrap.size();
  comm->name_ = options.name.empty() ? fmt::format("comm-{:02x}{:02x}{:02x}{:02x}", bootstrap.tag().bytes[0],
                                                   bootstrap.tag().bytes[1], bootstrap.tag().bytes[2],
                                                   bootstrap.tag().bytes[3])
                                     : options.name;
  comm->timeout_ms_ = environment.timeout;
  comm->poll_count_ = static_cast<int>(environment.poll_count);
  comm->shelves_.resize(kShelves);

  std::vector<MachineFacts> facts;
  for (const Bytes& one : bootstrap.infos()) {
    TUTTI_ASSIGN_OR_RETURN(MachineFacts decoded, MachineFacts::decode(one));
    facts.push_back(std::move(decoded));
  }

  // 2 Hosts, and what their ranks share.
  const std::vector<Member>& members = bootstrap.members();
  std::map<HostId, std::vector<int>> hosts;
  for (const Member& member : members) hosts[member.host].push_back(member.rank);
  const HostGroup group{me, hosts[members[static_cast<size_t>(me)].host]};
  const auto one_process = [&](const std::vector<int>& ranks) {
    return std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
      return members[static_cast<size_t>(rank)].same_process(members[static_cast<size_t>(ranks.front())]);
    });
  };
  const auto maps = [&](const std::vector<int>& ranks) {
    return ranks.size() > 1 && ((allowed.inproc && one_process(ranks)) || allowed.shm);
  };

  summary.n = n;
  summary.hosts = static_cast<int>(hosts.size());
  summary.mapped = n == 1 || (hosts.size() == 1 && maps(group.ranks));
  summary.cache_bytes = UINT64_MAX;
  for (const MachineFacts& one : facts) summary.cache_bytes = std::min(summary.cache_bytes, one.cache_bytes);
  summary.slot_capacity = UINT64_MAX;
  summary.ll_slots = UINT64_MAX;
  summary.most_channels = INT32_MAX;
  const auto limit = [&](const TransportLimits& limits) {
    summary.slot_capacity = std::min(summary.slot_capacity, limits.capacity);
    summary.ll_slots = std::min(summary.ll_slots, limits.ll_slots);
    summary.most_channels = std::min(summary.most_channels, limits.channels);
  };
  for (const auto& [host, ranks] : hosts) {
    summary.ranks_per_core = std::max(summary.ranks_per_core, ranks_per_core(ranks, facts));
    if (!maps(ranks)) continue;
    TUTTI_ASSIGN_OR_RETURN(const ArenaLayout layout,
                           ArenaLayout::compute({static_cast<int>(ranks.size()), 0, environment.buffer_bytes}));
    limit(layout.limits());
  }

  std::vector<std::unique_ptr<Transport>> transports;
  std::unique_ptr<ShmSetup> shm;
  Status prepared;
  const Deadline deadline = Deadline::in_ms(environment.init_timeout);
  const auto prepare = [&]() -> Status {
    if (maps(group.ranks)) {
      TUTTI_ASSIGN_OR_RETURN(const ArenaLayout layout,
                             ArenaLayout::compute({static_cast<int>(group.ranks.size()), 0, environment.buffer_bytes}));
      if (allowed.inproc && one_process(group.ranks)) {
        CommunicatorTag tag;
        std::transform(bootstrap.tag().bytes.begin(), bootstrap.tag().bytes.end(), tag.begin(),
                       [](uint8_t byte) { return static_cast<std::byte>(byte); });
        TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<Transport> inproc, InprocTransport::create(tag, group, layout));
        transports.push_back(std::move(inproc));
      } else {
        ShmKey key;
        std::transform(bootstrap.secret().bytes.begin(), bootstrap.secret().bytes.end(), key.secret.begin(),
                       [](uint8_t byte) { return static_cast<std::byte>(byte); });
        std::transform(bootstrap.tag().bytes.begin(), bootstrap.tag().bytes.end(), key.tag.begin(),
                       [](uint8_t byte) { return static_cast<std::byte>(byte); });
        TUTTI_ASSIGN_OR_RETURN(ShmSetup setup, ShmSetup::begin(key, group, layout));
        shm = std::make_unique<ShmSetup>(std::move(setup));
      }
    }
    if (n > 1 && !summary.mapped && allowed.tcp) {
//TCP      TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<TcpTransport> tcp, make_tcp_transport(bootstrap, environment.buffer_bytes));
//TCP      limit(tcp->limits());
//TCP      transports.push_back(std::move(tcp));
    }
    return {};
  };
  prepared = prepare();

  // 3 and 4 Everybody is prepared; fetch the leader's memory.
  if (n > 1) {
    const std::span<const std::byte> offer =
        shm != nullptr ? std::as_bytes(std::span(&shm->offer(), 1)) : std::span<const std::byte>();
    TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> offers, exchange(bootstrap, prepared, offer));
    Status mapped;
    if (shm != nullptr) {
      const Bytes& leaders = offers[static_cast<size_t>(group.ranks.front())];
      ShmOffer from_leader;
      if (leaders.size() == sizeof from_leader) {
        memcpy(&from_leader, leaders.data(), sizeof from_leader);
        Result<std::unique_ptr<ShmTransport>> finished = shm->finish(from_leader, deadline);
        mapped = finished.status();
        if (finished.ok()) transports.insert(transports.begin(), std::move(*finished));
      } else {
        mapped = error(Code::InternalError, "the leader of this host, rank {}, offered no memory", group.ranks.front());
      }
    }
    // 5 Everybody is ready and will plan alike.
    const uint64_t digest = summary_digest(summary);
    TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> digests,
                           exchange(bootstrap, mapped, std::as_bytes(std::span(&digest, 1))));
    for (size_t rank = 0; rank < digests.size(); ++rank) {
      if (digests[rank].size() != sizeof digest || memcmp(digests[rank].data(), &digest, sizeof digest) != 0) {
        return error(Code::InternalError, "{} derived another view of the job than {}: please report it",
                     members[rank].text(), members[static_cast<size_t>(me)].text());
      }
    }
  } else {
    TUTTI_TRY(prepared);
    summary.slot_capacity = 2 << 20;
    summary.ll_slots = 64;
    summary.most_channels = 1;
  }

  TUTTI_ASSIGN_OR_RETURN(comm->connections_, Connections::create(me, n, std::move(transports)));
  log_info(Subsystem::Init, "{}: {} of {}, {} host(s), {} rank(s) here, {} rank(s) per core, {}", comm->name_,
           members[static_cast<size_t>(me)].text(), n, summary.hosts, group.ranks.size(), summary.ranks_per_core,
           summary.mapped ? "all slots mapped" : "over a network");
  return comm;
}

Communicator::~Communicator() { drain(); }

}  // namespace tutti
