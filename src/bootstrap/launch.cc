// SPDX-License-Identifier: Apache-2.0
// See launch.h.
#include "bootstrap/launch.h"

#include <algorithm>
#include <charconv>

#include "base/env.h"
#include "base/log.h"
#include "bootstrap/rendezvous.h"

namespace tutti {
namespace {

using Lookup = std::function<std::optional<std::string>(const char* name)>;

Result<int> number_of(const Lookup& lookup, const char* name, std::optional<int> fallback, int least, int most) {
  const auto text = lookup(name);
  if (!text) {
    if (fallback) return *fallback;
    return invalid_usage(
        "{} is not set: start the ranks with a launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT "
        "(e.g. torchrun), or use tuttiCommInitRank",
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

}  // namespace

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
  bool parsed = colon != std::string_view::npos && !host.empty() && (bracketed || host.find_first_of(":[]") == host.npos);
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
  TUTTI_ASSIGN_OR_RETURN(const auto resolved, resolve(launch.master_host, launch.master_port));
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
  if (!job_secret.empty()) return secret_from_text("job secret " + job_secret);
  if (launch.rank == 0) {
    log_warn(Subsystem::Bootstrap,
             "the rendezvous at {}:{} is not authenticated: set TUTTI_JOB_SECRET to the same random text on all ranks",
             launch.master_host, launch.master_port);
  }
  return secret_from_text(fmt::format("no secret {}:{}", launch.master_host, launch.master_port));
}

}  // namespace tutti
