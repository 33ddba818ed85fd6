// SPDX-License-Identifier: Apache-2.0
// Making, asking and destroying communicators.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"
#include "base/env.h"
#include "bootstrap/launch.h"
#include "bootstrap/rendezvous.h"
#include "bootstrap/unique_id.h"
#include "plan/plan.h"

using namespace tutti;

namespace {

static_assert(sizeof(tuttiUniqueId) == kUniqueIdBytes);

Status not_available(const char* function) {
  return invalid_usage("{}: not available in version {}.{}.{} of Tutti", function, TUTTI_MAJOR, TUTTI_MINOR,
                       TUTTI_PATCH);
}

// The caller's configuration, with defaults for what its header did not have.
Result<CommOptions> read_config(const char* function, const tuttiConfig_t* config) {
  CommOptions options;
  if (config == nullptr) return options;
  TUTTI_TRY(check_config(function, config));
  tuttiConfig_t full = TUTTI_CONFIG_INITIALIZER;
  std::memcpy(&full, config, std::min(config->size, sizeof full));
  if (full.minChannels != TUTTI_UNDEFINED_INT) options.min_channels = full.minChannels;
  if (full.maxChannels != TUTTI_UNDEFINED_INT) options.max_channels = full.maxChannels;
  if (full.netName != nullptr) options.transports = full.netName;
  if (full.commName != nullptr) options.name = full.commName;
  return options;
}

// Joins now, or at the end of the group this thread is in. `make` yields the JoinOptions when it is time.
template <class Make>
Status join_later(tuttiComm_t* comm, int nranks, int rank, CommOptions options, Make make) {
  tuttiComm_t handle = new_comm_handle(rank, nranks);
  *comm = handle;
  const auto job = [comm, handle, options = std::move(options), make]() -> Status {
    Result<JoinOptions> where = make();
    Status status = where.status();
    if (status.ok()) {
      Result<std::unique_ptr<Communicator>> joined = Communicator::join(std::move(*where), options);
      status = joined.status();
      if (status.ok()) {
        handle->comm = std::move(*joined);
        handle->state.store(tuttiComm::State::Live, std::memory_order_release);
        return {};
      }
    }
    *comm = nullptr;  // nothing that could be used or would have to be destroyed
    handle->failure = status;
    retire_comm_handle(handle);
    return status;
  };
  return submit_init(job);
}

Status init_rank(const char* function, tuttiComm_t* comm, int nranks, const tuttiUniqueId& id, int rank,
                 const tuttiConfig_t* config) {
  if (comm != nullptr) *comm = nullptr;
  TUTTI_TRY(check_init(function, comm, nranks, rank));
  TUTTI_ASSIGN_OR_RETURN(CommOptions options, read_config(function, config));
  TUTTI_ASSIGN_OR_RETURN(const UniqueId decoded,
                         decode_unique_id(std::span<const char, kUniqueIdBytes>(id.internal, kUniqueIdBytes)));
  return join_later(comm, nranks, rank, std::move(options),
                    [=]() -> Result<JoinOptions> { return JoinOptions::with(decoded, nranks, rank); });
}

}  // namespace

extern "C" {

tuttiResult_t tuttiGetUniqueId(tuttiUniqueId* id) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "id", id, "the address of a tuttiUniqueId"));
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const UniqueId made, start_rendezvous());
    const std::array<char, kUniqueIdBytes> bytes = encode_unique_id(made);
    std::memcpy(id->internal, bytes.data(), bytes.size());
    return {};
  });
}

tuttiResult_t tuttiCommInitRank(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank) {
  const char* const function = __func__;
  return entry(function, [&] { return init_rank(function, comm, nranks, id, rank, nullptr); });
}

tuttiResult_t tuttiCommInitRankConfig(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank,
                                      const tuttiConfig_t* config) {
  const char* const function = __func__;
  return entry(function, [&] { return init_rank(function, comm, nranks, id, rank, config); });
}

tuttiResult_t tuttiCommInitEnv(tuttiComm_t* comm, const tuttiConfig_t* config) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "comm", comm, "the address of a tuttiComm_t"));
    *comm = nullptr;
    TUTTI_ASSIGN_OR_RETURN(CommOptions options, read_config(function, config));
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const Launch launch, Launch::parse(environment_variable));
    return join_later(comm, launch.ranks, launch.rank, std::move(options), [launch]() -> Result<JoinOptions> {
      return rendezvous_at(launch, launch_secret(launch, env().job_secret));
    });
  });
}

tuttiResult_t tuttiCommInitAll(tuttiComm_t* comms, int ndev, const int* devices) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "comms", comms, "room for ndev handles"));
    if (ndev < 1) return invalid_argument("{}: ndev is {}: pass the number of ranks, at least 1", function, ndev);
    std::fill(comms, comms + ndev, nullptr);
    for (int i = 0; devices != nullptr && i < ndev; ++i) {
      if (devices[i] != TUTTI_DEVICE_CPU)
        return invalid_usage(
            "{}: devices[{}] is {}, but this version has no CUDA device support: use TUTTI_DEVICE_CPU "
            "or pass NULL",
            function, i, devices[i]);
    }
    tuttiUniqueId id;
    TUTTI_TRY(env_status());
    TUTTI_ASSIGN_OR_RETURN(const UniqueId made, start_rendezvous());
    const std::array<char, kUniqueIdBytes> bytes = encode_unique_id(made);
    std::memcpy(id.internal, bytes.data(), bytes.size());
    // One group, so that the ranks join side by side; inside an open group they do so at the outermost end.
    group_start();
    Status status;
    for (int i = 0; i < ndev && status.ok(); ++i) status = init_rank(function, &comms[i], ndev, id, i, nullptr);
    poison_group(status);
    const Status ended = group_end();
    return status.ok() ? ended : status;
  });
}

tuttiResult_t tuttiCommDestroy(tuttiComm_t comm) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    if (comm == nullptr) return {};
    TUTTI_TRY(check_comm(function, comm));
    if (in_group()) return invalid_usage("{}: not inside a group: call it after tuttiGroupEnd", function);
    comm->comm->drain();
    retire_comm_handle(comm);
    return {};
  });
}

tuttiResult_t tuttiCommGetAsyncError(tuttiComm_t comm, tuttiResult_t* asyncError) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "asyncError", asyncError, "the address of a tuttiResult_t"));
    *asyncError = static_cast<tuttiResult_t>(comm->comm->failure().code());
    return {};
  });
}

tuttiResult_t tuttiCommCount(tuttiComm_t comm, int* count) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "count", count, "the address of an int"));
    *count = comm->size;
    return {};
  });
}

tuttiResult_t tuttiCommRank(tuttiComm_t comm, int* rank) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "rank", rank, "the address of an int"));
    *rank = comm->rank;
    return {};
  });
}

tuttiResult_t tuttiCommDevice(tuttiComm_t comm, int* device) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "device", device, "the address of an int"));
    *device = TUTTI_DEVICE_CPU;
    return {};
  });
}

tuttiResult_t tuttiCommSplit(tuttiComm_t, int, int, tuttiComm_t*, const tuttiConfig_t*) {
  return entry(__func__, [] { return not_available("tuttiCommSplit"); });
}
tuttiResult_t tuttiCommShrink(tuttiComm_t, const int*, int, tuttiComm_t*, const tuttiConfig_t*, int) {
  return entry(__func__, [] { return not_available("tuttiCommShrink"); });
}
tuttiResult_t tuttiCommFinalize(tuttiComm_t) {
  return entry(__func__, [] { return not_available("tuttiCommFinalize"); });
}
tuttiResult_t tuttiCommAbort(tuttiComm_t) {
  return entry(__func__, [] { return not_available("tuttiCommAbort"); });
}

tuttiResult_t tuttiExplain(tuttiComm_t comm, const char* collective, size_t count, tuttiDataType_t type, char* text,
                           size_t textBytes) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "collective", collective, "a name such as all_reduce"));
    TUTTI_TRY(check_not_null(function, "text", text, "a buffer of textBytes bytes"));
    if (textBytes == 0) return invalid_argument("{}: textBytes is 0: pass the length of text", function);
    TUTTI_TRY(checks::check_type(function, static_cast<uint32_t>(type)));
    const Coll* coll = find_coll(collective);
    if (coll == nullptr) {
      return invalid_argument("{}: collective is '{}': use one of {}", function, collective,
                              fmt::join(kCollNames, ", "));
    }
    const Shape shape{*coll, count * element_size(static_cast<DataType>(type)), false};
    TUTTI_ASSIGN_OR_RETURN(const std::string explained, explain_plan(comm->comm->summary(), shape));
    const size_t kept = std::min(explained.size(), textBytes - 1);
    std::memcpy(text, explained.data(), kept);
    text[kept] = '\0';
    return {};
  });
}

}  // extern "C"
