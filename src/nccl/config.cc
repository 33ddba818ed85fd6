// SPDX-License-Identifier: Apache-2.0
#include "nccl/config.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "algo/collective.h"
#include "base/env.h"
#include "base/log.h"
#include "nccl/variables.h"

namespace tutti::nccl {
namespace {

// A field exists for a caller whose version has it and whose size covers it: the size alone would take padding at the
// end of an older struct for a field.
struct Field {
  size_t offset, bytes;
  unsigned since;
};
#define NCCL_FIELD(name, since) \
  Field { offsetof(ncclConfig_t, name), sizeof(ncclConfig_t::name), since }
constexpr Field kFields[] = {
    NCCL_FIELD(blocking, 21400),
    NCCL_FIELD(cgaClusterSize, 21700),
    NCCL_FIELD(minCTAs, 21700),
    NCCL_FIELD(maxCTAs, 21700),
    NCCL_FIELD(netName, 21700),
    NCCL_FIELD(splitShare, 21800),
    NCCL_FIELD(trafficClass, 22500),
    NCCL_FIELD(commName, 22700),
    NCCL_FIELD(collnetEnable, 22700),
    NCCL_FIELD(CTAPolicy, 22700),
    NCCL_FIELD(shrinkShare, 22700),
    NCCL_FIELD(nvlsCTAs, 22700),
    NCCL_FIELD(nvlinkCentricSched, 22800),
    NCCL_FIELD(nChannelsPerNetPeer, 22800),
    NCCL_FIELD(graphUsageMode, 22900),
    NCCL_FIELD(numRmaCtx, 22900),
    NCCL_FIELD(maxP2pPeers, 23000),
    NCCL_FIELD(graphStreamOrdering, 23005),
};
#undef NCCL_FIELD

// Hints about hardware that a rank on the CPU does not have.
struct Hint {
  int ncclConfig_t::*field;
  const char* name;
};
constexpr Hint kHints[] = {
    {&ncclConfig_t::cgaClusterSize, "cgaClusterSize"},
    {&ncclConfig_t::trafficClass, "trafficClass"},
    {&ncclConfig_t::collnetEnable, "collnetEnable"},
    {&ncclConfig_t::CTAPolicy, "CTAPolicy"},
    {&ncclConfig_t::shrinkShare, "shrinkShare"},
    {&ncclConfig_t::nvlsCTAs, "nvlsCTAs"},
    {&ncclConfig_t::nChannelsPerNetPeer, "nChannelsPerNetPeer"},
    {&ncclConfig_t::nvlinkCentricSched, "nvlinkCentricSched"},
    {&ncclConfig_t::graphUsageMode, "graphUsageMode"},
    {&ncclConfig_t::numRmaCtx, "numRmaCtx"},
    {&ncclConfig_t::maxP2pPeers, "maxP2pPeers"},
    {&ncclConfig_t::graphStreamOrdering, "graphStreamOrdering"},
};
std::atomic<uint32_t> g_hints_told{0};  // bit per hint; relaxed: a flag for the log and nothing else

void tell_hints(const char* function, const ncclConfig_t& config) {
  for (size_t i = 0; i < std::size(kHints); ++i) {
    const uint32_t bit = 1u << i;
    const int value = config.*kHints[i].field;
    if (value == NCCL_CONFIG_UNDEF_INT || (g_hints_told.fetch_or(bit, std::memory_order_relaxed) & bit) != 0) continue;
    log_warn(Subsystem::Api, "{}: config.{}={} has no effect: there is nothing here that it could act on", function,
             kHints[i].name, value);
  }
}

bool is_flag(int value) { return value == NCCL_CONFIG_UNDEF_INT || value == 0 || value == 1; }

Result<ncclConfig_t> widen(const char* function, const ncclConfig_t& config) {
  ncclConfig_t full = NCCL_CONFIG_INITIALIZER;
  if (config.magic != NCCL_API_MAGIC || config.size < offsetof(ncclConfig_t, cgaClusterSize) || config.version < 21400)
    return invalid_argument("{}: config is not initialised: start from NCCL_CONFIG_INITIALIZER", function);
  for (const Field& field : kFields) {
    if (config.version < field.since || config.size < field.offset + field.bytes) continue;
    std::memcpy(reinterpret_cast<char*>(&full) + field.offset, reinterpret_cast<const char*>(&config) + field.offset,
                field.bytes);
  }
  return full;
}

}  // namespace

Result<tuttiConfig_t> read_config(const char* function, const ncclConfig_t* config, bool inherit) {
  tuttiConfig_t result = TUTTI_CONFIG_INITIALIZER;
  result.blocking = inherit ? TUTTI_UNDEFINED_INT : default_blocking(environment_variable).value_or(1);
  if (config == nullptr) return result;
  TUTTI_ASSIGN_OR_RETURN(const ncclConfig_t full, widen(function, *config));
  if (!is_flag(full.blocking) || !is_flag(full.splitShare) || !is_flag(full.shrinkShare)) {
    return invalid_argument(
        "{}: config.blocking, splitShare and shrinkShare are {}, {} and {}: pass 0, 1 or leave them undefined",
        function, full.blocking, full.splitShare, full.shrinkShare);
  }
  if (full.minCTAs != NCCL_CONFIG_UNDEF_INT && full.minCTAs < 1)
    return invalid_argument("{}: config.minCTAs is {}: pass at least 1", function, full.minCTAs);
  if (full.maxCTAs != NCCL_CONFIG_UNDEF_INT && full.maxCTAs < std::max(1, full.minCTAs))
    return invalid_argument("{}: config.maxCTAs is {}: pass at least 1 and minCTAs", function, full.maxCTAs);
  // NCCL's name is that of the network between hosts, and does not forbid shared memory inside one.
  if (full.netName != nullptr) {
    const bool socket = same_name(full.netName, "Socket");
    if (!socket && !same_name(full.netName, "IB"))
      return invalid_usage("{}: config.netName is '{}': networks here are Socket and IB; or leave it undefined",
                           function, full.netName);
    if (env().transports == "auto") {
      result.netName = socket ? "^rdma" : "inproc,shm,rdma";
    } else {
      log_warn(Subsystem::Init, "{}: config.netName {} gives way to TUTTI_TRANSPORTS={}", function, full.netName,
               env().transports);
    }
  }
  tell_hints(function, full);
  if (full.blocking != NCCL_CONFIG_UNDEF_INT) result.blocking = full.blocking;
  result.minChannels = full.minCTAs;
  result.maxChannels = full.maxCTAs;
  result.splitShare = full.splitShare;
  result.commName = full.commName;
  return result;
}

}  // namespace tutti::nccl
