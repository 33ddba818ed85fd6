// SPDX-License-Identifier: Apache-2.0
// NCCL_* variables as ours, and what the log is told about them.
#include "nccl/variables.h"

#include <gmock/gmock.h>

#include <map>

#include "base/env.h"

namespace tutti::nccl {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

using Variables = std::map<std::string, std::string>;

Lookup reader(const Variables& variables) {
  return [variables](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}
std::string translated(const char* name, const Variables& variables) {
  return translate(name, reader(variables)).value_or("(unset)");
}
std::vector<Notice> told(const Variables& variables) {
  std::vector<std::string> names;
  for (const auto& [name, value] : variables) names.push_back(name);
  return notices(names, reader(variables));
}

TEST(NcclVariables, LevelsAndSubsystemsOfTheLogHaveOurNames) {
  EXPECT_EQ(translated("TUTTI_DEBUG", {{"NCCL_DEBUG", "INFO"}}), "info");
  EXPECT_EQ(translated("TUTTI_DEBUG", {{"NCCL_DEBUG", "trace"}}), "trace");
  EXPECT_EQ(translated("TUTTI_DEBUG", {{"NCCL_DEBUG", "VERSION"}}), "warn");
  EXPECT_EQ(translated("TUTTI_DEBUG", {{"NCCL_DEBUG", "LOUD"}}), "(unset)");
  EXPECT_EQ(translated("TUTTI_DEBUG_SUBSYS", {{"NCCL_DEBUG_SUBSYS", "INIT,NET"}}), "init,net");
  EXPECT_EQ(translated("TUTTI_DEBUG_SUBSYS", {{"NCCL_DEBUG_SUBSYS", "^COLL,GRAPH"}}), "^exec,^plan");
}

TEST(NcclVariables, InterfaceListsCarryTheirPrefixToEachName) {
  EXPECT_EQ(translated("TUTTI_SOCKET_IFNAME", {{"NCCL_SOCKET_IFNAME", "eth,ib"}}), "eth,ib");
  EXPECT_EQ(translated("TUTTI_SOCKET_IFNAME", {{"NCCL_SOCKET_IFNAME", "^docker,lo"}}), "^docker,^lo");
  EXPECT_EQ(translated("TUTTI_SOCKET_IFNAME", {{"NCCL_SOCKET_IFNAME", "=eth0,eth1"}}), "=eth0,=eth1");
  EXPECT_EQ(translated("TUTTI_SOCKET_FAMILY", {{"NCCL_SOCKET_FAMILY", "AF_INET6"}}), "ipv6");
}

TEST(NcclVariables, AlgorithmsAndProtocolsThatWeLackAreLeftOutAndNamed) {
  EXPECT_EQ(translated("TUTTI_ALGO", {{"NCCL_ALGO", "Tree,NVLS,Ring"}}), "Tree,Ring");
  EXPECT_EQ(translated("TUTTI_ALGO", {{"NCCL_ALGO", "allreduce:tree,nvls;broadcast:ring"}}),
            "allreduce:tree;broadcast:ring");
  EXPECT_EQ(translated("TUTTI_ALGO", {{"NCCL_ALGO", "NVLS"}}), "(unset)");
  EXPECT_EQ(translated("TUTTI_ALGO", {{"NCCL_ALGO", "^Tree,NVLSTree"}}), "^Tree");
  EXPECT_EQ(translated("TUTTI_PROTO", {{"NCCL_PROTO", "LL128,Simple"}}), "LL128,Simple");
  EXPECT_EQ(translated("TUTTI_PROTO", {{"NCCL_PROTO", "^LL128"}}), "^LL128");
  EXPECT_EQ(translated("TUTTI_PROTO", {{"NCCL_PROTO", "LL256,Simple"}}), "Simple");
  EXPECT_EQ(translated("TUTTI_PROTO", {{"NCCL_PROTO", "^LL256"}}), "(unset)");
  const auto one = told({{"NCCL_ALGO", "Tree,NVLS"}});
  ASSERT_EQ(one.size(), 1u);
  EXPECT_TRUE(one[0].warn);
  EXPECT_THAT(one[0].text, HasSubstr("there is no NVLS here"));
  EXPECT_FALSE(told({{"NCCL_PROTO", "^LL256"}})[0].warn) << "to exclude what there is not is no loss";
}

TEST(NcclVariables, TransportsAreSwitchedOffTogether) {
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {}), "(unset)");
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_SHM_DISABLE", "1"}}), "^shm");
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_SHM_DISABLE", "1"}, {"NCCL_P2P_DISABLE", "1"}}), "^inproc,^shm");
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_SHM_DISABLE", "0"}}), "(unset)");
}

TEST(NcclVariables, OfTwoNamesOfOneSettingTheNewerCounts) {
  EXPECT_EQ(translated("TUTTI_MAX_CHANNELS", {{"NCCL_MAX_NCHANNELS", "4"}, {"NCCL_MAX_CTAS", "2"}}), "2");
  EXPECT_EQ(translated("TUTTI_MAX_CHANNELS", {{"NCCL_MAX_NRINGS", "4"}}), "4");
  EXPECT_EQ(translated("TUTTI_BUFFER_BYTES", {{"NCCL_BUFFSIZE", "4194304"}}), "4194304");
  EXPECT_EQ(translated("TUTTI_BUFFER_BYTES", {{"NCCL_BUFFSIZE", "big"}}), "(unset)");
}

TEST(NcclVariables, EveryTranslatedValueParsesInTheEnvironmentTable) {
  const Variables variables = {
      {"NCCL_DEBUG", "INFO"},     {"NCCL_DEBUG_SUBSYS", "^P2P,ALL"}, {"NCCL_SOCKET_FAMILY", "AF_INET"},
      {"NCCL_ALGO", "Ring,NVLS"}, {"NCCL_PROTO", "LL,LL128"},        {"NCCL_BUFFSIZE", "65536"},
      {"NCCL_MIN_CTAS", "2"},     {"NCCL_P2P_DISABLE", "1"},         {"NCCL_SHM_DISABLE", "1"},
      {"NCCL_HOSTID", "here"},    {"NCCL_NET_GDR_LEVEL", "SYS"},     {"NCCL_NET_GDR_READ", "1"}};
  Env env;
  const Status status = parse_env([&](const char* name) { return translate(name, reader(variables)); }, env);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(env.debug, LogLevel::Info);
  EXPECT_EQ(env.buffer_bytes, 65536u);
  EXPECT_EQ(env.min_channels, 2);
  EXPECT_EQ(env.gpu_direct, "sys");
  EXPECT_EQ(env.gpu_direct_read, 1);
  EXPECT_FALSE(filter_admits(env.transports, "shm"));
  EXPECT_TRUE(filter_admits(env.transports, "tcp"));
}

TEST(NcclVariables, WhatWeLackWarnsUnlessItIsSwitchedOff) {
  EXPECT_THAT(told({{"NCCL_NVLS_ENABLE", "0"}}), IsEmpty());
  const auto one = told({{"NCCL_NVLS_ENABLE", "2"}});
  ASSERT_EQ(one.size(), 1u);
  EXPECT_TRUE(one[0].warn);
  EXPECT_THAT(one[0].text, HasSubstr("NVLink SHARP"));
}

TEST(NcclVariables, GpuDirectIsOurs) {
  EXPECT_EQ(translated("TUTTI_GPU_DIRECT", {{"NCCL_NET_GDR_LEVEL", "LOC"}}), "off");
  EXPECT_EQ(translated("TUTTI_GPU_DIRECT", {{"NCCL_NET_GDR_LEVEL", "phb"}}), "phb");
  EXPECT_EQ(translated("TUTTI_GPU_DIRECT", {{"NCCL_NET_GDR_LEVEL", "4"}}), "sys");
  EXPECT_EQ(translated("TUTTI_GPU_DIRECT", {{"NCCL_NET_GDR_LEVEL", "far"}}), "(unset)");
  EXPECT_EQ(translated("TUTTI_GPU_DIRECT_READ", {{"NCCL_NET_GDR_READ", "0"}}), "0");
  EXPECT_EQ(translated("TUTTI_GPU_DIRECT_DMABUF", {{"NCCL_DMABUF_ENABLE", "1"}}), "1");
}

TEST(NcclVariables, InfiniBandIsRdma) {
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_IB_DISABLE", "1"}}), "^rdma");
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_IB_DISABLE", "0"}}), "(unset)");
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_NET", "socket"}}), "^rdma");
  EXPECT_EQ(translated("TUTTI_TRANSPORTS", {{"NCCL_NET", "IB"}, {"NCCL_SHM_DISABLE", "1"}}), "^shm,inproc,shm,rdma");
  EXPECT_TRUE(told({{"NCCL_NET", "AWS"}})[0].warn);
  EXPECT_EQ(translated("TUTTI_RDMA_HCA", {{"NCCL_IB_HCA", "^=mlx5_3:1,mlx5_5"}}), "^=mlx5_3:1,mlx5_5");
  EXPECT_EQ(translated("TUTTI_RDMA_HCA", {{"NCCL_IB_HCA", "mlx5_3:x"}}), "(unset)");
  EXPECT_THAT(told({{"NCCL_IB_HCA", "mlx5_3:x"}})[0].text, HasSubstr("'mlx5_3:x' is not NAME or NAME:PORT"));
  EXPECT_EQ(translated("TUTTI_RDMA_GID_INDEX", {{"NCCL_IB_GID_INDEX", "-1"}}), "auto");
  EXPECT_EQ(translated("TUTTI_RDMA_GID_INDEX", {{"NCCL_IB_GID_INDEX", "3"}}), "3");
  const Variables numbers = {{"NCCL_IB_TC", "106"},
                             {"NCCL_IB_SL", "3"},
                             {"NCCL_IB_TIMEOUT", "22"},
                             {"NCCL_IB_RETRY_CNT", "6"},
                             {"NCCL_IB_QPS_PER_CONNECTION", "4"}};
  Env env;
  ASSERT_TRUE(parse_env([&](const char* name) { return translate(name, reader(numbers)); }, env).ok());
  EXPECT_EQ(env.rdma_traffic_class, 106);
  EXPECT_EQ(env.rdma_service_level, 3);
  EXPECT_EQ(env.rdma_timeout, 22);
  EXPECT_EQ(env.rdma_retry_count, 6);
  EXPECT_EQ(env.rdma_queue_pairs, 4);
}

TEST(NcclVariables, UnknownNamesWarnAndThoseOfOtherProgramsDoNot) {
  EXPECT_TRUE(told({{"NCCL_TYPO", "1"}})[0].warn);
  EXPECT_THAT(told({{"NCCL_VERSION", "2.27.7-1"}, {"NCCL_TESTS_DEVICE", "0"}, {"NCCL_HOME", "/opt"}}), IsEmpty());
  EXPECT_THAT(told({{"NCCL_TYPO", ""}}), IsEmpty()) << "empty is unset";
}

TEST(NcclVariables, OursCountBeforeTheirs) {
  const auto one = told({{"NCCL_DEBUG", "INFO"}, {"TUTTI_DEBUG", "trace"}});
  ASSERT_FALSE(one.empty());
  EXPECT_THAT(one[0].text, HasSubstr("TUTTI_DEBUG is set and counts"));
}

TEST(NcclVariables, BlockingIsZeroOrOne) {
  EXPECT_EQ(default_blocking(reader({{"NCCL_COMM_BLOCKING", "0"}})), 0);
  EXPECT_EQ(default_blocking(reader({{"NCCL_COMM_BLOCKING", "1"}})), 1);
  EXPECT_EQ(default_blocking(reader({{"NCCL_COMM_BLOCKING", "x"}})), std::nullopt);
  EXPECT_TRUE(told({{"NCCL_COMM_BLOCKING", "x"}})[0].warn);
}

}  // namespace
}  // namespace tutti::nccl
