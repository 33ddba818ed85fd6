// SPDX-License-Identifier: Apache-2.0
// An algorithm that TUTTI_ALGO asks for is the one that runs (the flight recorder tells), with the right values; and on
// several hosts with several ranks each the planner takes the hierarchical one by itself.
#include "schedules/job.h"

namespace schedules_test {
namespace {

struct Forced {
  const char* collective;
  const char* algorithm;
  std::vector<int> hosts;
  std::vector<size_t> counts;  // float64 elements
};

void PrintTo(const Forced& forced, std::ostream* out) {
  *out << forced.collective << " " << forced.algorithm << " on " << forced.hosts.size() << " host(s)";
}

class ForcedAlgorithm : public testing::TestWithParam<Forced> {};

TEST_P(ForcedAlgorithm, Runs) {
  const Forced& forced = GetParam();
  const Folder folder;
  int n = 0;
  for (const int size : forced.hosts) n += size;
  on_hosts(forced.hosts,
           [&](int rank, tuttiComm_t comm) {
             for (const size_t count : forced.counts) {
               for (int root = 0; root < n; root += 2) call_and_check(forced.collective, count, rank, n, root, comm);
             }
             const std::set<std::string> ran =
                 algorithms_run(comm, forced.collective, folder / ("dump-" + std::to_string(rank)));
             EXPECT_EQ(ran, std::set<std::string>{forced.algorithm});
           },
           {{"TUTTI_ALGO", std::string(forced.collective) + ":" + forced.algorithm}});
}

const std::vector<size_t> kAnySize = {1, 513, 100'003};
const std::vector<size_t> kSmall = {1, 7, 500};

INSTANTIATE_TEST_SUITE_P(
    OneHost, ForcedAlgorithm,
    testing::Values(Forced{"all_reduce", "torus", {6}, kAnySize}, Forced{"all_gather", "pat", {5}, kSmall},
                    Forced{"all_gather", "bruck", {5}, kSmall}, Forced{"reduce_scatter", "pat", {5}, kSmall},
                    Forced{"all_to_all", "bruck", {5}, kSmall}, Forced{"broadcast", "ring", {4}, kAnySize}));
INSTANTIATE_TEST_SUITE_P(TwoHosts, ForcedAlgorithm,
                         testing::Values(Forced{"all_reduce", "hierarchical", {2, 2}, kAnySize},
                                         Forced{"all_reduce", "torus", {2, 2}, kAnySize},
                                         Forced{"reduce", "hierarchical", {2, 3}, kAnySize},
                                         Forced{"broadcast", "hierarchical", {3, 2}, kAnySize},
                                         Forced{"all_gather", "hierarchical", {3, 2}, kAnySize},
                                         Forced{"all_gather", "pat", {3, 2}, kSmall},
                                         Forced{"reduce_scatter", "hierarchical", {1, 3}, kAnySize},
                                         Forced{"all_to_all", "hierarchical", {2, 2}, kSmall}));
INSTANTIATE_TEST_SUITE_P(ThreeHosts, ForcedAlgorithm,
                         testing::Values(Forced{"all_reduce", "hierarchical", {3, 1, 2}, kAnySize},
                                         Forced{"reduce", "hierarchical", {2, 2, 2}, kAnySize},
                                         Forced{"broadcast", "hierarchical", {1, 2, 2}, kAnySize},
                                         Forced{"all_gather", "hierarchical", {1, 3, 2}, kAnySize},
                                         Forced{"reduce_scatter", "hierarchical", {2, 2, 2}, kAnySize},
                                         Forced{"all_to_all", "hierarchical", {2, 2, 2}, kSmall}));

TEST(Choice, TakesTheHierarchyOfTheHosts) {
  const Folder folder;
  on_hosts({3, 3}, [&](int rank, tuttiComm_t comm) {
    for (const char* collective : {"all_reduce", "all_gather", "reduce_scatter"}) {
      call_and_check(collective, 100'000, rank, 6, 0, comm);
      const std::set<std::string> ran = algorithms_run(comm, collective, folder / ("dump-" + std::to_string(rank)));
      EXPECT_EQ(ran, std::set<std::string>{"hierarchical"}) << collective;
    }
  });
}

TEST(Choice, IsRestrictedByTheConfiguration) {
  const Folder folder;
  api_test::in_children(2, [&](int rank, launcher::Page& page) {
    const tuttiUniqueId id = api_test::shared_id(rank, page);
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.algorithms = "all_reduce:ring";
    config.protocols = "simple";
    tuttiComm_t comm = nullptr;
    ASSERT_OK(tuttiCommInitRankConfig(&comm, 2, id, rank, &config));
    call_and_check("all_reduce", 10, rank, 2, 0, comm);
    EXPECT_EQ(algorithms_run(comm, "all_reduce", folder / ("dump-" + std::to_string(rank))),
              std::set<std::string>{"ring"});
    EXPECT_OK(tuttiCommDestroy(comm));
  });
  api_test::in_child([] {
    tuttiUniqueId id;
    ASSERT_OK(tuttiGetUniqueId(&id));
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.algorithms = "all_reduce:carousel";
    tuttiComm_t comm = nullptr;
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_INVALID_ARGUMENT, "'carousel' is not known");
    config.algorithms = nullptr, config.size = offsetof(tuttiConfig_t, algorithms);  // built against an older header
    EXPECT_OK(tuttiCommInitRankConfig(&comm, 1, id, 0, &config));
    EXPECT_OK(tuttiCommDestroy(comm));
  });
}

// A rank finds that nothing is left, or hears it from the other, whichever is first.
void expect_no_nic(tuttiResult_t result, const tuttiComm_t comm, std::string_view why) {
  EXPECT_TRUE(result == TUTTI_INVALID_USAGE || result == TUTTI_REMOTE_ERROR) << result;
  EXPECT_NE(std::string_view(tuttiGetLastError(comm)).find(why), std::string_view::npos) << tuttiGetLastError(comm);
}

// Over sockets, as between hosts.
TEST(Choice, OfNicsIsRestrictedByTheConfiguration) {
  const auto join = [](const char* nics, auto&& check) {
    api_test::in_children(2, [&](int rank, launcher::Page& page) {
      const tuttiUniqueId id = api_test::shared_id(rank, page);
      tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
      config.netName = "tcp";
      config.nics = nics;
      check(rank, id, config);
    });
  };
  join("^nosuch", [](int rank, const tuttiUniqueId& id, const tuttiConfig_t& config) {
    tuttiComm_t comm = nullptr;
    ASSERT_OK(tuttiCommInitRankConfig(&comm, 2, id, rank, &config));
    call_and_check("all_reduce", 10, rank, 2, 0, comm);
    // A child is as its parent, unless it says otherwise.
    tuttiComm_t child = nullptr;
    EXPECT_OK(tuttiCommSplit(comm, 0, rank, &child, nullptr));
    EXPECT_OK(tuttiCommDestroy(child));
    tuttiConfig_t none = config;
    none.nics = "=nosuch";
    expect_no_nic(tuttiCommSplit(comm, 0, rank, &child, &none), nullptr, "no NIC is left to reach");
    EXPECT_OK(tuttiCommDestroy(comm));
  });
  join("=nosuch", [](int rank, const tuttiUniqueId& id, const tuttiConfig_t& config) {
    tuttiComm_t comm = nullptr;
    expect_no_nic(tuttiCommInitRankConfig(&comm, 2, id, rank, &config), nullptr,
                  "'=nosuch' (TUTTI_NICS, --nics or nics of the configuration) excludes ");
  });
  join("lo,,eth", [](int rank, const tuttiUniqueId& id, const tuttiConfig_t& config) {
    tuttiComm_t comm = nullptr;
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 2, id, rank, &config), TUTTI_INVALID_ARGUMENT, "does not parse");
  });
}

TEST(Choice, SaysWhatWasExcludedWhenNothingIsLeft) {
  api_test::in_ranks(2,
                     [](int, tuttiComm_t comm) {
                       double one = 1;
                       EXPECT_FAILS(tuttiAllReduce(&one, &one, 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr),
                                    TUTTI_INVALID_USAGE, "hierarchical/simple: needs several hosts");
                       EXPECT_FAILS(tuttiAllReduce(&one, &one, 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr),
                                    TUTTI_INVALID_USAGE, "ring/simple: excluded by TUTTI_ALGO");
                     },
                     {{"TUTTI_ALGO", "all_reduce:hierarchical"}});
}

}  // namespace
}  // namespace schedules_test
