// SPDX-License-Identifier: Apache-2.0
// Argument checks: each wrong argument is named with its value and the remedy, each legal call passes.
#include "api/checks.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

namespace tutti {
namespace {

constexpr size_t kHuge = SIZE_MAX;

// 1024 bytes to point into.
alignas(64) char memory[1024];
char* at(size_t offset) { return memory + offset; }

// Four ranks, this is rank 1; 16 floats in buffers far enough apart for every collective.
Call call(const char* function) {
  return {.function = function,
          .send = at(0),
          .recv = at(512),
          .count = 16,
          .type = TUTTI_FLOAT32,
          .op = TUTTI_SUM,
          .root = 1,
          .nranks = 4,
          .rank = 1};
}

using Check = Status (*)(const Call&);
struct Family {
  const char* function;
  Check check;
  const char* count_name;
  int send_blocks, recv_blocks;  // at the root; 0: the call has no such buffer
  bool has_op, has_root;
  const char* root_name = "root";
};
const Family kFamilies[] = {
    {"tuttiAllReduce", check_all_reduce, "count", 1, 1, true, false},
    {"tuttiReduce", check_reduce, "count", 1, 1, true, true},
    {"tuttiBroadcast", check_broadcast, "count", 1, 1, false, true},
    {"tuttiAllGather", check_all_gather, "sendcount", 1, 4, false, false},
    {"tuttiReduceScatter", check_reduce_scatter, "recvcount", 4, 1, true, false},
    {"tuttiAllToAll", check_all_to_all, "count", 4, 4, false, false},
    {"tuttiGather", check_gather, "sendcount", 1, 4, false, true},
    {"tuttiScatter", check_scatter, "recvcount", 4, 1, false, true},
    {"tuttiSend", check_send, "count", 1, 0, false, true, "peer"},
    {"tuttiRecv", check_recv, "count", 0, 1, false, true, "peer"},
};

std::string text(const Status& status) {
  if (status.ok()) return "ok";
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  return status.message();
}
void expect_starts(const Status& status, const std::string& beginning) {
  EXPECT_EQ(text(status).substr(0, beginning.size()), beginning) << text(status);
}

class EveryFamily : public testing::TestWithParam<Family> {
 protected:
  const Family& family() const { return GetParam(); }
  Call ordinary() const { return call(family().function); }
  Status check(const Call& c) const { return family().check(c); }
  std::string named(const std::string& rest) const { return std::string(family().function) + ": " + rest; }
};
INSTANTIATE_TEST_SUITE_P(Checks, EveryFamily, testing::ValuesIn(kFamilies),
                         [](const auto& info) { return std::string(info.param.function); });

TEST_P(EveryFamily, AcceptsAnOrdinaryCall) { EXPECT_EQ(text(check(ordinary())), "ok"); }

TEST_P(EveryFamily, AcceptsEveryTypeAndOperator) {
  Call c = ordinary();
  c.count = 8;
  for (uint32_t type = 0; type < TUTTI_NUM_TYPES; ++type)
    for (uint32_t op : {0u, 1u, 2u, 3u, 4u, 5u, 17u}) {  // from 5 on: handles of users
      c.type = type, c.op = op;
      EXPECT_EQ(text(check(c)), "ok") << type << " " << op;
    }
}

TEST_P(EveryFamily, AcceptsNoElementsInNoBuffers) {
  Call c = ordinary();
  c.count = 0, c.send = nullptr, c.recv = nullptr;
  EXPECT_EQ(text(check(c)), "ok");
  c.send = c.recv = at(8);
  EXPECT_EQ(text(check(c)), "ok");
}

TEST_P(EveryFamily, NamesANullBuffer) {
  for (const bool sending : {true, false}) {
    const int blocks = sending ? family().send_blocks : family().recv_blocks;
    if (blocks == 0) continue;
    Call c = ordinary();
    (sending ? c.send : c.recv) = nullptr;
    EXPECT_EQ(text(check(c)), named(std::string(sending ? "send" : "recv") + " is NULL but " + family().count_name +
                                    " is 16: pass a buffer of " + (blocks == 4 ? "4 ranks * " : "") +
                                    family().count_name + " * 4 bytes"));
  }
}

TEST_P(EveryFamily, NamesATypeOutOfRange) {
  for (const uint32_t type : {12u, 99u, 0x7fffffffu, static_cast<uint32_t>(-1)}) {
    Call c = ordinary();
    c.type = type;
    EXPECT_EQ(text(check(c)),
              named("type is " + std::to_string(static_cast<int>(type)) + ": pass a tuttiDataType_t, 0 to 11"));
  }
}

TEST_P(EveryFamily, NamesANegativeOperator) {
  if (!family().has_op) return;
  Call c = ordinary();
  c.op = static_cast<uint32_t>(-3);
  expect_starts(check(c), named("op is -3: pass a tuttiRedOp_t, 0 to 4, or a handle"));
}

TEST_P(EveryFamily, NamesARootOrPeerOutOfRange) {
  if (!family().has_root) return;
  for (const int root : {-1, 4, 2000000000}) {
    Call c = ordinary();
    c.root = root;
    EXPECT_EQ(text(check(c)), named(std::string(family().root_name) + " is " + std::to_string(root) +
                                    ": pass a rank of this communicator, 0 to 3"));
  }
}

TEST_P(EveryFamily, NamesACountBeyondTheAddressSpace) {
  const int blocks = std::max(family().send_blocks, family().recv_blocks);
  const size_t most = static_cast<size_t>(PTRDIFF_MAX) / 4 / static_cast<size_t>(blocks);
  for (const size_t count : {most + 1, kHuge / 4, kHuge / 2, kHuge}) {
    Call c = ordinary();
    c.count = count;
    expect_starts(check(c), named(std::string(family().count_name) + " is " + std::to_string(count) + ": "));
    EXPECT_NE(text(check(c)).find("pass at most " + std::to_string(most)), std::string::npos) << text(check(c));
  }
}

TEST_P(EveryFamily, AcceptsBuffersThatTouch) {
  if (family().send_blocks == 0 || family().recv_blocks == 0) return;
  Call c = ordinary();
  c.send = at(0), c.recv = at(64 * static_cast<size_t>(family().send_blocks));
  EXPECT_EQ(text(check(c)), "ok");
  c.recv = at(0), c.send = at(64 * static_cast<size_t>(family().recv_blocks));
  EXPECT_EQ(text(check(c)), "ok");
}

TEST_P(EveryFamily, NamesAnOverlap) {
  if (family().send_blocks == 0 || family().recv_blocks == 0) return;
  Call c = ordinary();
  c.send = at(0), c.recv = at(64 * static_cast<size_t>(family().send_blocks) - 4);
  expect_starts(check(c), named("send and recv overlap by 4 bytes: pass "));
  c.recv = at(0), c.send = at(64 * static_cast<size_t>(family().recv_blocks) - 1);
  expect_starts(check(c), named("send and recv overlap by 1 bytes: pass "));
}

// Every position of a small buffer against a large one, compared with the definition byte by byte.
TEST_P(EveryFamily, AgreesWithTheDefinitionOfOverlapAtEveryOffset) {
  if (family().send_blocks == 0 || family().recv_blocks == 0) return;
  const int in_place_block = family().send_blocks == family().recv_blocks ? 0 : 1;  // rank and root are 1
  for (int offset = 0; offset < 200; ++offset) {
    Call c = ordinary();
    c.count = 4;
    c.send = at(100), c.recv = at(static_cast<size_t>(offset));
    const int send_bytes = 16 * family().send_blocks, recv_bytes = 16 * family().recv_blocks;
    const bool disjoint = offset >= 100 + send_bytes || 100 >= offset + recv_bytes;
    const bool in_place = family().recv_blocks > family().send_blocks ? offset + 16 * in_place_block == 100
                                                                      : offset == 100 + 16 * in_place_block;
    EXPECT_EQ(check(c).ok(), disjoint || in_place) << offset;
  }
}

TEST(Checks, IgnoreWhatOnlyTheRootUses) {
  Call c = call("tuttiReduce");
  c.root = 2, c.recv = nullptr;
  EXPECT_EQ(text(check_reduce(c)), "ok");
  c.recv = at(4);  // would overlap
  EXPECT_EQ(text(check_reduce(c)), "ok");
  c.send = nullptr;
  expect_starts(check_reduce(c), "tuttiReduce: send is NULL");

  c = call("tuttiBroadcast");
  c.root = 2, c.send = nullptr;
  EXPECT_EQ(text(check_broadcast(c)), "ok");
  c.recv = nullptr;
  expect_starts(check_broadcast(c), "tuttiBroadcast: recv is NULL");

  c = call("tuttiGather");
  c.root = 2, c.recv = nullptr;
  EXPECT_EQ(text(check_gather(c)), "ok");
  c.send = nullptr;
  expect_starts(check_gather(c), "tuttiGather: send is NULL");

  c = call("tuttiScatter");
  c.root = 2, c.send = nullptr;
  EXPECT_EQ(text(check_scatter(c)), "ok");
  c.recv = nullptr;
  expect_starts(check_scatter(c), "tuttiScatter: recv is NULL");
}

TEST(Checks, SayHowToCallInPlace) {
  Call c = call("tuttiGather");
  c.send = at(4), c.recv = at(0);
  EXPECT_EQ(
      text(check_gather(c)),
      "tuttiGather: send and recv overlap by 64 bytes: pass send == recv + root * sendcount (in place) or buffers "
      "that share no byte");
}

struct Tables {
  std::vector<size_t> sendcounts{1, 2, 3, 0}, sdispls{0, 1, 3, 0}, recvcounts{4, 2, 0, 5}, rdispls{0, 4, 0, 6};
};
CallV call_v(const char* function, const Tables& t) {
  return {.function = function,
          .send = at(0),
          .recv = at(512),
          .sendcount = t.recvcounts[1],
          .sendcounts = t.sendcounts.data(),
          .sdispls = t.sdispls.data(),
          .recvcounts = t.recvcounts.data(),
          .rdispls = t.rdispls.data(),
          .type = TUTTI_FLOAT32,
          .op = TUTTI_SUM,
          .nranks = 4,
          .rank = 1};
}
using CheckV = Status (*)(const CallV&);
const std::pair<const char*, CheckV> kTableFamilies[] = {{"tuttiAllGatherV", check_all_gather_v},
                                                         {"tuttiReduceScatterV", check_reduce_scatter_v},
                                                         {"tuttiAllToAllV", check_all_to_all_v}};

TEST(TableChecks, AcceptOrdinaryCallsAndNoElements) {
  for (const auto& [function, check] : kTableFamilies) {
    Tables t;
    EXPECT_EQ(text(check(call_v(function, t))), "ok");
    t.sendcounts = t.recvcounts = {0, 0, 0, 0};
    CallV c = call_v(function, t);
    c.send = c.recv = nullptr;
    EXPECT_EQ(text(check(c)), "ok");
    t.rdispls = t.sdispls = {kHuge, kHuge, kHuge, kHuge};  // displacements of nothing mean nothing
    EXPECT_EQ(text(check(call_v(function, t))), "ok");
  }
}

TEST(TableChecks, NameANullTable) {
  const Tables t;
  for (const auto& [function, check] : kTableFamilies) {
    CallV c = call_v(function, t);
    c.recvcounts = nullptr;
    EXPECT_EQ(text(check(c)),
              std::string(function) + ": recvcounts is NULL: pass a table of one number of elements for each rank");
  }
  CallV c = call_v("tuttiAllGatherV", t);
  c.rdispls = nullptr;
  expect_starts(check_all_gather_v(c), "tuttiAllGatherV: displs is NULL: ");
  c = call_v("tuttiAllToAllV", t);
  c.rdispls = nullptr;
  expect_starts(check_all_to_all_v(c), "tuttiAllToAllV: rdispls is NULL: ");
  c.sdispls = nullptr;
  expect_starts(check_all_to_all_v(c), "tuttiAllToAllV: sdispls is NULL: ");
  c.sendcounts = nullptr;
  expect_starts(check_all_to_all_v(c), "tuttiAllToAllV: sendcounts is NULL: ");
}

TEST(TableChecks, NameANullBufferTypeAndOperator) {
  const Tables t;
  for (const auto& [function, check] : kTableFamilies) {
    CallV c = call_v(function, t);
    c.send = nullptr;
    expect_starts(check(c), std::string(function) + ": send is NULL but ");
    c = call_v(function, t);
    c.recv = nullptr;
    expect_starts(check(c), std::string(function) + ": recv is NULL but ");
    c = call_v(function, t);
    c.type = 12;
    expect_starts(check(c), std::string(function) + ": type is 12: ");
  }
  CallV c = call_v("tuttiReduceScatterV", t);
  c.op = static_cast<uint32_t>(-1);
  expect_starts(check_reduce_scatter_v(c), "tuttiReduceScatterV: op is -1: ");
}

TEST(TableChecks, NameCountsThatDisagreeOnThisRank) {
  const Tables t;
  CallV c = call_v("tuttiAllGatherV", t);
  c.sendcount = 3;
  expect_starts(check_all_gather_v(c), "tuttiAllGatherV: sendcount is 3 but recvcounts[1] is 2: ");
  Tables other;
  other.sendcounts[1] = 7;
  expect_starts(check_all_to_all_v(call_v("tuttiAllToAllV", other)),
                "tuttiAllToAllV: sendcounts[1] is 7 but recvcounts[1] is 2: ");
}

TEST(TableChecks, NameTheEntryThatOverflows) {
  for (const auto& [function, check] : kTableFamilies) {
    Tables t;
    t.recvcounts[3] = kHuge / 4;
    expect_starts(check(call_v(function, t)), std::string(function) + ": ");
    EXPECT_NE(text(check(call_v(function, t))).find("[3] is " + std::to_string(kHuge / 4)), std::string::npos);
  }
  Tables t;
  t.rdispls[3] = kHuge - 2;  // displacement + count wraps
  expect_starts(check_all_gather_v(call_v("tuttiAllGatherV", t)), "tuttiAllGatherV: displs[3] is ");
  expect_starts(check_all_to_all_v(call_v("tuttiAllToAllV", t)), "tuttiAllToAllV: rdispls[3] is ");
  Tables sum;
  sum.recvcounts = {kHuge / 16, kHuge / 16, kHuge / 16, 0};  // each fits, the sum does not
  expect_starts(check_reduce_scatter_v(call_v("tuttiReduceScatterV", sum)), "tuttiReduceScatterV: recvcounts[2] is ");
}

TEST(TableChecks, NameBlocksThatOverlap) {
  Tables t;
  t.rdispls = {7, 8, 0, 0};  // rank 0: [7, 11), rank 1: [8, 10), rank 3: [0, 5)
  expect_starts(check_all_gather_v(call_v("tuttiAllGatherV", t)),
                "tuttiAllGatherV: the blocks of ranks 0 and 1 overlap in recv: pass displs");
  expect_starts(check_all_to_all_v(call_v("tuttiAllToAllV", t)),
                "tuttiAllToAllV: the blocks of ranks 0 and 1 overlap in recv: pass rdispls");
  t.rdispls = {7, 5, 0, 0};  // in another order than the ranks', apart
  EXPECT_EQ(text(check_all_gather_v(call_v("tuttiAllGatherV", t))), "ok");
  EXPECT_EQ(text(check_all_to_all_v(call_v("tuttiAllToAllV", t))), "ok");
}

TEST(TableChecks, KnowTheInPlaceFormsAndRefuseOtherOverlap) {
  const Tables t;
  CallV c = call_v("tuttiAllGatherV", t);
  c.recv = at(0), c.send = at(16);
  EXPECT_EQ(text(check_all_gather_v(c)), "ok");
  c.send = at(20);
  expect_starts(check_all_gather_v(c), "tuttiAllGatherV: send overlaps the block of rank 1 in recv: ");
  c.send = at(12);
  expect_starts(check_all_gather_v(c), "tuttiAllGatherV: send overlaps the block of rank 0 in recv: ");
  Tables gap;
  gap.rdispls = {0, 8, 0, 12};
  c = call_v("tuttiAllGatherV", gap);
  c.recv = at(0), c.send = at(20);  // two floats in a gap of four
  EXPECT_EQ(text(check_all_gather_v(c)), "ok");

  c = call_v("tuttiReduceScatterV", t);
  c.send = at(0), c.recv = at(16);
  EXPECT_EQ(text(check_reduce_scatter_v(c)), "ok");
  c.recv = at(12);
  expect_starts(check_reduce_scatter_v(c), "tuttiReduceScatterV: send and recv overlap: ");

  c = call_v("tuttiAllToAllV", t);
  c.recv = c.send;
  expect_starts(check_all_to_all_v(c), "tuttiAllToAllV: the block sent to rank ");
  Tables interleaved;  // recv blocks in the gaps of send
  interleaved.sendcounts = {1, 1, 1, 1}, interleaved.sdispls = {0, 2, 4, 6};
  interleaved.recvcounts = {1, 1, 1, 1}, interleaved.rdispls = {1, 3, 5, 7};
  c = call_v("tuttiAllToAllV", interleaved);
  c.recv = c.send;
  EXPECT_EQ(text(check_all_to_all_v(c)), "ok");
  interleaved.sdispls = {0, 0, 0, 0};  // the same block to everybody
  c = call_v("tuttiAllToAllV", interleaved);
  EXPECT_EQ(text(check_all_to_all_v(c)), "ok");
}

TEST(OtherChecks, UserOperators) {
  const uint32_t made_for = TUTTI_FLOAT32;
  EXPECT_EQ(text(check_user_operator("tuttiReduce", 5, &made_for, TUTTI_FLOAT32)), "ok");
  expect_starts(check_user_operator("tuttiReduce", 5, &made_for, TUTTI_INT8),
                "tuttiReduce: op is a pre-multiplied sum made for type 7 but type is 0: ");
  expect_starts(check_user_operator("tuttiReduce", 77, nullptr, TUTTI_INT8),
                "tuttiReduce: op is 77, which is no operator of this communicator: ");
}

TEST(OtherChecks, InitPreMulSumAndMemory) {
  int x = 0;
  EXPECT_EQ(text(check_init("tuttiCommInitRank", &x, 1, 0)), "ok");
  expect_starts(check_init("tuttiCommInitRank", nullptr, 1, 0), "tuttiCommInitRank: comm is NULL: ");
  expect_starts(check_init("tuttiCommInitRank", &x, 0, 0), "tuttiCommInitRank: nranks is 0: ");
  expect_starts(check_init("tuttiCommInitRank", &x, 2, 2), "tuttiCommInitRank: rank is 2: with nranks 2 pass 0 to 1");
  expect_starts(check_init("tuttiCommInitRank", &x, 2, -1), "tuttiCommInitRank: rank is -1: ");
  const char* make = "tuttiRedOpCreatePreMulSum";
  EXPECT_EQ(text(check_pre_mul_sum(make, &x, &x, TUTTI_INT8, TUTTI_SCALAR_DEVICE)), "ok");
  expect_starts(check_pre_mul_sum(make, nullptr, &x, 0, 0), std::string(make) + ": op is NULL: ");
  expect_starts(check_pre_mul_sum(make, &x, nullptr, 0, 0), std::string(make) + ": scalar is NULL: ");
  expect_starts(check_pre_mul_sum(make, &x, &x, 12, 0), std::string(make) + ": type is 12: ");
  expect_starts(check_pre_mul_sum(make, &x, &x, 0, 2), std::string(make) + ": residence is 2: ");
  EXPECT_EQ(text(check_memory("tuttiCommRegister", memory, sizeof memory)), "ok");
  expect_starts(check_memory("tuttiCommRegister", nullptr, 8), "tuttiCommRegister: ptr is NULL: ");
  expect_starts(check_memory("tuttiCommRegister", memory, 0), "tuttiCommRegister: bytes is 0: ");
  expect_starts(check_memory("tuttiCommRegister", memory, kHuge), "tuttiCommRegister: bytes is ");
}

TEST(OtherChecks, Config) {
  const tuttiConfig_t good = TUTTI_CONFIG_INITIALIZER;
  const auto check = [](const tuttiConfig_t& config) { return check_config("f", &config); };
  EXPECT_EQ(text(check_config("f", nullptr)), "ok");
  EXPECT_EQ(text(check(good)), "ok");
  tuttiConfig_t c = good;
  c.magic = 0xcafebeef;
  expect_starts(check(c), "f: config->magic is 0xcafebeef: start from TUTTI_CONFIG_INITIALIZER");
  for (const size_t known : {offsetof(tuttiConfig_t, algorithms), offsetof(tuttiConfig_t, nics)}) {  // older headers
    c = good, c.size = known;
    EXPECT_EQ(text(check(c)), "ok");
  }
  c = good, c.size -= 4;
  expect_starts(check(c), "f: config->size is ");
  c = good, c.size += 8;
  expect_starts(check(c), "f: config->size is ");
  c = good, c.size += 8, c.version += 1;  // a newer caller: what we do not know is left alone
  EXPECT_EQ(text(check(c)), "ok");
  c = good, c.version = 0;
  expect_starts(check(c), "f: config->version is 0: ");
  c = good, c.version = 10000 * (TUTTI_MAJOR + 1);
  expect_starts(check(c), "f: config->version is ");
  c = good, c.blocking = 3;
  expect_starts(check(c), "f: config->blocking is 3: ");
  c = good, c.blocking = 0;
  EXPECT_TRUE(check(c).ok());
  c = good, c.device = 0;
  EXPECT_TRUE(check(c).ok());
  c.blocking = 0;
  EXPECT_TRUE(check(c).ok());
  c = good, c.device = -2;
  expect_starts(check(c), "f: config->device is -2: ");
  c = good, c.minChannels = 0;
  expect_starts(check(c), "f: config->minChannels is 0: ");
  c = good, c.maxChannels = -1;
  expect_starts(check(c), "f: config->maxChannels is -1: ");
  c = good, c.minChannels = 4, c.maxChannels = 2;
  expect_starts(check(c), "f: config->minChannels is 4 but config->maxChannels is 2: ");
  c = good, c.splitShare = 2;
  expect_starts(check(c), "f: config->splitShare is 2: ");
}

// Called as an entry point calls it, so that the inline half is inlined. Printed, not judged: the machine may be busy.
template <Check kCheck>
void print_cost(const char* function) {
  Call c = call(function);
  constexpr int kCalls = 4000000;
  const auto start = std::chrono::steady_clock::now();
  bool ok = true;
  for (int i = 0; i < kCalls; ++i) {
    asm volatile("" : : "r"(&c) : "memory");  // as if the arguments were new
    ok &= kCheck(c).ok();
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(ok);
  std::printf("%-20s %.2f ns\n", function, took.count() / kCalls);
}
TEST(Checks, CostOfAnOrdinaryCall) {
  print_cost<check_all_reduce>("tuttiAllReduce");
  print_cost<check_broadcast>("tuttiBroadcast");
  print_cost<check_all_gather>("tuttiAllGather");
  print_cost<check_reduce_scatter>("tuttiReduceScatter");
  print_cost<check_all_to_all>("tuttiAllToAll");
  print_cost<check_send>("tuttiSend");
}

}  // namespace
}  // namespace tutti
