// SPDX-License-Identifier: Apache-2.0
// Ranks that call different things: whatever differs, every rank is told what each group of ranks called, and where.
//
// The table is made of what can differ (operation, count, type, operator, root, order, group, message); a case is the
// calls of most ranks and those of the odd ones. The expected words are written here, not asked from the library.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "faults/job.h"

namespace faults {
namespace {

constexpr int kRanks = 4;
constexpr size_t kMostBytes = 1 << 16;

enum class Op { AllReduce, Reduce, Broadcast, AllGather, ReduceScatter, AllToAll, Gather, Scatter, Send, Recv };

struct Call {
  Op op = Op::AllReduce;
  size_t count = 16;
  tuttiDataType_t type = TUTTI_FLOAT32;
  tuttiRedOp_t reduce = TUTTI_SUM;
  int root = 0;  // of a message: the peer
};

const char* name_of(tuttiDataType_t type) {
  switch (type) {
    case TUTTI_INT8:
      return "int8";
    case TUTTI_INT32:
      return "int32";
    case TUTTI_INT64:
      return "int64";
    case TUTTI_FLOAT16:
      return "float16";
    case TUTTI_FLOAT32:
      return "float32";
    case TUTTI_FLOAT64:
      return "float64";
    case TUTTI_BFLOAT16:
      return "bfloat16";
    default:
      return "?";
  }
}
const char* name_of(tuttiRedOp_t op) {
  switch (op) {
    case TUTTI_SUM:
      return "sum";
    case TUTTI_PROD:
      return "prod";
    case TUTTI_MAX:
      return "max";
    case TUTTI_MIN:
      return "min";
    case TUTTI_AVG:
      return "avg";
    default:
      return "?";
  }
}
std::string words(const Call& call) {
  const char* const names[] = {"all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter",
                               "all_to_all", "gather", "scatter",   "send",       "recv"};
  std::string text =
      std::string(names[static_cast<int>(call.op)]) + " of " + std::to_string(call.count) + " " + name_of(call.type);
  switch (call.op) {
    case Op::AllReduce:
    case Op::ReduceScatter:
      return text + " (" + name_of(call.reduce) + ")";
    case Op::Reduce:
      return text + " (" + name_of(call.reduce) + ") with root " + std::to_string(call.root);
    case Op::Broadcast:
    case Op::Gather:
    case Op::Scatter:
      return text + " with root " + std::to_string(call.root);
    case Op::Send:
      return text + " to rank " + std::to_string(call.root);
    case Op::Recv:
      return text + " from rank " + std::to_string(call.root);
    case Op::AllGather:
    case Op::AllToAll:
      return text;
  }
  return text;
}

tuttiResult_t make(const Call& call, tuttiComm_t comm) {
  static char* const send = new char[kMostBytes]();
  static char* const recv = new char[kMostBytes]();
  switch (call.op) {
    case Op::AllReduce:
      return tuttiAllReduce(send, recv, call.count, call.type, call.reduce, comm, nullptr);
    case Op::Reduce:
      return tuttiReduce(send, recv, call.count, call.type, call.reduce, call.root, comm, nullptr);
    case Op::Broadcast:
      return tuttiBroadcast(send, recv, call.count, call.type, call.root, comm, nullptr);
    case Op::AllGather:
      return tuttiAllGather(send, recv, call.count, call.type, comm, nullptr);
    case Op::ReduceScatter:
      return tuttiReduceScatter(send, recv, call.count, call.type, call.reduce, comm, nullptr);
    case Op::AllToAll:
      return tuttiAllToAll(send, recv, call.count, call.type, comm, nullptr);
    case Op::Gather:
      return tuttiGather(send, recv, call.count, call.type, call.root, comm, nullptr);
    case Op::Scatter:
      return tuttiScatter(send, recv, call.count, call.type, call.root, comm, nullptr);
    case Op::Send:
      return tuttiSend(send, call.count, call.type, call.root, comm, nullptr);
    case Op::Recv:
      return tuttiRecv(recv, call.count, call.type, call.root, comm, nullptr);
  }
  return TUTTI_INTERNAL_ERROR;
}

struct Case {
  std::string what;
  std::vector<Call> calls[kRanks];  // by rank
  bool grouped = false;
  std::vector<std::string> expected;  // words that every rank's error must have
};

// "rank 3: ..." or "ranks 0-2: ...", as one group of ranks is named.
std::string group_words(const std::vector<int>& ranks, const Call& call) {
  std::string text = ranks.size() > 1 ? "ranks " : "rank ";
  for (size_t i = 0; i < ranks.size();) {  // three in a row and more are a range
    size_t j = i;
    while (j + 1 < ranks.size() && ranks[j + 1] == ranks[j] + 1) ++j;
    if (j < i + 2) j = i;
    text += (i > 0 ? ", " : "") + std::to_string(ranks[i]) + (j > i ? "-" + std::to_string(ranks[j]) : "");
    i = j + 1;
  }
  return text + ": " + words(call);
}

Case odd_ranks(std::string what, const std::vector<int>& odd, std::vector<Call> usual, std::vector<Call> other,
               bool grouped = false) {
  Case made;
  made.what = std::move(what);
  made.grouped = grouped;
  std::vector<int> rest;
  for (int rank = 0; rank < kRanks; ++rank) {
    const bool is_odd = std::find(odd.begin(), odd.end(), rank) != odd.end();
    made.calls[rank] = is_odd ? other : usual;
    if (!is_odd) rest.push_back(rank);
  }
  // A first call on which all agree comes before: it is #1.
  made.expected = {"#2", group_words(rest, usual[0]), group_words(odd, other[0])};
  return made;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const Op collectives[] = {Op::AllReduce,     Op::Reduce,   Op::Broadcast, Op::AllGather,
                            Op::ReduceScatter, Op::AllToAll, Op::Gather,    Op::Scatter};
  int turn = 0;
  const auto odd = [&]() -> std::vector<int> {  // which ranks are odd rotates with the cases
    const std::vector<int> choices[] = {{3}, {0}, {1, 2}, {2}, {0, 3}, {1}};
    return choices[turn++ % 6];
  };
  for (const Op a : collectives) {
    for (const Op b : collectives) {
      if (a >= b) continue;
      cases.push_back(odd_ranks("operation", odd(), {{.op = a}}, {{.op = b}}));
    }
  }
  for (const Op op : collectives) {
    cases.push_back(odd_ranks("count", odd(), {{.op = op}}, {{.op = op, .count = 17}}));
    cases.push_back(odd_ranks("large count", odd(), {{.op = op, .count = 2000}}, {{.op = op, .count = 1000}}));
    cases.push_back(odd_ranks("type of the same size", odd(), {{.op = op}}, {{.op = op, .type = TUTTI_INT32}}));
    cases.push_back(odd_ranks("type", odd(), {{.op = op, .type = TUTTI_FLOAT16}}, {{.op = op, .type = TUTTI_FLOAT64}}));
    cases.push_back(odd_ranks("order", odd(), {{.op = op, .count = 3}, {.op = op, .count = 5}},
                              {{.op = op, .count = 5}, {.op = op, .count = 3}}));
    cases.push_back(odd_ranks("group", odd(), {{.op = op}, {.op = Op::AllReduce, .count = 9}},
                              {{.op = Op::AllReduce, .count = 9}, {.op = op}}, true));
  }
  for (const Op op : {Op::AllReduce, Op::Reduce, Op::ReduceScatter}) {
    for (const tuttiRedOp_t reduce : {TUTTI_PROD, TUTTI_MAX, TUTTI_MIN, TUTTI_AVG})
      cases.push_back(odd_ranks("operator", odd(), {{.op = op}}, {{.op = op, .reduce = reduce}}));
  }
  for (const Op op : {Op::Reduce, Op::Broadcast, Op::Gather, Op::Scatter}) {
    cases.push_back(odd_ranks("root", odd(), {{.op = op, .root = 1}}, {{.op = op, .root = 2}}));
    cases.push_back(odd_ranks("root among large", odd(), {{.op = op, .count = 1500, .root = 3}},
                              {{.op = op, .count = 1500, .root = 0}}));
  }
  // Messages: the two ends differ; the others are in a barrier that these two never reach.
  for (const size_t count : {size_t{1}, size_t{17}, size_t{4000}}) {
    for (const bool grouped : {false, true}) {
      Case made;
      made.what = "size of a message";
      made.grouped = grouped;
      const Call send{.op = Op::Send, .count = 16, .root = 2}, recv{.op = Op::Recv, .count = count, .root = 1};
      made.calls[1] = {send};
      made.calls[2] = {recv};
      made.expected = {"mismatch in message 1 from rank 1 to rank 2", "rank 1 called " + words(send),
                       "rank 2 called " + words(recv)};
      cases.push_back(made);
    }
  }
  for (const tuttiDataType_t type : {TUTTI_INT8, TUTTI_BFLOAT16, TUTTI_INT64}) {
    Case made;
    made.what = "type of a message";
    const Call send{.op = Op::Send, .type = type, .root = 0}, recv{.op = Op::Recv, .type = TUTTI_INT32, .root = 3};
    made.calls[3] = {send};
    made.calls[0] = {recv};
    made.expected = {"mismatch in message 1 from rank 3 to rank 0", "rank 3 called " + words(send),
                     "rank 0 called " + words(recv)};
    cases.push_back(made);
  }
  // A receive where the others, among them its sender, are in a collective.
  for (const Op op : {Op::AllReduce, Op::AllGather, Op::AllToAll, Op::ReduceScatter}) {
    Case made;
    made.what = "a receive instead of a collective";
    const Call usual{.op = op}, recv{.op = Op::Recv, .root = 0};
    for (const int rank : {0, 1, 2}) made.calls[rank] = {usual};
    made.calls[3] = {recv};
    made.expected = {"ranks wait for each other", words(usual), words(recv)};
    cases.push_back(made);
  }
  return cases;
}

// All cases in one job: each has a communicator of its own. Ranks report by their exit status and the page.
void check(const std::vector<Case>& cases, const Environment& environment) {
  for (size_t begin = 0; begin < cases.size(); ++begin) {
    const Case& one = cases[begin];
    SCOPED_TRACE(one.what);
    Job job(kRanks, environment, [&](int rank, Page& page) {
      tuttiComm_t comm = nullptr;
      if (tuttiCommInitRank(&comm, kRanks, page.meet(0, rank), rank) != TUTTI_SUCCESS) return 2;
      if (tuttiBarrier(comm, nullptr) != TUTTI_SUCCESS) return 3;
      page.gather(0, kRanks);
      const int64_t began = now_ms();
      tuttiResult_t result = TUTTI_SUCCESS;
      if (one.grouped) tuttiGroupStart();
      for (const Call& call : one.calls[rank]) {
        if (result == TUTTI_SUCCESS) result = make(call, comm);
      }
      if (one.grouped) result = tuttiGroupEnd();
      // Some ranks owe nothing to the odd one and come through: they learn of it in the next call.
      // Two calls in another order may even find each other's data: it shows as soon as somebody waits.
      while (result == TUTTI_SUCCESS) {
        if (rank == 0) nap_us(300'000);
        result = tuttiBarrier(comm, nullptr);
      }
      Report& report = page.ranks[rank];
      report.calls.store(static_cast<uint64_t>(now_ms() - began));
      report.set(result, tuttiGetLastError(comm));
      // The failed communicator answers every call with its reason.
      if (tuttiBarrier(comm, nullptr) != result) return 4;
      if (std::strcmp(tuttiGetLastError(comm), report.text) != 0) return 5;
      page.gather(1, kRanks);
      return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 6;
    });
    const Ending ending = job.wait(30'000);
    EXPECT_TRUE(ending.in_time);
    for (int rank = 0; rank < kRanks; ++rank) {
      const Report& report = job.page().ranks[rank];
      EXPECT_EQ(ending.status[static_cast<size_t>(rank)], 0) << "rank " << rank;
      EXPECT_EQ(report.code.load(), TUTTI_INVALID_USAGE) << "rank " << rank << ": " << report.text;
      for (const std::string& part : one.expected)
        EXPECT_NE(std::string(report.text).find(part), std::string::npos)
            << "rank " << rank << " does not say '" << part << "': " << report.text;
      // A second is promised; a busy machine gets more.
      EXPECT_LT(report.calls.load(), 20'000u) << "rank " << rank;
    }
    if (testing::Test::HasFailure()) return;
  }
}

std::vector<Case> every(size_t step, size_t first) {
  std::vector<Case> some;
  const std::vector<Case> all = all_cases();
  for (size_t i = first; i < all.size(); i += step) some.push_back(all[i]);
  return some;
}

TEST(Mismatch, TheTableHasAHundredKinds) { EXPECT_GE(all_cases().size(), 100u); }

class MismatchOfProcesses : public testing::TestWithParam<int> {};
TEST_P(MismatchOfProcesses, TellsEveryRankWhatEachGroupCalled) { check(every(8, static_cast<size_t>(GetParam())), {}); }
INSTANTIATE_TEST_SUITE_P(Slices, MismatchOfProcesses, testing::Range(0, 8));

TEST(Mismatch, OverTcpTellsEveryRankWhatEachGroupCalled) { check(every(13, 5), {{"TUTTI_TRANSPORTS", "tcp"}}); }
TEST(FullMismatch, OverTcpTellsEveryRankOfAllKinds) { check(every(1, 0), {{"TUTTI_TRANSPORTS", "tcp"}}); }

}  // namespace
}  // namespace faults
