// SPDX-License-Identifier: Apache-2.0
// Communicators of NCCL's interface.
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/env.h"
#include "nccl/config.h"

using namespace tutti;
using namespace tutti::nccl;

namespace {

tuttiUniqueId ours(const ncclUniqueId& id) {
  tuttiUniqueId result;
  std::memcpy(result.internal, id.internal, sizeof result.internal);
  return result;
}

// What may fail before the core is asked: the environment, the configuration.
ncclResult_t failed(const char* function, const Status& status) {
  return theirs(entry(function, [&] { return status; }));
}

// NCCL_COMM_ID: all ranks meet at this address, whatever id they have.
std::string meeting_place() { return environment_variable("NCCL_COMM_ID").value_or(""); }

ncclResult_t init(const char* function, ncclComm_t* comm, int nranks, const ncclUniqueId& id, int rank,
                  const ncclConfig_t* config) {
  if (comm != nullptr) *comm = nullptr;
  if (const Status status = start(); !status.ok()) return failed(function, status);
  Result<tuttiConfig_t> read = read_config(function, config);
  if (!read.ok()) return failed(function, read.status());
  if (on_gpus()) {
    const Result<int> device = current_device(function);
    if (!device.ok()) return failed(function, device.status());
    read->device = *device;
  }
  if (const std::string place = meeting_place(); !place.empty())
    return theirs(tuttiCommInitAddress(nccl::ours(comm), nranks, place.c_str(), rank, &*read));
  return theirs(tuttiCommInitRankConfig(nccl::ours(comm), nranks, ours(id), rank, &*read));
}

// A grown communicator is a new one, whose id the members learn through the old one: whoever has it contributes it.
Status spread_id(const char* function, ncclComm_t comm, const ncclUniqueId* known, ncclUniqueId& id) {
  struct Word {
    uint64_t known;
    ncclUniqueId id;
  };
  int n = 0;
  Word mine{};
  if (known != nullptr) mine = {1, *known};
  const auto check = [&](tuttiResult_t result) {
    while (result == TUTTI_IN_PROGRESS) {  // the old communicator is non-blocking; the library's own deadlines end this
      std::this_thread::yield();
      tuttiResult_t state = TUTTI_SUCCESS;
      result = tuttiCommGetAsyncError(nccl::ours(comm), &state);
      if (result == TUTTI_SUCCESS) result = state;
    }
    return result == TUTTI_SUCCESS ? Status() : Status(static_cast<Code>(result), tuttiGetLastError(nccl::ours(comm)));
  };
  TUTTI_TRY(check(tuttiCommCount(nccl::ours(comm), &n)));
  std::vector<Word> all(static_cast<size_t>(n));
  TUTTI_TRY(check(tuttiAllGather(&mine, all.data(), sizeof mine, TUTTI_UINT8, nccl::ours(comm), nullptr)));
  int givers = 0;
  for (const Word& word : all) {
    if (word.known == 0) continue;
    ++givers;
    id = word.id;
  }
  if (givers == 1) return {};
  return invalid_argument(
      "{}: {} ranks of the old communicator pass a uniqueId: exactly one does, which made it with ncclCommGetUniqueId",
      function, givers);
}

}  // namespace

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId) {
  if (const Status status = start(); !status.ok()) return failed(__func__, status);
  if (uniqueId != nullptr && !meeting_place().empty()) {  // every rank may ask, and nobody listens for each
    std::memset(uniqueId, 0, sizeof *uniqueId);
    return ncclSuccess;
  }
  return theirs(tuttiGetUniqueId(reinterpret_cast<tuttiUniqueId*>(uniqueId)));
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank) {
  return init(__func__, comm, nranks, commId, rank, nullptr);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t* config) {
  return init(__func__, comm, nranks, commId, rank, config);
}

ncclResult_t ncclCommInitRankScalable(ncclComm_t* newcomm, int nranks, int myrank, int nId, ncclUniqueId* commIds,
                                      ncclConfig_t* config) {
  if (nId < 1 || commIds == nullptr) {
    return failed(__func__, invalid_argument("{}: nId is {} and commIds is {}: pass at least one id", __func__, nId,
                                             commIds == nullptr ? "NULL" : "given"));
  }
  return init(__func__, newcomm, nranks, commIds[0], myrank, config);
}

ncclResult_t ncclCommInitAll(ncclComm_t* comm, int ndev, const int* devlist) {
  if (const Status status = start(); !status.ok()) return failed(__func__, status);
  for (int i = 0; devlist != nullptr && i < ndev; ++i) {
    if (devlist[i] < 0) {
      return failed(__func__, invalid_argument("{}: devlist[{}] is {}: pass CUDA ordinals, or NULL for the first {}",
                                               __func__, i, devlist[i], ndev));
    }
  }
  if (!on_gpus()) return theirs(tuttiCommInitAll(nccl::ours(comm), ndev, nullptr));
  std::vector<int> devices;
  for (int i = 0; i < ndev; ++i) devices.push_back(devlist != nullptr ? devlist[i] : i);
  return theirs(tuttiCommInitAll(nccl::ours(comm), ndev, devices.data()));
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm, ncclConfig_t* config) {
  if (config == nullptr) return theirs(tuttiCommSplit(nccl::ours(comm), color, key, nccl::ours(newcomm), nullptr));
  const Result<tuttiConfig_t> read = read_config(__func__, config, true);
  if (!read.ok()) return failed(__func__, read.status());
  return theirs(tuttiCommSplit(nccl::ours(comm), color, key, nccl::ours(newcomm), &*read));
}

ncclResult_t ncclCommShrink(ncclComm_t comm, int* excludeRanksList, int excludeRanksCount, ncclComm_t* newcomm,
                            ncclConfig_t* config, int shrinkFlags) {
  const tuttiConfig_t* ours_or_null = nullptr;
  Result<tuttiConfig_t> read = tuttiConfig_t{};
  if (config != nullptr) {
    read = read_config(__func__, config, true);
    if (!read.ok()) return failed(__func__, read.status());
    ours_or_null = &*read;
  }
  return theirs(tuttiCommShrink(nccl::ours(comm), excludeRanksList, excludeRanksCount, nccl::ours(newcomm),
                                ours_or_null, shrinkFlags));
}

ncclResult_t ncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId* uniqueId) {
  int rank = 0;
  const tuttiResult_t alive = tuttiCommRank(nccl::ours(comm), &rank);
  if (alive != TUTTI_SUCCESS) return theirs(alive);
  return theirs(tuttiGetUniqueId(reinterpret_cast<tuttiUniqueId*>(uniqueId)));
}

ncclResult_t ncclCommGrow(ncclComm_t comm, int nRanks, const ncclUniqueId* uniqueId, int rank, ncclComm_t* newcomm,
                          ncclConfig_t* config) {
  const char* const function = __func__;
  if (newcomm != nullptr) *newcomm = nullptr;
  if (comm == nullptr) {
    if (uniqueId == nullptr)
      return failed(function, invalid_argument("{}: uniqueId is NULL: a rank that is new needs it", function));
    return init(function, newcomm, nRanks, *uniqueId, rank, config);
  }
  if (rank != -1) {
    return failed(function,
                  invalid_argument("{}: rank is {}: members of comm keep their rank, pass -1", function, rank));
  }
  if (on_gpus()) return refuse(function, "with ranks on GPUs; make a new communicator with ncclCommInitRank");
  if (group_is_open())
    return refuse(function, "inside a group, since members of the old communicator exchange the id first");
  ncclUniqueId id;
  int me = 0;
  if (const tuttiResult_t result = tuttiCommRank(nccl::ours(comm), &me); result != TUTTI_SUCCESS) return theirs(result);
  if (const Status status = spread_id(function, comm, uniqueId, id); !status.ok()) return failed(function, status);
  return init(function, newcomm, nRanks, id, me, config);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) { return theirs(tuttiCommFinalize(nccl::ours(comm))); }

ncclResult_t ncclCommDestroy(ncclComm_t comm) { return theirs(tuttiCommDestroy(nccl::ours(comm))); }

ncclResult_t ncclCommAbort(ncclComm_t comm) { return theirs(tuttiCommAbort(nccl::ours(comm))); }

ncclResult_t ncclCommRevoke(ncclComm_t, int) {
  return refuse(__func__, "use ncclCommAbort, or ncclCommShrink with NCCL_SHRINK_ABORT");
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError) {
  tuttiResult_t state = TUTTI_SUCCESS;
  const tuttiResult_t result = tuttiCommGetAsyncError(nccl::ours(comm), asyncError != nullptr ? &state : nullptr);
  if (result == TUTTI_SUCCESS) *asyncError = theirs(state);
  return theirs(result);
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  return theirs(tuttiCommCount(nccl::ours(comm), count));
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  return theirs(tuttiCommDevice(nccl::ours(comm), device));
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  return theirs(tuttiCommRank(nccl::ours(comm), rank));
}

ncclResult_t ncclCommSuspend(ncclComm_t, int) {
  return refuse(__func__, "a communicator holds no device memory that it could give back");
}

ncclResult_t ncclCommResume(ncclComm_t) { return refuse(__func__, "communicators cannot be suspended"); }

ncclResult_t ncclCommMemStats(ncclComm_t, ncclCommMemStat_t, uint64_t*) {
  return refuse(__func__, "a communicator holds no device memory");
}

}  // extern "C"

NCCL_TWIN(ncclGetUniqueId);
NCCL_TWIN(ncclCommInitRank);
NCCL_TWIN(ncclCommInitRankConfig);
NCCL_TWIN(ncclCommInitRankScalable);
NCCL_TWIN(ncclCommInitAll);
NCCL_TWIN(ncclCommSplit);
NCCL_TWIN(ncclCommShrink);
NCCL_TWIN(ncclCommGetUniqueId);
NCCL_TWIN(ncclCommGrow);
NCCL_TWIN(ncclCommFinalize);
NCCL_TWIN(ncclCommDestroy);
NCCL_TWIN(ncclCommAbort);
NCCL_TWIN(ncclCommRevoke);
NCCL_TWIN(ncclCommGetAsyncError);
NCCL_TWIN(ncclCommCount);
NCCL_TWIN(ncclCommCuDevice);
NCCL_TWIN(ncclCommUserRank);
NCCL_TWIN(ncclCommSuspend);
NCCL_TWIN(ncclCommResume);
NCCL_TWIN(ncclCommMemStats);
