// SPDX-License-Identifier: Apache-2.0
// See launch.h.
#include "bootstrap/launch.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <initializer_list>

#include "base/env.h"
#include "base/fork.h"
#include "base/log.h"
#include "bootstrap/pmi.h"
#include "bootstrap/pmix.h"
#include "bootstrap/rendezvous.h"

namespace tutti {
namespace {

using Lookup = Launch::Lookup;

Result<int> number_of(const Lookup& lookup, const char* name, std::optional<int> fallback, int least, int most) {
  const auto text = lookup(name);
  if (!text) {
    if (fallback) return *fallback;
    return invalid_usage(
        "{} is not set: start the ranks with a launcher (tutti run, mpirun, srun, torchrun), set RANK, WORLD_SIZE, "
        "MASTER_ADDR and MASTER_PORT, or use tuttiCommInitRank",
        name);
  }
  int value = 0;
  const auto [end, failure] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (failure != std::errc() || end != text->data() + text->size() || value < least || value > most) {
    return invalid_argument("{}='{}' does not parse: expected a number from {} to {}", name, *text, least, most);
  }
  return value;
}

bool exactly_loopback(const SocketAddress& address) {
  return address == SocketAddress::ipv4(in_addr{htonl(INADDR_LOOPBACK)}, address.port()) ||
         address == SocketAddress::ipv6(in6addr_loopback, address.port());
}

// Where rank 0 listens, given what MASTER_ADDR resolves to: everywhere, since the name may resolve differently on each
// host (Debian's own name is 127.0.1.1), but for a job that names the loopback itself.
std::vector<std::vector<SocketAddress>> listen_choices(const std::vector<SocketAddress>& resolved) {
  if (std::ranges::all_of(resolved, exactly_loopback)) {
    std::vector<std::vector<SocketAddress>> choices;
    for (const SocketAddress& address : resolved) choices.push_back({address});
    return choices;
  }
  return {{SocketAddress::any_ipv6(0)}, {SocketAddress::any_ipv4(0)}};  // the latter on hosts without IPv6
}

Status start_at(const Launch& launch, const std::vector<SocketAddress>& resolved, const Secret& secret) {
  Status first;
  for (int i = 0; i < kLaunchPorts; ++i) {
    for (const auto& addresses : listen_choices(resolved)) {
      const auto port = static_cast<uint16_t>(launch.master_port + i);
      // No lingering: the next communicator of the job meets at the same port.
      auto rendezvous = Rendezvous::open({.secret = secret, .linger_ms = 0}, addresses, port);
      if (rendezvous.ok()) return Rendezvous::run_in_background(std::move(*rendezvous));
      if (first.ok()) first = rendezvous.status();
    }
  }
  return first;
}

bool set(const Lookup& lookup, std::initializer_list<const char*> names) {
  return std::ranges::all_of(names, [&](const char* name) { return lookup(name).has_value(); });
}

Launch at_meeting(const LaunchPlace& place, Meeting meeting) {
  Launch launch;
  launch.rank = place.rank;
  launch.ranks = place.ranks;
  launch.local_rank = place.local_rank;
  launch.by_address = true;
  launch.master_port = meeting.addresses.front().port();
  launch.master_host = meeting.addresses.front().text();
  launch.meeting = std::move(meeting);
  return launch;
}

Result<std::string> my_meeting() {
  TUTTI_ASSIGN_OR_RETURN(const Meeting meeting, Meeting::here());
  return meeting.text();
}

Result<Launch> find_by_pmix() {
  TUTTI_ASSIGN_OR_RETURN(const PmixAnswer answer, share_by_pmix(env().pmix_library, my_meeting));
  TUTTI_ASSIGN_OR_RETURN(Meeting meeting, Meeting::parse(answer.text));
  return at_meeting(answer.place, std::move(meeting));
}

Result<Launch> find_by_pmi(const Lookup& lookup) {
  constexpr int kMostDescriptors = 1 << 20;
  LaunchPlace place;
  TUTTI_ASSIGN_OR_RETURN(const int fd, number_of(lookup, "PMI_FD", std::nullopt, 0, kMostDescriptors));
  TUTTI_ASSIGN_OR_RETURN(place.ranks, number_of(lookup, "PMI_SIZE", std::nullopt, 1, kMaxRanks));
  TUTTI_ASSIGN_OR_RETURN(place.rank, number_of(lookup, "PMI_RANK", std::nullopt, 0, place.ranks - 1));
  for (const char* name : {"MPI_LOCALRANKID", "SLURM_LOCALID"}) {
    if (!lookup(name)) continue;
    TUTTI_ASSIGN_OR_RETURN(place.local_rank, number_of(lookup, name, 0, 0, kMaxRanks));
  }
  const Result<std::string> mine = place.rank == 0 ? my_meeting() : std::string();
  // The others wait for something, even if it is that there is none.
  TUTTI_ASSIGN_OR_RETURN(const std::string text, share_by_pmi(fd, place.rank, mine.ok() ? *mine : kNoMeeting,
                                                              Deadline::in_ms(env().init_timeout)));
  TUTTI_TRY(mine.status());
  TUTTI_ASSIGN_OR_RETURN(Meeting meeting, Meeting::parse(text));
  return at_meeting(place, std::move(meeting));
}

// What the launcher's store says, asked for once per process: its barrier admits each rank once. Other threads wait for
// the one that asks; no lock is held meanwhile, for that may take as long as the last rank takes to start, and a fork
// waits for all locks. A child that was forked in the middle asks by itself.
template <class Ask>
Result<Launch> ask_once(Ask ask) {
  static std::atomic<const Launch*> found = nullptr;  // release and acquire: the Launch it points to
  static std::atomic<uint64_t> asking = 0;            // the process_generation() of who asks; 0: nobody
  for (;;) {
    if (const Launch* const known = found.load(std::memory_order_acquire); known != nullptr) return *known;
    uint64_t seen = asking.load();
    if (seen == process_generation()) {
      asking.wait(seen);
      continue;
    }
    if (asking.compare_exchange_strong(seen, process_generation())) break;
  }
  Result<Launch> launch = ask();
  if (launch.ok()) found.store(new Launch(*launch), std::memory_order_release);
  asking.store(0);
  asking.notify_all();
  return launch;
}

}  // namespace

std::string first_of_host_list(std::string_view list) {
  std::string name;
  for (size_t at = 0; at < list.size() && list[at] != ','; ++at) {
    if (list[at] != '[') {
      name += list[at];
      continue;
    }
    // Of a range or list the first number, as it is written.
    const size_t end = list.find_first_of(",-]", at + 1), close = list.find(']', at);
    if (end == list.npos || close == list.npos) return {};
    name += list.substr(at + 1, end - at - 1);
    at = close;
  }
  return name;
}

Result<Launch> Launch::of_slurm(const Lookup& lookup) {
  Launch launch;
  const char* const size = lookup("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  TUTTI_ASSIGN_OR_RETURN(launch.ranks, number_of(lookup, size, std::nullopt, 1, kMaxRanks));
  TUTTI_ASSIGN_OR_RETURN(launch.rank, number_of(lookup, "SLURM_PROCID", std::nullopt, 0, launch.ranks - 1));
  TUTTI_ASSIGN_OR_RETURN(launch.local_rank, number_of(lookup, "SLURM_LOCALID", 0, 0, kMaxRanks));
  const std::string hosts = lookup("SLURM_STEP_NODELIST").value_or(lookup("SLURM_JOB_NODELIST").value_or(""));
  launch.master_host = first_of_host_list(hosts);
  if (launch.master_host.empty())
    return invalid_usage("SLURM_STEP_NODELIST='{}' names no host: set MASTER_ADDR and MASTER_PORT, RANK and WORLD_SIZE",
                         hosts);
  // A port of the step's own, so that steps which share a host do not meet; below the range the kernel hands out.
  constexpr int kFirst = 20'000, kPorts = 12'000;
  const std::string step = lookup("SLURM_JOB_ID").value_or("0") + "." + lookup("SLURM_STEP_ID").value_or("0");
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : step) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  launch.master_port = static_cast<uint16_t>(kFirst + hash % (kPorts / kLaunchPorts) * kLaunchPorts);
  launch.by_address = true;
  return launch;
}

Result<Launch> Launch::find(const Lookup& lookup) {
  if (set(lookup, {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})) return parse(lookup);
  const bool pmix = set(lookup, {"PMIX_NAMESPACE", "PMIX_RANK"});
  if (pmix || set(lookup, {"PMI_FD", "PMI_RANK", "PMI_SIZE"}))
    return ask_once([&] { return pmix ? find_by_pmix() : find_by_pmi(lookup); });
  if (set(lookup, {"SLURM_STEP_ID", "SLURM_PROCID"})) return of_slurm(lookup);
  return parse(lookup);  // says what is missing
}

Result<Launch> Launch::parse(const Lookup& lookup) {
  Launch launch;
  TUTTI_ASSIGN_OR_RETURN(launch.ranks, number_of(lookup, "WORLD_SIZE", std::nullopt, 1, kMaxRanks));
  TUTTI_ASSIGN_OR_RETURN(launch.rank, number_of(lookup, "RANK", std::nullopt, 0, launch.ranks - 1));
  TUTTI_ASSIGN_OR_RETURN(launch.local_rank, number_of(lookup, "LOCAL_RANK", 0, 0, kMaxRanks));
  TUTTI_ASSIGN_OR_RETURN(const int port, number_of(lookup, "MASTER_PORT", std::nullopt, 1, 65535 - kLaunchPorts));
  launch.master_port = static_cast<uint16_t>(port);
  const auto host = lookup("MASTER_ADDR");
  if (!host || host->empty()) {
    return invalid_usage("MASTER_ADDR is not set: it names the host of rank 0; launchers like torchrun set it");
  }
  launch.master_host = *host;
  return launch;
}

Result<Launch> Launch::at(std::string_view address, int ranks, int rank) {
  Launch launch;
  launch.ranks = ranks;
  launch.rank = rank;
  launch.by_address = true;
  const size_t colon = address.rfind(':');
  std::string_view host = address.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  int port = 0;
  bool parsed =
      colon != std::string_view::npos && !host.empty() && (bracketed || host.find_first_of(":[]") == host.npos);
  if (parsed) {
    const char* const end = address.data() + address.size();
    const auto [stop, failure] = std::from_chars(address.data() + colon + 1, end, port);
    parsed = failure == std::errc() && stop == end && port >= 1 && port <= 65535 - kLaunchPorts;
  }
  if (!parsed) {
    return invalid_argument(
        "the address '{}' does not parse: expected host:port or [IPv6]:port with a port from 1 to {}, where rank 0 "
        "listens",
        address, 65535 - kLaunchPorts);
  }
  launch.master_host = host;
  launch.master_port = static_cast<uint16_t>(port);
  return launch;
}

Result<JoinOptions> rendezvous_at(const Launch& launch, const Secret& secret) {
  TUTTI_TRY(crypto_ready());
  std::vector<SocketAddress> resolved;
  if (launch.meeting) {
    resolved = launch.meeting->addresses;
  } else {
    TUTTI_ASSIGN_OR_RETURN(resolved, resolve(launch.master_host, launch.master_port));
  }
  if (launch.rank == 0) TUTTI_TRY(start_at(launch, resolved, secret));
  JoinOptions options;
  for (int i = 0; i < kLaunchPorts; ++i) {
    for (const SocketAddress& address : resolved) {
      options.rendezvous.push_back(address.with_port(static_cast<uint16_t>(launch.master_port + i)));
    }
  }
  options.secret = secret;
  options.ranks = launch.ranks;
  options.rank = launch.rank;
  options.timeout_ms = env().init_timeout;
  options.keep_trying = true;
  options.remedy = fmt::format("rank 0 must be running on {}{} and {}{} must be reachable from here",
                               launch.by_address ? "" : "MASTER_ADDR=", launch.master_host,
                               launch.by_address ? "its port " : "MASTER_PORT=", launch.master_port);
  return options;
}

Secret launch_secret(const Launch& launch, const std::string& job_secret) {
  if (launch.meeting) return launch.meeting->secret;
  if (!job_secret.empty()) return secret_from_text("job secret " + job_secret);
  if (launch.rank == 0) {
    log_warn(Subsystem::Bootstrap,
             "the rendezvous at {}:{} is not authenticated: set TUTTI_JOB_SECRET to the same random text on all ranks",
             launch.master_host, launch.master_port);
  }
  return secret_from_text(fmt::format("no secret {}:{}", launch.master_host, launch.master_port));
}

}  // namespace tutti
