// SPDX-License-Identifier: Apache-2.0
// `tutti run`: starts N processes that find each other (tuttiCommInitEnv), on this host or over ssh, for a quick start.
// Clusters have launchers of their own (docs/launch.md).
#include <fmt/core.h>

#include <array>
#include <memory>

#include "base/env.h"
#include "net/crypto.h"
#include "net/socket.h"
#include "tools/tutti/command.h"
#include "tools/tutti/run/launcher.h"

namespace tutti::tool {
namespace {

struct Options {
  int ranks = 0;
  std::string hosts, master, ssh = "ssh -o BatchMode=yes";
  int port = 0;
  bool prefix = false;
  double grace_s = 5;
  std::vector<std::string> forward, command;
};

[[noreturn]] void fail(const std::string& why) {
  fmt::print(stderr, "tutti run: {}\n", why);
  throw CLI::RuntimeError(2);
}

std::string random_text() {
  std::array<uint8_t, 32> bytes;
  random_bytes(bytes);
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// A port that is free on this host; for another one, one at random below those that kernels hand out.
Result<int> choose_port(bool here) {
  if (!here) {
    constexpr int kFirst = 20'000, kPorts = 12'000;
    std::array<uint8_t, 2> dice;
    random_bytes(dice);
    return kFirst + (dice[0] << 8 | dice[1]) % kPorts;
  }
  TUTTI_ASSIGN_OR_RETURN(const UniqueFd probe, listen_tcp(SocketAddress::ipv4(in_addr{htonl(INADDR_LOOPBACK)}, 0)));
  TUTTI_ASSIGN_OR_RETURN(const SocketAddress bound, address_of_socket(probe.get()));
  return static_cast<int>(bound.port());
}

void run(const Options& options) {
  if (const Status ready = crypto_ready(); !ready.ok()) fail(ready.message());
  RunPlan plan;
  if (options.hosts.empty()) {
    for (int rank = 0; rank < options.ranks; ++rank) plan.ranks.push_back({"", rank, options.ranks});
  } else {
    std::string why;
    plan.ranks = place_ranks(options.hosts, options.ranks, why);
    if (plan.ranks.empty()) fail("--hosts: " + why);
  }
  const bool here = options.hosts.empty();
  plan.command = options.command;
  plan.ssh = CLI::detail::split_up(options.ssh);
  plan.forward = options.forward;
  for (const EnvVariable& row : env_variables())
    if (std::string_view(row.name) != "TUTTI_JOB_SECRET") plan.forward.emplace_back(row.name);
  plan.master_address = options.master;
  if (plan.master_address.empty()) {
    const std::string& first = plan.ranks.front().host;
    plan.master_address = here ? "127.0.0.1" : first.substr(first.rfind('@') + 1);
  }
  plan.master_port = options.port;
  if (options.port == 0) {
    const Result<int> port = choose_port(here);
    if (!port.ok()) fail(port.status().message());
    plan.master_port = *port;
  }
  plan.secret = environment_variable("TUTTI_JOB_SECRET").value_or("");
  if (plan.secret.empty()) plan.secret = random_text();
  plan.prefix = options.prefix;
  plan.grace_ms = static_cast<int>(options.grace_s * 1000);
  if (const int status = run_ranks(plan); status != 0) throw CLI::RuntimeError(status);
}

}  // namespace

void add_run(CLI::App& app) {
  CLI::App* command = app.add_subcommand("run", "Start N ranks of a program, here or on other hosts over ssh");
  const auto options = std::make_shared<Options>();
  constexpr int kMostRanks = 65536, kMostPort = 65531;
  command->add_option("-n,--ranks", options->ranks, "Number of ranks")->required()->check(CLI::Range(1, kMostRanks));
  command->add_option("--hosts", options->hosts,
                      "Over ssh, e.g. a,b or a:4,b:2; hosts without a number share the rest");
  command->add_option("--master", options->master,
                      "Address of rank 0 as the others reach it; else the first host's name");
  command->add_option("--port", options->port, "Port of the rendezvous there; else one that is free, or at random")
      ->check(CLI::Range(1, kMostPort));
  command->add_option("--ssh", options->ssh, "The remote shell and its options")->capture_default_str();
  command->add_option("-x,--env", options->forward,
                      "Variable that ranks on other hosts get as well (TUTTI_* they get)");
  command->add_option("--grace", options->grace_s, "Seconds between asking ranks to end and ending them")
      ->capture_default_str();
  command->add_flag("--prefix", options->prefix, "Begin each line of output with its rank");
  command->add_option("command", options->command, "After --: the program and its arguments")->required();
  command->callback([options] { run(*options); });
}

}  // namespace tutti::tool
