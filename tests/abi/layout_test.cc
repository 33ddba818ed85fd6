// SPDX-License-Identifier: Apache-2.0
// Constants and layouts that compiled programs rely on, written out once more: a change here breaks programs in the
// field. Result codes, types, operators and the id equal NCCL's, so that its interface stays a thin shim over ours.
#include <gtest/gtest.h>
#include <tutti/tutti.h>

#include <cstddef>
#include <type_traits>

namespace {

static_assert(TUTTI_SUCCESS == 0 && TUTTI_CUDA_ERROR == 1 && TUTTI_SYSTEM_ERROR == 2 && TUTTI_INTERNAL_ERROR == 3);
static_assert(TUTTI_INVALID_ARGUMENT == 4 && TUTTI_INVALID_USAGE == 5 && TUTTI_REMOTE_ERROR == 6);
static_assert(TUTTI_IN_PROGRESS == 7 && TUTTI_NUM_RESULTS == 8);

static_assert(TUTTI_INT8 == 0 && TUTTI_UINT8 == 1 && TUTTI_INT32 == 2 && TUTTI_UINT32 == 3 && TUTTI_INT64 == 4);
static_assert(TUTTI_UINT64 == 5 && TUTTI_FLOAT16 == 6 && TUTTI_FLOAT32 == 7 && TUTTI_FLOAT64 == 8);
static_assert(TUTTI_BFLOAT16 == 9 && TUTTI_FLOAT8_E4M3 == 10 && TUTTI_FLOAT8_E5M2 == 11 && TUTTI_NUM_TYPES == 12);

static_assert(TUTTI_SUM == 0 && TUTTI_PROD == 1 && TUTTI_MAX == 2 && TUTTI_MIN == 3 && TUTTI_AVG == 4);
static_assert(TUTTI_NUM_OPS == 5 && TUTTI_SCALAR_DEVICE == 0 && TUTTI_SCALAR_HOST_IMMEDIATE == 1);

static_assert(TUTTI_UNDEFINED_INT == -2147483647 - 1 && TUTTI_SPLIT_NOCOLOR == -1 && TUTTI_DEVICE_CPU == -1);
static_assert(TUTTI_CONFIG_MAGIC == 0x74757469u);

// Enums cross the boundary as 32 bits.
static_assert(sizeof(tuttiResult_t) == 4 && sizeof(tuttiDataType_t) == 4 && sizeof(tuttiRedOp_t) == 4);
static_assert(sizeof(tuttiScalarResidence_t) == 4);

static_assert(TUTTI_UNIQUE_ID_BYTES == 128 && sizeof(tuttiUniqueId) == 128 && alignof(tuttiUniqueId) == 1);

static_assert(std::is_standard_layout_v<tuttiConfig_t> && std::is_trivially_copyable_v<tuttiConfig_t>);
static_assert(offsetof(tuttiConfig_t, size) == 0 && offsetof(tuttiConfig_t, magic) == 8);
static_assert(offsetof(tuttiConfig_t, version) == 12 && offsetof(tuttiConfig_t, blocking) == 16);
static_assert(offsetof(tuttiConfig_t, device) == 20 && offsetof(tuttiConfig_t, minChannels) == 24);
static_assert(offsetof(tuttiConfig_t, maxChannels) == 28 && offsetof(tuttiConfig_t, netName) == 32);
static_assert(offsetof(tuttiConfig_t, commName) == 40 && offsetof(tuttiConfig_t, splitShare) == 48);
static_assert(offsetof(tuttiConfig_t, algorithms) == 56 && offsetof(tuttiConfig_t, protocols) == 64);
static_assert(offsetof(tuttiConfig_t, nics) == 72);
static_assert(sizeof(tuttiConfig_t) == 80 && alignof(tuttiConfig_t) == 8);

TEST(Abi, InitializerFillsEveryField) {
  const tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  EXPECT_EQ(config.size, sizeof(tuttiConfig_t));
  EXPECT_EQ(config.magic, TUTTI_CONFIG_MAGIC);
  EXPECT_EQ(config.version, static_cast<uint32_t>(TUTTI_VERSION_CODE));
  EXPECT_EQ(config.blocking, 1);
  EXPECT_EQ(config.device, TUTTI_DEVICE_CPU);
  EXPECT_EQ(config.minChannels, TUTTI_UNDEFINED_INT);
  EXPECT_EQ(config.maxChannels, TUTTI_UNDEFINED_INT);
  EXPECT_EQ(config.netName, nullptr);
  EXPECT_EQ(config.commName, nullptr);
  EXPECT_EQ(config.splitShare, TUTTI_UNDEFINED_INT);
  EXPECT_EQ(config.algorithms, nullptr);
  EXPECT_EQ(config.protocols, nullptr);
  EXPECT_EQ(config.nics, nullptr);
}

}  // namespace
