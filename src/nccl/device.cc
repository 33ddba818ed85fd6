// SPDX-License-Identifier: Apache-2.0
// The host side of NCCL's device interface: facts about ranks are answered, everything about device memory is refused.
#include "nccl/shim.h"

#pragma GCC visibility push(default)
#include <nccl_device.h>
#pragma GCC visibility pop

#include <algorithm>
#include <cstring>

using namespace tutti;
using namespace tutti::nccl;

namespace {

constexpr const char* kNoDeviceSide = "kernels cannot communicate; use the collectives";

// A communicator that is none gives a team of no ranks, as an answer cannot carry an error.
ncclTeam_t world(ncclComm_t comm) {
  ncclTeam_t team{0, 0, 0};
  if (tuttiCommCount(ours(comm), &team.nRanks) != TUTTI_SUCCESS) return team;
  if (tuttiCommRank(ours(comm), &team.rank) != TUTTI_SUCCESS) return {0, 0, 0};
  team.stride = 1;
  return team;
}

}  // namespace

extern "C" {

ncclResult_t ncclCommQueryProperties(ncclComm_t comm, ncclCommProperties_t* props) {
  const char* const function = __func__;
  constexpr size_t kHead = offsetof(ncclCommProperties_t, rank);
  if (props == nullptr || props->magic != NCCL_API_MAGIC || props->size < kHead) {
    return theirs(entry(function, [&] {
      return invalid_argument("{}: props is {}: start from NCCL_COMM_PROPERTIES_INITIALIZER", function,
                              props == nullptr ? "NULL" : "not initialised");
    }));
  }
  ncclCommProperties_t full{};
  if (const tuttiResult_t result = tuttiCommRank(ours(comm), &full.rank); result != TUTTI_SUCCESS)
    return theirs(result);
  if (const tuttiResult_t result = tuttiCommCount(ours(comm), &full.nRanks); result != TUTTI_SUCCESS)
    return theirs(result);
  if (const tuttiResult_t result = tuttiCommDevice(ours(comm), &full.cudaDev); result != TUTTI_SUCCESS)
    return theirs(result);
  full.nvmlDev = full.cudaDev;
  full.nLsaTeams = full.nRanks;  // each rank is alone in its team
  // The caller's struct may end earlier than ours.
  std::memcpy(reinterpret_cast<char*>(props) + kHead, reinterpret_cast<const char*>(&full) + kHead,
              std::min(props->size, sizeof full) - kHead);
  return ncclSuccess;
}

ncclResult_t ncclDevCommCreate(ncclComm_t, const ncclDevCommRequirements_t*, ncclDevComm_t*) {
  return refuse(__func__, kNoDeviceSide);
}
ncclResult_t ncclDevCommDestroy(ncclComm_t, const ncclDevComm_t*) { return refuse(__func__, kNoDeviceSide); }
ncclResult_t ncclGetLsaMultimemDevicePointer(ncclWindow_t, size_t, void**) { return refuse(__func__, kNoDeviceSide); }
ncclResult_t ncclGetMultimemDevicePointer(ncclWindow_t, size_t, ncclMultimemHandle_t, void**) {
  return refuse(__func__, kNoDeviceSide);
}
ncclResult_t ncclGetLsaDevicePointer(ncclWindow_t, size_t, int, void**) { return refuse(__func__, kNoDeviceSide); }
ncclResult_t ncclGetPeerDevicePointer(ncclWindow_t, size_t, int, void**) { return refuse(__func__, kNoDeviceSide); }
ncclResult_t ncclLsaBarrierCreateRequirement(ncclTeam_t, int, ncclLsaBarrierHandle_t*, ncclDevResourceRequirements_t*) {
  return refuse(__func__, kNoDeviceSide);
}
ncclResult_t ncclGinBarrierCreateRequirement(ncclComm_t, ncclTeam_t, int, ncclGinBarrierHandle_t*,
                                             ncclDevResourceRequirements_t*) {
  return refuse(__func__, kNoDeviceSide);
}
ncclResult_t ncclLLA2ACreateRequirement(int, int, ncclLLA2AHandle_t*, ncclDevResourceRequirements_t*) {
  return refuse(__func__, kNoDeviceSide);
}
ncclResult_t ncclGinOutboxCreateRequirement(int, int, ncclGinOutboxHandle*, ncclDevResourceRequirements_t*) {
  return refuse(__func__, kNoDeviceSide);
}
ncclResult_t ncclGinInboxA2ACreateRequirement(ncclTeam_t, int, int, ncclGinInboxA2AHandle*,
                                              ncclDevResourceRequirements_t*) {
  return refuse(__func__, kNoDeviceSide);
}

// A slot carries 8 bytes.
int ncclLLA2ACalcSlots(int maxElts, int maxEltSize) { return maxElts * ((maxEltSize + 7) / 8); }

ncclTeam_t ncclTeamWorld(ncclComm_t comm) { return world(comm); }

ncclTeam_t ncclTeamLsa(ncclComm_t comm) { return world(comm).nRanks > 0 ? ncclTeam_t{1, 0, 1} : ncclTeam_t{0, 0, 0}; }

ncclTeam_t ncclTeamRail(ncclComm_t comm) { return world(comm); }

int ncclTeamRankToWorld(ncclComm_t comm, ncclTeam_t team, int rank) {
  return world(comm).rank + (rank - team.rank) * team.stride;
}

int ncclTeamRankToLsa(ncclComm_t, ncclTeam_t team, int rank) { return (rank - team.rank) * team.stride; }

}  // extern "C"

NCCL_TWIN(ncclCommQueryProperties);
NCCL_TWIN(ncclDevCommCreate);
NCCL_TWIN(ncclDevCommDestroy);
NCCL_TWIN(ncclGetLsaMultimemDevicePointer);
NCCL_TWIN(ncclGetMultimemDevicePointer);
NCCL_TWIN(ncclGetLsaDevicePointer);
NCCL_TWIN(ncclGetPeerDevicePointer);
NCCL_TWIN(ncclLsaBarrierCreateRequirement);
NCCL_TWIN(ncclGinBarrierCreateRequirement);
NCCL_TWIN(ncclLLA2ACreateRequirement);
NCCL_TWIN(ncclGinOutboxCreateRequirement);
NCCL_TWIN(ncclGinInboxA2ACreateRequirement);
NCCL_TWIN(ncclLLA2ACalcSlots);
NCCL_TWIN(ncclTeamWorld);
NCCL_TWIN(ncclTeamLsa);
NCCL_TWIN(ncclTeamRail);
NCCL_TWIN(ncclTeamRankToWorld);
NCCL_TWIN(ncclTeamRankToLsa);
