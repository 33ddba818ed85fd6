// SPDX-License-Identifier: Apache-2.0
// `tutti plan picture`: the steps of an algorithm of the catalog, rank by rank: the pictures of docs/algorithms.md, for
// any number of ranks and any hosts.
#include <fmt/core.h>

#include <memory>
#include <vector>

#include "algo/catalog.h"
#include "algo/draw.h"
#include "tools/tutti/output.h"

namespace tutti::tool {
namespace {

struct Options {
  std::string collective, algorithm;
  int ranks = 4, root = 0;
  std::vector<int> hosts;
};

void run(const Options& options) {
  const Coll* coll = find_coll(options.collective);
  const Algo* algo = find_algo(options.algorithm);
  const CatalogRow* row = coll != nullptr && algo != nullptr ? find_row(*coll, *algo) : nullptr;
  if (row == nullptr || *algo == Algo::User) {
    std::string known;
    for (const CatalogRow& one : catalog()) {
      if ((coll == nullptr || one.coll == *coll) && one.algo != Algo::User)
        known += fmt::format("\n  {} {}", name(one.coll), name(one.algo));
    }
    fail(fmt::format("there is no {} {}; there are{}", options.collective, options.algorithm, known), 2);
  }
  std::vector<int> host_of;
  for (size_t host = 0; host < options.hosts.size(); ++host)
    host_of.insert(host_of.end(), static_cast<size_t>(options.hosts[host]), static_cast<int>(host));
  const int n = host_of.empty() ? options.ranks : static_cast<int>(host_of.size());
  const auto hosts = host_of.empty() ? nullptr : std::make_unique<HostTable>(host_of);
  const Ranks ranks(n, hosts != nullptr ? &hosts->map() : nullptr);
  if (const std::string_view lacks = row->lacks(ranks); !lacks.empty())
    fail(fmt::format("{} {} {}; --hosts 2,2 puts two ranks on each of two hosts", name(row->coll), name(row->algo),
                       lacks), 2);
  if (options.root >= n) fail(fmt::format("there is no rank {} among {}", options.root, n), 2);
  fmt::print("{}", draw_schedule(*row, ranks, options.root));
}

}  // namespace

void add_plan_picture(CLI::App& plan) {
  CLI::App* command = plan.add_subcommand("picture", "Draw the steps of an algorithm, rank by rank");
  const auto options = std::make_shared<Options>();
  constexpr int kMostRanks = 1024;
  command->add_option("collective", options->collective, "e.g. all_reduce")->required();
  command->add_option("algorithm", options->algorithm, "e.g. ring")->required();
  command->add_option("--ranks", options->ranks, "How many")->check(CLI::Range(1, kMostRanks))->capture_default_str();
  command->add_option("--hosts", options->hosts, "Ranks on each host, e.g. 2,2; instead of --ranks")
      ->delimiter(',')
      ->check(CLI::Range(1, kMostRanks));
  command->add_option("--root", options->root, "Of a rooted collective")->check(CLI::NonNegativeNumber);
  command->callback([options] { run(*options); });
}

}  // namespace tutti::tool
