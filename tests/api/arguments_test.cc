// SPDX-License-Identifier: Apache-2.0
// Bad input through the public API: a code and a text that names the argument; the communicator stays usable. And the
// small legal cases: no elements, one rank.
#include <cstring>
#include <thread>

#include "harness.h"

namespace api_test {
namespace {

void expect_usable(tuttiComm_t comm, int rank, int n) {
  int in = rank + 1, out = 0;
  EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr));
  EXPECT_EQ(out, n * (n + 1) / 2);
}

TEST(Arguments, WrongOnesAreNamedAndTheCommunicatorStaysUsable) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    float send[64] = {}, recv[64] = {};
    const size_t one[2] = {1, 1}, at[2] = {0, 1}, huge[2] = {SIZE_MAX / 4, 1};
    const auto bad_type = static_cast<tuttiDataType_t>(99);
    const auto bad_op = static_cast<tuttiRedOp_t>(1000);
    const auto f32 = TUTTI_FLOAT32;
    const auto wrong = TUTTI_INVALID_ARGUMENT;
    EXPECT_FAILS(tuttiAllReduce(nullptr, recv, 4, f32, TUTTI_SUM, comm, nullptr), wrong,
                 "tuttiAllReduce: send is NULL");
    EXPECT_FAILS(tuttiAllReduce(send, recv, 4, bad_type, TUTTI_SUM, comm, nullptr), wrong, "type is 99");
    EXPECT_FAILS(tuttiAllReduce(send, recv, 4, f32, bad_op, comm, nullptr), wrong, "op is 1000");
    EXPECT_FAILS(tuttiAllReduce(send, send + 1, 4, f32, TUTTI_SUM, comm, nullptr), wrong, "overlap");
    EXPECT_FAILS(tuttiAllReduce(send, recv, SIZE_MAX / 2, f32, TUTTI_SUM, comm, nullptr), wrong, "count is ");
    EXPECT_FAILS(tuttiReduce(send, recv, 4, f32, TUTTI_SUM, 2, comm, nullptr), wrong, "root is 2");
    EXPECT_FAILS(tuttiBroadcast(send, recv, 4, f32, -1, comm, nullptr), wrong, "root is -1");
    EXPECT_FAILS(tuttiAllGather(send, nullptr, 4, f32, comm, nullptr), wrong, "recv is NULL");
    EXPECT_FAILS(tuttiAllGatherV(send, 1, recv, nullptr, at, f32, comm, nullptr), wrong, "recvcounts is NULL");
    EXPECT_FAILS(tuttiAllGatherV(send, 2, recv, one, at, f32, comm, nullptr), wrong, "sendcount is 2");
    EXPECT_FAILS(tuttiReduceScatter(send, send + 3, 4, f32, TUTTI_SUM, comm, nullptr), wrong, "overlap");
    EXPECT_FAILS(tuttiReduceScatterV(send, recv, huge, f32, TUTTI_SUM, comm, nullptr), wrong, "recvcounts[0]");
    EXPECT_FAILS(tuttiAllToAll(send, send + 1, 4, f32, comm, nullptr), wrong, "overlap");
    EXPECT_FAILS(tuttiAllToAllV(send, one, at, send, one, at, f32, comm, nullptr), wrong, "overlap");
    EXPECT_FAILS(tuttiGather(send, recv, 4, f32, 5, comm, nullptr), wrong, "root is 5");
    EXPECT_FAILS(tuttiScatter(send, nullptr, 4, f32, 0, comm, nullptr), wrong, "recv is NULL");
    EXPECT_FAILS(tuttiSend(send, 4, f32, 2, comm, nullptr), wrong, "peer is 2");
    EXPECT_FAILS(tuttiRecv(nullptr, 4, f32, 1 - rank, comm, nullptr), wrong, "recv is NULL");
    EXPECT_FAILS(tuttiCommCount(comm, nullptr), wrong, "count");
    EXPECT_FAILS(tuttiCommRank(comm, nullptr), wrong, "rank");
    EXPECT_FAILS(tuttiCommDevice(comm, nullptr), wrong, "device");
    EXPECT_FAILS(tuttiCommGetAsyncError(comm, nullptr), wrong, "asyncError");
    tuttiResult_t state = TUTTI_IN_PROGRESS;
    EXPECT_OK(tuttiCommGetAsyncError(comm, &state));
    EXPECT_EQ(state, TUTTI_SUCCESS);
    expect_usable(comm, rank, 2);
  });
}

TEST(Arguments, ANullOrDestroyedCommunicatorIsAnErrorAndNoCrash) {
  with_all(2, [](auto& comms) {
    int x = 1, y = 0, count = 0;
    tuttiComm_t dead = comms[1];
    EXPECT_OK(tuttiCommDestroy(dead));
    comms.pop_back();
    for (const tuttiComm_t comm : {tuttiComm_t{nullptr}, dead}) {
      EXPECT_NE(tuttiAllReduce(&x, &y, 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr), TUTTI_SUCCESS);
      EXPECT_NE(last_error().find("comm"), std::string::npos) << last_error();
      EXPECT_NE(tuttiBarrier(comm, nullptr), TUTTI_SUCCESS);
      EXPECT_NE(tuttiCommCount(comm, &count), TUTTI_SUCCESS);
      EXPECT_NE(tuttiSend(&x, 1, TUTTI_INT32, 0, comm, nullptr), TUTTI_SUCCESS);
      tuttiResult_t state;
      EXPECT_NE(tuttiCommGetAsyncError(comm, &state), TUTTI_SUCCESS);
    }
    EXPECT_FAILS(tuttiCommDestroy(dead), TUTTI_INVALID_ARGUMENT, "comm");
    EXPECT_OK(tuttiCommDestroy(nullptr));
  });
}

TEST(Arguments, OfInitAreNamedAndNoHandleIsLeft) {
  in_child([] {
    tuttiUniqueId id;
    ASSERT_OK(tuttiGetUniqueId(&id));
    EXPECT_FAILS(tuttiGetUniqueId(nullptr), TUTTI_INVALID_ARGUMENT, "id");
    EXPECT_FAILS(tuttiGetVersion(nullptr), TUTTI_INVALID_ARGUMENT, "version");
    auto* const bogus = reinterpret_cast<tuttiComm_t>(0x10);
    tuttiComm_t comm = bogus;
    EXPECT_FAILS(tuttiCommInitRank(nullptr, 1, id, 0), TUTTI_INVALID_ARGUMENT, "comm");
    EXPECT_FAILS(tuttiCommInitRank(&comm, 0, id, 0), TUTTI_INVALID_ARGUMENT, "nranks");
    EXPECT_FAILS(tuttiCommInitRank(&comm, 2, id, 2), TUTTI_INVALID_ARGUMENT, "rank");
    EXPECT_EQ(comm, nullptr);
    EXPECT_FAILS(tuttiCommInitAll(nullptr, 1, nullptr), TUTTI_INVALID_ARGUMENT, "comms");
    EXPECT_FAILS(tuttiCommInitAll(&comm, 0, nullptr), TUTTI_INVALID_ARGUMENT, "ndev");
    const int device = -2;
    EXPECT_FAILS(tuttiCommInitAll(&comm, 1, &device), TUTTI_INVALID_ARGUMENT, "devices[0] is -2");
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.magic = 1;
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_INVALID_ARGUMENT, "magic");
    config = TUTTI_CONFIG_INITIALIZER, config.size = 3;
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_INVALID_ARGUMENT, "size");
    config = TUTTI_CONFIG_INITIALIZER, config.version = 7;
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_INVALID_ARGUMENT, "version");
    config = TUTTI_CONFIG_INITIALIZER, config.blocking = 2;
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_INVALID_ARGUMENT, "blocking");
    config = TUTTI_CONFIG_INITIALIZER, config.netName = "carrier-pigeon";
    EXPECT_FAILS(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_INVALID_ARGUMENT, "carrier-pigeon");
    config = TUTTI_CONFIG_INITIALIZER, config.commName = "named", config.minChannels = 1, config.maxChannels = 2;
    ASSERT_OK(tuttiCommInitRankConfig(&comm, 1, id, 0, &config));
    expect_usable(comm, 0, 1);
    EXPECT_OK(tuttiCommDestroy(comm));
  });
}

TEST(Arguments, NoElementsAreLegalEverywhere) {
  in_ranks(3, [](int rank, tuttiComm_t comm) {
    const size_t none[3] = {}, at[3] = {};
    const auto type = TUTTI_BFLOAT16;
    EXPECT_OK(tuttiAllReduce(nullptr, nullptr, 0, type, TUTTI_AVG, comm, nullptr));
    EXPECT_OK(tuttiReduce(nullptr, nullptr, 0, type, TUTTI_MAX, 1, comm, nullptr));
    EXPECT_OK(tuttiBroadcast(nullptr, nullptr, 0, type, 2, comm, nullptr));
    EXPECT_OK(tuttiAllGather(nullptr, nullptr, 0, type, comm, nullptr));
    EXPECT_OK(tuttiAllGatherV(nullptr, 0, nullptr, none, at, type, comm, nullptr));
    EXPECT_OK(tuttiReduceScatter(nullptr, nullptr, 0, type, TUTTI_SUM, comm, nullptr));
    EXPECT_OK(tuttiReduceScatterV(nullptr, nullptr, none, type, TUTTI_SUM, comm, nullptr));
    EXPECT_OK(tuttiAllToAll(nullptr, nullptr, 0, type, comm, nullptr));
    EXPECT_OK(tuttiAllToAllV(nullptr, none, at, nullptr, none, at, type, comm, nullptr));
    EXPECT_OK(tuttiGather(nullptr, nullptr, 0, type, 0, comm, nullptr));
    EXPECT_OK(tuttiScatter(nullptr, nullptr, 0, type, 0, comm, nullptr));
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiSend(nullptr, 0, type, (rank + 1) % 3, comm, nullptr));
    EXPECT_OK(tuttiRecv(nullptr, 0, type, (rank + 2) % 3, comm, nullptr));
    EXPECT_OK(tuttiGroupEnd());
    expect_usable(comm, rank, 3);
  });
}

TEST(Arguments, OneRankIsACommunicator) {
  in_ranks(1, [](int, tuttiComm_t comm) {
    std::vector<int> in(1000, 7), out(1000);
    const size_t counts[1] = {1000}, at[1] = {0};
    const std::vector<int> zero(1000, 0);
    const auto check = [&](tuttiResult_t code) {
      EXPECT_EQ(code, TUTTI_SUCCESS) << last_error();
      EXPECT_EQ(out, in);
      out = zero;
    };
    const auto type = TUTTI_INT32;
    check(tuttiAllReduce(in.data(), out.data(), 1000, type, TUTTI_AVG, comm, nullptr));
    check(tuttiReduce(in.data(), out.data(), 1000, type, TUTTI_PROD, 0, comm, nullptr));
    check(tuttiBroadcast(in.data(), out.data(), 1000, type, 0, comm, nullptr));
    check(tuttiAllGather(in.data(), out.data(), 1000, type, comm, nullptr));
    check(tuttiAllGatherV(in.data(), 1000, out.data(), counts, at, type, comm, nullptr));
    check(tuttiReduceScatter(in.data(), out.data(), 1000, type, TUTTI_SUM, comm, nullptr));
    check(tuttiReduceScatterV(in.data(), out.data(), counts, type, TUTTI_SUM, comm, nullptr));
    check(tuttiAllToAll(in.data(), out.data(), 1000, type, comm, nullptr));
    check(tuttiAllToAllV(in.data(), counts, at, out.data(), counts, at, type, comm, nullptr));
    check(tuttiGather(in.data(), out.data(), 1000, type, 0, comm, nullptr));
    check(tuttiScatter(in.data(), out.data(), 1000, type, 0, comm, nullptr));
    EXPECT_OK(tuttiBarrier(comm, nullptr));
    EXPECT_OK(tuttiAllReduce(in.data(), in.data(), 1000, type, TUTTI_SUM, comm, nullptr));
    EXPECT_EQ(in, std::vector<int>(1000, 7));
    const int scalar = 3;
    tuttiRedOp_t op;
    EXPECT_OK(tuttiRedOpCreatePreMulSum(&op, &scalar, type, TUTTI_SCALAR_HOST_IMMEDIATE, comm));
    EXPECT_OK(tuttiAllReduce(in.data(), out.data(), 1000, type, op, comm, nullptr));
    EXPECT_EQ(out, std::vector<int>(1000, 21));
    EXPECT_OK(tuttiRedOpDestroy(op, comm));
  });
}

TEST(Operators, OfUsersAreCheckedWhereverTheyGo) {
  with_all(1, [](auto& comms) {
    tuttiComm_t comm = comms[0], other = nullptr;
    ASSERT_OK(tuttiCommInitAll(&other, 1, nullptr));
    float scalar = 2, in = 4, out = 0;
    double wide = 0;
    tuttiRedOp_t op, second;
    ASSERT_OK(tuttiRedOpCreatePreMulSum(&op, &scalar, TUTTI_FLOAT32, TUTTI_SCALAR_HOST_IMMEDIATE, comm));
    scalar = 10;  // was read
    ASSERT_OK(tuttiRedOpCreatePreMulSum(&second, &scalar, TUTTI_FLOAT32, TUTTI_SCALAR_HOST_IMMEDIATE, comm));
    EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_FLOAT32, op, comm, nullptr));
    EXPECT_EQ(out, 8);
    EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_FLOAT32, second, comm, nullptr));
    EXPECT_EQ(out, 40);
    EXPECT_FAILS(tuttiAllReduce(&wide, &wide, 1, TUTTI_FLOAT64, op, comm, nullptr), TUTTI_INVALID_ARGUMENT, "op");
    EXPECT_FAILS(tuttiAllReduce(&in, &out, 1, TUTTI_FLOAT32, op, other, nullptr), TUTTI_INVALID_ARGUMENT, "op");
    EXPECT_FAILS(tuttiRedOpDestroy(TUTTI_SUM, comm), TUTTI_INVALID_ARGUMENT, "op");
    EXPECT_OK(tuttiRedOpDestroy(op, comm));
    EXPECT_FAILS(tuttiRedOpDestroy(op, comm), TUTTI_INVALID_ARGUMENT, "op");
    EXPECT_FAILS(tuttiAllReduce(&in, &out, 1, TUTTI_FLOAT32, op, comm, nullptr), TUTTI_INVALID_ARGUMENT, "op");
    EXPECT_FAILS(tuttiRedOpCreatePreMulSum(nullptr, &scalar, TUTTI_FLOAT32, TUTTI_SCALAR_DEVICE, comm),
                 TUTTI_INVALID_ARGUMENT, "op");
    EXPECT_FAILS(tuttiRedOpCreatePreMulSum(&op, nullptr, TUTTI_FLOAT32, TUTTI_SCALAR_DEVICE, comm),
                 TUTTI_INVALID_ARGUMENT, "scalar");
    EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_FLOAT32, second, comm, nullptr));
    EXPECT_EQ(out, 40);
    EXPECT_OK(tuttiCommDestroy(other));
  });
}

TEST(Errors, TextsBelongToTheirThread) {
  with_all(1, [](auto& comms) {
    EXPECT_FAILS(tuttiCommRank(comms[0], nullptr), TUTTI_INVALID_ARGUMENT, "rank");
    std::thread([] {
      EXPECT_STREQ(tuttiGetLastError(nullptr), "");
      EXPECT_FAILS(tuttiGetVersion(nullptr), TUTTI_INVALID_ARGUMENT, "version");
    }).join();
    EXPECT_NE(last_error().find("tuttiCommRank"), std::string::npos) << last_error();
    for (int code = -1; code < 12; ++code) EXPECT_STRNE(tuttiGetErrorString(static_cast<tuttiResult_t>(code)), "");
  });
}

TEST(Memory, IsAllocatedRegisteredAndGivenBack) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    void *memory = nullptr, *handle = nullptr, *plain_handle = nullptr, *none = &handle;
    constexpr size_t kBytes = 1 << 20;
    ASSERT_OK(tuttiMemAlloc(&memory, kBytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 4096, 0u);
    for (size_t i = 0; i < kBytes; i += 4096) EXPECT_EQ(static_cast<char*>(memory)[i], 0);
    std::vector<char> plain(kBytes);
    EXPECT_OK(tuttiCommRegister(comm, memory, kBytes, &handle));
    EXPECT_OK(tuttiCommRegister(comm, plain.data(), kBytes, &plain_handle));
    std::memset(memory, rank + 1, kBytes);
    EXPECT_OK(tuttiAllReduce(memory, plain.data(), kBytes, TUTTI_INT8, TUTTI_SUM, comm, nullptr));
    EXPECT_EQ(plain, std::vector<char>(kBytes, 3));
    EXPECT_OK(tuttiCommDeregister(comm, plain_handle));
    EXPECT_OK(tuttiCommDeregister(comm, handle));
    EXPECT_FAILS(tuttiCommDeregister(comm, handle), TUTTI_INVALID_ARGUMENT, "handle");
    EXPECT_FAILS(tuttiCommRegister(comm, nullptr, 8, &handle), TUTTI_INVALID_ARGUMENT, "ptr");
    EXPECT_FAILS(tuttiCommRegister(comm, memory, 0, &handle), TUTTI_INVALID_ARGUMENT, "bytes");
    EXPECT_OK(tuttiMemFree(memory));
    EXPECT_OK(tuttiMemFree(nullptr));
    EXPECT_FAILS(tuttiMemFree(plain.data()), TUTTI_INVALID_ARGUMENT, "ptr");
    EXPECT_FAILS(tuttiMemAlloc(nullptr, 8), TUTTI_INVALID_ARGUMENT, "ptr");
    EXPECT_OK(tuttiMemAlloc(&none, 0));
    EXPECT_EQ(none, nullptr);
    EXPECT_EQ(tuttiMemAlloc(&memory, SIZE_MAX / 2), TUTTI_SYSTEM_ERROR) << last_error();
  });
}

TEST(Explain, WritesTextThatFits) {
  with_all(1, [](auto& comms) {
    char text[8192], small[16];
    for (const char* name : {"allreduce", "AllReduce", "all_reduce", "broadcast"})
      EXPECT_OK(tuttiExplain(comms[0], name, 1000, TUTTI_FLOAT32, text, sizeof text));
    EXPECT_GT(std::strlen(text), 20u);
    std::memset(small, 'x', sizeof small);
    EXPECT_OK(tuttiExplain(comms[0], "allreduce", 1000, TUTTI_FLOAT32, small, sizeof small));
    EXPECT_EQ(std::strlen(small), sizeof small - 1);
    EXPECT_FAILS(tuttiExplain(comms[0], "no such thing", 1, TUTTI_INT8, text, sizeof text), TUTTI_INVALID_ARGUMENT,
                 "collective");
    EXPECT_FAILS(tuttiExplain(comms[0], "allreduce", 1, TUTTI_INT8, nullptr, 5), TUTTI_INVALID_ARGUMENT, "text");
    EXPECT_FAILS(tuttiExplain(comms[0], "allreduce", 1, TUTTI_INT8, text, 0), TUTTI_INVALID_ARGUMENT, "textBytes");
  });
}

}  // namespace
}  // namespace api_test
