// SPDX-License-Identifier: Apache-2.0
// Schedules that users write: right ones run with right values on every transport, at the sizes they are for; wrong
// ones and different ones are refused at initialisation; `tutti plan verify` says why.
#include <array>
#include <cstdio>

#include "schedules/job.h"

namespace schedules_test {
namespace {

using nlohmann::json;

// A ring all-reduce, written as a user would.
json ring_all_reduce(int n) {
  json file = {{"format", 1}, {"name", "my ring"}, {"collective", "all_reduce"}, {"ranks", n}, {"blocks", n}};
  for (int me = 0; me < n; ++me) {
    json steps = json::array();
    for (int k = 0; k < 2 * n - 1; ++k) {
      const int block = ((me - 1 - k) % n + n) % n;
      json step;
      if (k > 0) step["from"] = {(me + n - 1) % n};
      if (k < 2 * n - 2) step["to"] = {(me + 1) % n};
      if (k < n) step["read"] = "input", step["block"] = block;
      if (k > 0 && k < n) step["reduce"] = true;
      if (k == n - 1) step["last"] = true;
      if (k >= n - 1) step["keep"] = block;
      steps.push_back(step);
    }
    file["steps"].push_back(steps);
  }
  return file;
}

// Everybody sends its block to everybody.
json star_all_gather(int n) {
  json file = {{"format", 1}, {"name", "my star"}, {"collective", "all_gather"}, {"ranks", n}};
  for (int me = 0; me < n; ++me) {
    json others = json::array(), steps = json::array();
    for (int peer = 0; peer < n; ++peer) {
      if (peer != me) others.push_back(peer);
    }
    steps.push_back({{"read", "input"}, {"keep", me}, {"to", others}});
    for (int peer = 0; peer < n; ++peer) {
      if (peer != me) steps.push_back({{"from", {peer}}, {"keep", peer}});
    }
    file["steps"].push_back(steps);
  }
  return file;
}

// From rank 1 straight to all.
json star_broadcast(int n) {
  json file = {{"format", 1}, {"name", "my broadcast"}, {"collective", "broadcast"}, {"ranks", n}, {"root", 1}};
  for (int me = 0; me < n; ++me) {
    json others = json::array();
    for (int peer = 0; peer < n; ++peer) {
      if (peer != 1) others.push_back(peer);
    }
    json step = {{"keep", 0}};
    if (me == 1) {
      step["read"] = "input", step["to"] = others;
    } else {
      step["from"] = {1};
    }
    file["steps"].push_back({step});
  }
  return file;
}

std::string write(const Folder& folder, const std::string& name, const json& file) {
  std::ofstream(folder / name) << file.dump(1);
  return folder / name;
}

class OnTransport : public testing::TestWithParam<const char*> {};

TEST_P(OnTransport, RunsWithRightValues) {
  const Folder folder;
  constexpr int kRanks = 4;
  const std::string files = write(folder, "ring.json", ring_all_reduce(kRanks)) + "," +
                            write(folder, "star.json", star_all_gather(kRanks)) + "," +
                            write(folder, "broadcast.json", star_broadcast(kRanks));
  const std::string transport = GetParam();
  on_hosts(transport == "hosts" ? std::vector<int>{2, 2} : std::vector<int>{kRanks},
           [&](int rank, tuttiComm_t comm) {
             for (const char* collective : {"all_reduce", "all_gather", "broadcast"}) {
               for (const size_t count : {0, 1, 3, 700, 100'003})
                 call_and_check(collective, count, rank, kRanks, 1, comm);
               EXPECT_EQ(algorithms_run(comm, collective, folder / ("dump-" + std::to_string(rank))),
                         std::set<std::string>{"user"})
                   << collective;
             }
             call_and_check("broadcast", 10, rank, kRanks, 0, comm);  // of another root: the catalog's
             EXPECT_EQ(algorithms_run(comm, "broadcast", folder / ("dump-" + std::to_string(rank))).size(), 2u);
           },
           {{"TUTTI_SCHEDULES", files}, {"TUTTI_TRANSPORTS", transport == "hosts" ? "auto" : transport}});
}
INSTANTIATE_TEST_SUITE_P(All, OnTransport, testing::Values("shm", "tcp", "hosts"),
                         [](const auto& info) { return std::string(info.param); });

TEST(UserSchedule, ServesItsSizesOnly) {
  const Folder folder;
  json ring = ring_all_reduce(3);
  ring["min_bytes"] = 1024, ring["max_bytes"] = 8192;
  on_hosts({3},
           [&](int rank, tuttiComm_t comm) {
             const std::string dump = folder / ("dump-" + std::to_string(rank));
             call_and_check("all_reduce", 16, rank, 3, 0, comm);
             call_and_check("all_reduce", 2000, rank, 3, 0, comm);
             EXPECT_FALSE(algorithms_run(comm, "all_reduce", dump).contains("user"));
             call_and_check("all_reduce", 1000, rank, 3, 0, comm);
             EXPECT_TRUE(algorithms_run(comm, "all_reduce", dump).contains("user"));
           },
           {{"TUTTI_SCHEDULES", write(folder, "ring.json", ring)}});
}

TEST(UserSchedule, IsSubjectToRestrictions) {
  const Folder folder;
  on_hosts(
      {2},
      [&](int rank, tuttiComm_t comm) {
        call_and_check("all_reduce", 100, rank, 2, 0, comm);
        EXPECT_FALSE(algorithms_run(comm, "all_reduce", folder / ("dump-" + std::to_string(rank))).contains("user"));
      },
      {{"TUTTI_SCHEDULES", write(folder, "ring.json", ring_all_reduce(2))}, {"TUTTI_ALGO", "^user"}});
}

TEST(UserSchedule, IsRefusedWhenItIsWrong) {
  const Folder folder;
  json ring = ring_all_reduce(3);
  ring["steps"][1][2]["keep"] = 2;  // its complete block, at another's place
  api_test::in_child(
      [&] {
        tuttiUniqueId id;
        ASSERT_OK(tuttiGetUniqueId(&id));
        tuttiComm_t comm = nullptr;
        EXPECT_FAILS(tuttiCommInitRank(&comm, 1, id, 0), TUTTI_INVALID_ARGUMENT, "ring.json may not run: ");
      },
      {{"TUTTI_SCHEDULES", write(folder, "ring.json", ring)}});
}

TEST(UserSchedule, IsRefusedWhenRanksHaveDifferentOnes) {
  const Folder folder;
  json other = ring_all_reduce(2);
  other["max_bytes"] = 4096;
  const std::string files[] = {write(folder, "a.json", ring_all_reduce(2)), write(folder, "b.json", other)};
  api_test::in_children(2, [&](int rank, launcher::Page& page) {
    setenv("TUTTI_SCHEDULES", files[rank].c_str(), 1);
    tuttiComm_t comm = nullptr;
    EXPECT_NE(tuttiCommInitRank(&comm, 2, api_test::shared_id(rank, page), rank), TUTTI_SUCCESS);
    EXPECT_NE(api_test::last_error().find("TUTTI_SCHEDULES"), std::string::npos) << api_test::last_error();
  });
}

struct Output {
  std::string text;
  int status = -1;
};
Output verify(const std::string& file) {
  Output output;
  FILE* pipe = ::popen((std::string(TUTTI_TOOL) + " plan verify --picture " + file + " 2>&1").c_str(), "re");
  if (pipe == nullptr) return output;
  std::array<char, 4096> bytes;
  for (size_t got; (got = std::fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) output.text.append(bytes.data(), got);
  output.status = WEXITSTATUS(::pclose(pipe));
  return output;
}

TEST(PlanVerify, ProvesAndDraws) {
  const Folder folder;
  const Output ring = verify(write(folder, "ring.json", ring_all_reduce(4)));
  EXPECT_EQ(ring.status, 0) << ring.text;
  EXPECT_NE(ring.text.find("proven: all_reduce \"my ring\" on 4 ranks"), std::string::npos) << ring.text;
  EXPECT_NE(ring.text.find("of 2 slot(s)"), std::string::npos) << ring.text;
  EXPECT_NE(ring.text.find("sends 1.5 and receives 1.5 times"), std::string::npos) << ring.text;
  EXPECT_NE(ring.text.find("rank 0  S[3]>1"), std::string::npos) << ring.text;
}

TEST(PlanVerify, ShowsTheCounterexample) {
  const Folder folder;
  json ring = ring_all_reduce(3);
  ring["steps"][2][1]["block"] = 2;
  const Output wrong = verify(write(folder, "ring.json", ring));
  EXPECT_EQ(wrong.status, 1) << wrong.text;
  for (const char* words : {"rank 2", "step 1", "different places", "1>RRS[2]>0"})
    EXPECT_NE(wrong.text.find(words), std::string::npos) << words << " in " << wrong.text;
}

TEST(PlanVerify, SaysWhatIsNoSchedule) {
  const Folder folder;
  const auto refused = [&](auto change, const char* words) {
    json ring = ring_all_reduce(2);
    change(ring);
    const Output output = verify(write(folder, "x.json", ring));
    EXPECT_EQ(output.status, 2) << output.text;
    EXPECT_NE(output.text.find(words), std::string::npos) << words << " in " << output.text;
  };
  refused([](json& f) { f = 3; }, "is not an object");
  refused([](json& f) { f["format"] = 2; }, "\"format\" is 2");
  refused([](json& f) { f["collective"] = "gossip"; }, "\"collective\" is 'gossip'");
  refused([](json& f) { f["ranks"] = 3; }, "not a list with 3 lists");
  refused([](json& f) { f["ranks"] = 4096; }, "\"ranks\" is 4096; it can be 2 to 256");
  refused([](json& f) { f["ranks"] = 256, f["channels"] = 64; }, "has 4194304 connections");
  refused([](json& f) { f["rank"] = 2; }, "has \"rank\", which means nothing");
  refused([](json& f) { f["root"] = 0; }, "its collective has none");
  refused([](json& f) { f["steps"][0][0]["to"] = {0}; }, "step 0 of rank 0 \"to\" names rank 0 itself");
  refused([](json& f) { f["steps"][0][0]["to"] = {7}; }, "no rank of 2");
  refused([](json& f) { f["steps"][1][0]["block"] = 2; }, "step 0 of rank 1 \"block\" is 2; it can be 0 to 1");
  refused([](json& f) { f["steps"][1][0]["read"] = "memory"; }, "reads neither");
  refused([](json& f) { f["steps"][1][0]["reduce"] = 1; }, "neither true nor false");
  const Output missing = verify(folder / "nothing.json");
  EXPECT_EQ(missing.status, 2);
  EXPECT_NE(missing.text.find("No such file"), std::string::npos) << missing.text;
}

}  // namespace
}  // namespace schedules_test
